"""Evaluations at fixed noise levels: the fast ways give the numbers of the whole evaluation.

An evaluation that is being differentiated runs as a whole, on the paths that the other tests know.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from convexreg.networks import strips, tiling
from convexreg.networks.base import GradientNetwork, Sigma
from convexreg.networks.combinations import LinearCombination, MGradNetM, StronglyMonotone
from convexreg.networks.conditioning import NoiseScaling
from convexreg.networks.evaluation import Evaluation
from convexreg.networks.modular import GradientModule, IdentityRho
from convexreg.networks.operators import Convolution, Padding
from convexreg.networks.potentials import LinearSpline, LogCosh, PooledNorm, TanhMixture
from tests.networks.table import Build
from tests.tables import POTENTIALS, PotentialCase, over, perturbed

WIDTH = 6
LEVELS: dict[str, Sigma] = {
    "a number": 0.1,
    "0-dim": torch.tensor(0.1).double(),
    "one": torch.tensor([0.1]).double(),
    "one each": torch.tensor([0.03, 0.2]).double(),
}
SIZES = [(13, 10), (7, 17), (3, 2), (2, 9)]
"""Of images down to smaller than a kernel of 5 x 5 pixels; in strips of 3 rows none divides."""


def conditioned(
    channels: int = 1, padding: Padding = "zero", *, bias: bool = False, group_size: int = 2
) -> GradientModule:
    """A module at noise levels, the threshold of every channel and the slope of every group its own."""
    operator = Convolution((channels, 3, WIDTH), (3, 3), padding=padding)
    conditioning = NoiseScaling(WIDTH, WIDTH // group_size, sigma_min=0.02, sigma_max=0.5)
    potential = PooledNorm(WIDTH, group_size=group_size)
    module = GradientModule(operator, potential, bias=bias, conditioning=conditioning)
    return perturbed(module, 0.3)


def ridges(channels: int = 1, padding: Padding = "zero", size: int = 5) -> GradientModule:
    operator = Convolution((channels, WIDTH), (size,), padding=padding)
    return perturbed(GradientModule(operator, TanhMixture(WIDTH)), 0.3)


def spline() -> GradientModule:
    operator = Convolution((1, WIDTH), (3,))
    conditioning = NoiseScaling(WIDTH, WIDTH, sigma_min=0.02, sigma_max=0.5)
    potential = LinearSpline(WIDTH, 9, 2.0)
    return perturbed(GradientModule(operator, potential, conditioning=conditioning), 0.3)


def staged() -> GradientModule:
    operator = Convolution((1, 3, WIDTH), (3, 3), staged=True)
    return perturbed(GradientModule(operator, LogCosh()), 0.3)


NETWORKS: dict[str, Build] = {
    "ridges": ridges,
    "pointwise": lambda: ridges(size=1),
    "spline": spline,
    "groups": lambda: conditioned(group_size=3),
    "sum": lambda: perturbed(LinearCombination([ridges(size=3), conditioned(bias=True)])),
    "difference": lambda: LinearCombination(
        [ridges(), ridges(size=3)], conic=False, coefficients=[1.0, -2.0]
    ).double(),
    "nested": lambda: perturbed(
        LinearCombination([LinearCombination([ridges(), spline()]), conditioned()])
    ),
    "offset": lambda: perturbed(MGradNetM([ridges(), conditioned()])),
    "strongly monotone": lambda: LinearCombination([ridges(), StronglyMonotone(ridges(), 0.3)]),
    "staged": staged,
    "staged, one stage": lambda: GradientModule(
        Convolution((1, WIDTH), (5,), staged=True), LogCosh()
    ).double(),
    "rho": lambda: GradientModule(
        Convolution((1, WIDTH), (3,)), LogCosh(), rho=IdentityRho()
    ).double(),
}


def images(channels: int, size: tuple[int, int], count: int = 2) -> Tensor:
    return 0.5 * torch.randn(count, channels, *size, dtype=torch.float64)


def small(patch: pytest.MonkeyPatch, width: int) -> None:
    """Strips of three rows and tiles of four pixels a side."""
    patch.setattr(strips, "_PIXELS", 4 * width - 1)
    patch.setattr(tiling, "_SIDE", {"cpu": 4})


def agrees(network: GradientNetwork, x: Tensor, sigma: Sigma) -> None:
    """Value, gradient and both are those of the whole evaluation, each time; nothing given is changed."""
    evaluation, kept = Evaluation(network, sigma), x.clone()
    watched = x.clone().requires_grad_()
    value, grad = (t.detach() for t in evaluation.value_and_grad(watched) if t is not None)
    expected = network.value_and_grad(x, sigma)
    assert torch.equal(value, expected[0])
    assert torch.equal(grad, expected[1])
    for wanted in ((True, True), (True, False), (False, True), (True, True)):
        its_value, its_grad = evaluation.value_and_grad(x, value=wanted[0], grad=wanted[1])
        assert (its_value is not None, its_grad is not None) == wanted
        if its_value is not None:
            assert its_value.dtype == torch.float64
            torch.testing.assert_close(its_value, value, rtol=1e-11, atol=1e-11)
        if its_grad is not None:
            torch.testing.assert_close(its_grad, grad, rtol=1e-11, atol=1e-12)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("padding", ["zero", "circular"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bias", [False, True])
@over("sigma", LEVELS)
def test_sizes_and_levels(
    sigma: Sigma, bias: bool, channels: int, padding: Padding, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = conditioned(channels, padding, bias=bias)
    for size in SIZES:
        x = images(channels, size)
        agrees(network, x, sigma)
        with monkeypatch.context() as patch:
            small(patch, size[1])
            agrees(network, x, sigma)
            patch.setattr(strips, "_PIXELS", size[1] - 1)  # not even one row
            agrees(network, x, sigma)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (2, 1)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_single_pixels_and_lines(channels: int, size: tuple[int, int]) -> None:
    agrees(conditioned(channels), images(channels, size), 0.1)
    agrees(ridges(channels), images(channels, size), None)


@over("build", NETWORKS)
def test_kinds_of_networks(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of modules by strips, everything else by tiles or as a whole."""
    network = build().requires_grad_(False)
    for size in ((13, 10), (4, 3)):
        x = images(1, size)
        small(monkeypatch, size[1])
        for sigma in (0.1, torch.tensor([0.03, 0.2]).double()):
            agrees(network, x, sigma)


@over("case", POTENTIALS)
def test_kinds_of_potentials(case: PotentialCase, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = Convolution((1, 2, case.channels), (3, 3))
    network = perturbed(GradientModule(operator, case.build()), 0.3)
    small(monkeypatch, 9)
    agrees(network, images(1, (11, 9)), None)


@pytest.mark.parametrize("padding", ["zero", "circular"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fields", [1, 2])
@over("sigma", LEVELS)
def test_spatial_weights(
    sigma: Sigma, fields: int, channels: int, padding: Padding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One field for all images or one each, in one module or in two, twice over."""
    for network in (
        conditioned(channels, padding, bias=True),
        LinearCombination([ridges(channels, padding), conditioned(channels, padding)]).double(),
    ):
        for size in ((13, 10), (2, 9)):
            weights = 3 * torch.rand(fields, network.terms, *size, dtype=torch.float64)
            weights[..., 0] = 0
            weighted = network.requires_grad_(False).with_weights(weights)
            x = images(channels, size)
            with monkeypatch.context() as patch:
                small(patch, size[1])
                agrees(weighted, x, sigma)
                agrees(weighted.with_weights(weights[:1]), x, sigma)


def test_evaluations_of_other_images_are_none_of_the_first() -> None:
    """What is kept depends on the network and the levels, not on images or their size."""
    network = conditioned(bias=True)
    evaluation = Evaluation(network, 0.1)
    for size, count in itertools.product(((5, 6), (9, 4), (5, 6)), (1, 3)):
        x = images(1, size, count)
        expected = network.value_and_grad(x, 0.1)
        torch.testing.assert_close(evaluation.value_and_grad(x), expected, rtol=1e-11, atol=1e-12)


def test_parameters_as_they_are_where_it_is_differentiated() -> None:
    """As a whole from the parameters of now; what is kept is that of the first evaluation."""
    network = conditioned()
    x, evaluation = images(1, (6, 7)), Evaluation(network, 0.1)
    _, before = evaluation.value_and_grad(x)
    network.requires_grad_(True)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1)
        _, kept = evaluation.value_and_grad(x)
    assert before is not None
    assert kept is not None
    assert torch.equal(kept, before)
    _, after = evaluation.value_and_grad(x)
    assert after is not None
    torch.testing.assert_close(after, network(x, 0.1))
    after.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    _, fresh = Evaluation(network, 0.1).value_and_grad(x.clone())
    torch.testing.assert_close(fresh, after)


@pytest.mark.parametrize("fields", [0, 1, 6])
def test_threads_may_share_an_evaluation(fields: int) -> None:
    """The first calls, at once, find nothing kept yet."""
    network: GradientNetwork = conditioned(bias=True)
    if fields:
        network = network.with_weights(torch.rand(fields, network.terms, 17, 19).double())
    sigma = torch.linspace(0.03, 0.4, 6, dtype=torch.float64)
    x = images(1, (17, 19), 6)
    value, grad = Evaluation(network, sigma).value_and_grad(x)
    assert value is not None
    assert grad is not None
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            evaluation = Evaluation(network, sigma)
            for its_value, its_grad in pool.map(evaluation.value_and_grad, [x] * 16):
                assert torch.equal(its_value, value)
                assert torch.equal(its_grad, grad)
