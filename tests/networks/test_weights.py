"""Spatial weights keep every promise of a regularizer: convexity, bounds, batches, tiles, colour."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from convexreg import (
    ConvexRegularizer,
)
from convexreg.networks import colour, tiling
from convexreg.networks.combinations import StronglyMonotone
from convexreg.networks.modular import GradientModule, IdentityRho
from convexreg.networks.operators import Convolution
from convexreg.networks.potentials import LogCosh
from tests.oracles import gradient, jacobian
from tests.tables import over
from tests.test_regularizer import REGULARIZERS, SIGMAS, Build, configured, images

WEIGHTED = {name: build for name, build in REGULARIZERS.items() if name != "mixed"}


def weighted(regularizer: ConvexRegularizer, planes: int, height: int, width: int) -> Tensor:
    """Random weights from zero to three, two in some pixels."""
    weights = 3 * torch.rand(planes, regularizer.network.terms, height, width).double()
    weights[..., 0] = 0
    weights[..., -1] = 2
    return weights


@over("build", WEIGHTED)
def test_constant_weights_scale(build: Build) -> None:
    regularizer = build()
    for name, parameter in regularizer.named_parameters():
        if "output_bias" in name:  # a linear term, which is no term of the sum over channels
            parameter.zero_()
    x = images(regularizer, 3)
    value, grad = regularizer.value_and_grad(x, SIGMAS)
    for factor in (0.0, 1.0, 2.5):
        weights = torch.full((1, regularizer.network.terms, 7, 8), factor).double()
        scaled = regularizer.with_weights(weights)
        its_value, its_grad = scaled.value_and_grad(x, SIGMAS)
        torch.testing.assert_close(its_value, factor * value, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(its_grad, factor * grad, rtol=1e-10, atol=1e-12)
        bound = scaled.lipschitz((7, 8), SIGMAS)
        torch.testing.assert_close(bound, factor * regularizer.lipschitz((7, 8), SIGMAS))
        assert {id(p) for p in scaled.parameters()} == {id(p) for p in regularizer.parameters()}
    torch.testing.assert_close(regularizer.grad(x, SIGMAS), grad, rtol=0, atol=0)


@over("build", WEIGHTED)
def test_energy_gradient_and_batch_of_a_weighted_regularizer(build: Build) -> None:
    regularizer = build()
    x, weights = images(regularizer, 3), weighted(regularizer, 3, 7, 8)
    several = regularizer.with_weights(weights)
    value, grad = several.value_and_grad(x, SIGMAS)
    derivative = gradient(lambda points: several.energy(points, SIGMAS), x)
    torch.testing.assert_close(grad, derivative, rtol=1e-8, atol=1e-11)
    torch.testing.assert_close(several.grad(x, SIGMAS), grad, rtol=1e-12, atol=1e-14)
    bounds = several.lipschitz((7, 8), SIGMAS)
    for i in range(3):
        alone = regularizer.with_weights(weights[i : i + 1])
        its_value, its_grad = alone.value_and_grad(x[i : i + 1], SIGMAS[i])
        torch.testing.assert_close(its_value, value[i : i + 1], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(its_grad, grad[i : i + 1], rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(alone.lipschitz((7, 8), SIGMAS[i]), bounds[i])


@over("build", WEIGHTED)
def test_the_hessian_of_a_weighted_regularizer_lies_in_its_bounds(build: Build) -> None:
    regularizer = build()
    several = regularizer.with_weights(weighted(regularizer, 1, 7, 8))
    for scale in (0.0, 0.1, 1.0):
        x = scale * images(regularizer, 1)
        hessian = jacobian(lambda points: several.grad(points, 0.1), x)
        eigenvalues = torch.linalg.eigvalsh(hessian)
        assert (hessian - hessian.T).abs().max() <= 1e-12 * max(1, float(eigenvalues[-1]))
        assert eigenvalues[0] >= -1e-10
        for size in ((7, 8), None):
            bound = several.lipschitz(size, 0.1)
            assert eigenvalues[-1] <= bound
            assert bound <= 3 * regularizer.lipschitz(size, 0.1) * (1 + 1e-6)


@over("build", {name: WEIGHTED[name] for name in ("m-zero", "m-circular", "m-mixing", "c-zero")})
def test_tiles_of_a_weighted_regularizer(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    regularizer = build()
    x = images(regularizer, 2, 17, 22)
    for planes in (1, 2):
        several = regularizer.with_weights(weighted(regularizer, planes, 17, 22))
        value, grad = several.value_and_grad(x, SIGMAS[:2])
        with monkeypatch.context() as patch:
            patch.setattr(tiling, "_SIDE", {"cpu": 8})
            tiled_value, tiled_grad = several.value_and_grad(x, SIGMAS[:2])
        torch.testing.assert_close(tiled_value, value, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(tiled_grad, grad, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("convexify", [False, True])
def test_tiles_of_a_strongly_monotone_network_with_weights(
    convexify: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    regularizer = configured()()
    x = images(regularizer, 2, 17, 22)
    weights = weighted(regularizer, 2, 17, 22)
    weights[0, 0, 3, 4] = 9.0  # the largest weight of all, which one tile sees
    network = StronglyMonotone(
        regularizer.network.with_weights(weights), 0.3, convexify=convexify
    ).double()
    value, grad = tiling.value_and_grad(network, x, 0.1)
    monkeypatch.setattr(tiling, "_SIDE", {"cpu": 8})
    tiled_value, tiled_grad = tiling.value_and_grad(network, x, 0.1)
    torch.testing.assert_close(tiled_value, value, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(tiled_grad, grad, rtol=1e-11, atol=1e-12)


def test_weights_of_colour_images() -> None:
    """Three planes per image, each with weights of its own, and one bound per image."""
    regularizer = configured()()
    x = torch.rand(2, 3, 4, 5).double()
    assert regularizer.magnitudes(x, SIGMAS[:2]).shape == (6, 3, 4, 5)
    several = regularizer.with_weights(weighted(regularizer, 6, 4, 5), channels=3)
    sigma = SIGMAS[:2]
    derivative = gradient(lambda points: several.energy(points, sigma), x)
    torch.testing.assert_close(several.grad(x, sigma), derivative, rtol=1e-8, atol=1e-11)
    bounds = several.term(sigma).lipschitz(x)
    assert bounds.shape == (2,)
    full = torch.autograd.functional.jacobian(lambda points: several.grad(points, sigma), x)
    for i, bound in enumerate(bounds):
        hessian = full[i, :, :, :, i].reshape(60, 60)
        assert torch.linalg.eigvalsh(hessian)[-1] <= bound
    curvature = several.curvature(x, sigma)
    assert curvature is not None
    assert curvature.diagonal.shape == (2, 3, 4, 5)


def test_the_bound_of_a_colour_image_is_the_largest_of_its_planes() -> None:
    """With one noise level per image: each plane alone, at the level of its image, times its weight."""
    regularizer = configured()()
    sizes = torch.tensor([0.3, 2.0, 1.0, 0.2, 3.0, 0.6]).double().reshape(6, 1, 1, 1)
    weights = sizes * weighted(regularizer, 6, 7, 8)
    sigma = SIGMAS[[0, 2]]
    alone = torch.stack(
        [
            regularizer.with_weights(weights[i : i + 1]).lipschitz((7, 8), sigma[i // 3])
            for i in range(6)
        ]
    ).reshape(2, 3)
    alone = alone * torch.tensor(colour.PLANE_WEIGHTS)
    assert (alone.amax(1) > 1.2 * alone.mean(1)).all()
    several = regularizer.with_weights(weights, channels=3)
    term = several.term(sigma)
    bounds = term.lipschitz(torch.rand(2, 3, 7, 8).double())
    torch.testing.assert_close(bounds, alone.amax(1))
    torch.testing.assert_close(several.lipschitz((7, 8), sigma), bounds)


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("level", [0.1, SIGMAS], ids=["one level", "a level each"])
def test_a_subset_of_a_batch_is_the_images_alone(
    level: float | Tensor, channels: int, per_image: bool
) -> None:
    """In values, gradients, bounds and curvature; weights for all images stay as they are."""
    regularizer = configured()()
    x = torch.rand(3, channels, 7, 8).double()
    if per_image:
        weights = weighted(regularizer, 3 * channels, 7, 8)
        regularizer = regularizer.with_weights(weights, channels=channels)
    term = regularizer.term(level)
    value, grad = term.value_and_grad(x)
    bounds, model = term.lipschitz(x).expand(3), term.curvature(x)
    assert model is not None
    for numbers in ([0], [2, 0], [0, 1, 2], [1, 1]):
        index = torch.tensor(numbers)
        some = term.subset(index)
        its_value, its_grad = some.value_and_grad(x[index])
        torch.testing.assert_close(its_value, value[index], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(its_grad, grad[index], rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(some.lipschitz(x[index]).expand(len(index)), bounds[index])
        its_model = some.curvature(x[index])
        assert its_model is not None
        torch.testing.assert_close(its_model.symbol, model.symbol[index])
        torch.testing.assert_close(its_model.diagonal, model.diagonal[index])


def test_whose_weights_they_are_is_said_and_not_guessed() -> None:
    """Three gray images or one in colour: the same number of weights, not the same images."""
    regularizer = configured()()
    weights, gray = weighted(regularizer, 3, 7, 8), torch.rand(3, 1, 7, 8).double()
    colour = gray.transpose(0, 1)
    regularizer.with_weights(weights).grad(gray, 0.1)
    regularizer.with_weights(weights, channels=3).grad(colour, 0.1)
    regularizer.with_weights(weights[:1]).grad(colour, 0.1)
    for several, image in (
        (regularizer.with_weights(weights), colour),
        (regularizer.with_weights(weights, channels=3), gray),
        (regularizer.with_weights(weights, channels=3), gray[:1]),
        (regularizer.with_weights(weights, channels=3), colour.expand(2, -1, -1, -1)),
    ):
        with pytest.raises(ValueError, match=r"weights of the model .* image\(s\) of .*, got "):
            several.grad(image, 0.1)
    with pytest.raises(ValueError, match="3 channels have as many weights"):
        regularizer.with_weights(weights[:2], channels=3)
    with pytest.raises(ValueError, match="2 channels have as many weights"):
        REGULARIZERS["m-colour"]().with_weights(weights[:2], channels=2)


def test_weights_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    regularizer = configured()()
    x = images(regularizer, 2)
    for weights, message in (
        (torch.ones(2, 6, 7, 8), r"must be \(B, 3, H, W\)"),
        (torch.ones(3, 7, 8), r"must be \(B, 3, H, W\)"),
        (-torch.ones(2, 3, 7, 8), "finite and nonnegative"),
        (torch.full((2, 3, 7, 8), float("nan")), "finite and nonnegative"),
    ):
        with pytest.raises(ValueError, match=message):
            regularizer.with_weights(weights.double())
    for side in (256, 4):
        monkeypatch.setattr(tiling, "_SIDE", {"cpu": side})
        for shape in ((2, 3, 7, 9), (3, 3, 7, 8), (2, 3, 9, 9)):
            several = regularizer.with_weights(torch.ones(shape).double())
            with pytest.raises(ValueError, match=r"weights of the model .* are for"):
                several.grad(x, 0.1)
            with pytest.raises(ValueError, match="spatial weights are for"):
                several.network(x, 0.1)
    with pytest.raises(NotImplementedError, match="StronglyMonotone has no terms"):
        REGULARIZERS["mixed"]().with_weights(torch.ones(1, 6, 7, 8))
    module = GradientModule(Convolution((1, 2), (3,)), LogCosh(), rho=IdentityRho())
    with pytest.raises(NotImplementedError, match="with rho"):
        ConvexRegularizer(module).with_weights(torch.ones(1, 2, 7, 8))


def test_weights_multiply_copy_and_follow_the_dtype() -> None:
    regularizer = configured()()
    x = images(regularizer, 2)
    first, second = (weighted(regularizer, planes, 7, 8) for planes in (2, 1))
    twice = regularizer.with_weights(first).with_weights(second)
    once = regularizer.with_weights(first * second)
    torch.testing.assert_close(twice.energy(x, 0.1), once.energy(x, 0.1))
    torch.testing.assert_close(twice.lipschitz(None, 0.1), once.lipschitz(None, 0.1))
    differentiated = regularizer.with_weights(first.requires_grad_() * 2)
    copied = copy.deepcopy(differentiated)
    torch.testing.assert_close(copied.energy(x, 0.1), differentiated.energy(x, 0.1).detach())
    single = copied.float()
    assert single.grad(x.float(), 0.1).dtype == torch.float32
    exact = configured()().float().with_weights(first.detach())
    assert exact.grad(x.float(), 0.1).dtype == torch.float32
    assert regularizer.grad(x, 0.1).dtype == torch.float64
