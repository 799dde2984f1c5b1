"""Regularizers: what the network promises holds on images, in tiles and batches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from convexreg import ConvexRegularizer, ModelConfig
from convexreg.networks import strips, tiling
from convexreg.networks.cascaded import GradNetC
from convexreg.networks.combinations import LinearCombination, StronglyMonotone
from convexreg.networks.modular import GradientModule
from convexreg.networks.operators import Convolution
from convexreg.networks.potentials import LogCosh, PooledNorm
from convexreg.solvers.batch import inner, rms
from convexreg.solvers.curvature import Curvature, Preconditioner
from tests.networks.table import Build
from tests.oracles import gradient, jacobian
from tests.tables import over, perturbed

SMALL = ModelConfig("mgradnet-m", (1, 3, 6), (3, 3), "zero", 1 / 255, 0.5)
CHROMA = replace(SMALL, channels=(2, 4), kernel_sizes=(5,))
BLOCKS = replace(CHROMA, kernel_sizes=(3,), block=2)
SIGMAS = torch.tensor([0.02, 0.1, 0.4]).double()


def configured(**changes) -> Build:
    """A regularizer of a shipped architecture with random weights."""
    return lambda: perturbed(replace(SMALL, **changes).build(), 0.2).eval()


def _mixed() -> ConvexRegularizer:
    """A conic combination with a window, a strongly convex part and no noise conditioning."""
    operator = Convolution((1, 4), (3,), padding="zero")
    windowed = GradientModule(operator, PooledNorm(4, group_size=2, window=3), bias=False)
    ridges = GradientModule(Convolution((1, 4), (5,)), LogCosh())
    network = LinearCombination([windowed, StronglyMonotone(ridges, 0.3)])
    return perturbed(ConvexRegularizer(network), 0.2)


REGULARIZERS: dict[str, Build] = {
    "m-zero": configured(),
    "m-circular": configured(padding="circular"),
    "m-mixing": configured(mixing=True, group_size=3),
    "m-colour": configured(channels=(3, 3, 6)),
    "m-chroma": configured(chroma=CHROMA),
    "m-chroma-blocks": configured(chroma=BLOCKS),
    "m-chroma-ratios": lambda: configured(chroma=BLOCKS)().with_noise_ratios(0.6, 1.15),
    "m-blocks": configured(channels=(1, 6), kernel_sizes=(3,), block=3),
    "c-zero": configured(architecture="mgradnet-c"),
    "c-circular": configured(architecture="mgradnet-c", padding="circular"),
    "crr-zero": configured(architecture="crr"),
    "crr-circular": configured(architecture="crr", padding="circular"),
    "mixed": _mixed,
}
GRAY = {
    name: build
    for name, build in REGULARIZERS.items()
    if name != "m-colour" and "chroma" not in name
}


def images(regularizer: ConvexRegularizer, batch: int, height: int = 7, width: int = 8) -> Tensor:
    """Random images with an edge, float64."""
    x = 0.3 * torch.rand(batch, regularizer.in_channels, height, width).double()
    x[..., width // 2 :] += 0.5
    return x


@over("build", REGULARIZERS)
def test_energy_and_gradient_agree(build: Build) -> None:
    regularizer = build()
    x = images(regularizer, 3)
    value, grad = regularizer.value_and_grad(x, SIGMAS)
    assert value.dtype == torch.float64
    assert value.shape == (3,)
    torch.testing.assert_close(regularizer.energy(x, SIGMAS), value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(regularizer.grad(x, SIGMAS), grad, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(regularizer(x, SIGMAS), grad, rtol=1e-12, atol=1e-14)
    derivative = gradient(lambda points: regularizer.energy(points, SIGMAS), x)
    torch.testing.assert_close(grad, derivative, rtol=1e-8, atol=1e-11)
    term = regularizer.term(SIGMAS)
    torch.testing.assert_close(term.value_and_grad(x)[1], grad, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(term.value(x), value, rtol=1e-12, atol=1e-12)
    bound = regularizer.lipschitz((7, 8), SIGMAS, channels=x.shape[1])
    torch.testing.assert_close(term.lipschitz(x), bound)


@over("build", REGULARIZERS)
def test_a_batch_is_its_images_each_with_its_noise_level(build: Build) -> None:
    regularizer = build()
    x = images(regularizer, 3)
    value, grad = regularizer.value_and_grad(x, SIGMAS)
    bounds = regularizer.lipschitz((7, 8), SIGMAS).expand(3)
    for i, sigma in enumerate(SIGMAS.tolist()):
        here = slice(i, i + 1)
        for level in (sigma, SIGMAS[i], SIGMAS[here]):
            alone_value, alone_grad = regularizer.value_and_grad(x[here], level)
            torch.testing.assert_close(alone_value, value[here], rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(alone_grad, grad[here], rtol=1e-12, atol=1e-13)
            torch.testing.assert_close(regularizer.lipschitz((7, 8), level), bounds[i])


@over("build", REGULARIZERS)
def test_hessian_lies_between_the_proven_constants(build: Build) -> None:
    """Convex, and no more curved than `lipschitz` says, by dense eigenvalues at several points."""
    regularizer = build()
    for sigma in (0.01, 0.1, 0.4):
        bounds = regularizer.lipschitz((7, 8), sigma), regularizer.lipschitz(None, sigma)
        for scale in (0.0, 0.1, 1.0, 10.0):
            x = scale * images(regularizer, 1)
            hessian = jacobian(lambda points, s=sigma: regularizer.grad(points, s), x)
            assert (hessian - hessian.T).abs().max() <= 1e-12 * max(1, float(bounds[1]))
            eigenvalues = torch.linalg.eigvalsh(hessian)
            assert eigenvalues[0] >= regularizer.strong_convexity() - 1e-10
            assert all(bound >= eigenvalues[-1] for bound in bounds)


@over("build", {name: build for name, build in REGULARIZERS.items() if "circular" in name})
def test_constant_images_are_not_touched(build: Build) -> None:
    """Zero-mean filters do not see the mean."""
    regularizer = build()
    constant = torch.full((1, regularizer.in_channels, 7, 8), 0.6).double()
    at_zero = regularizer.grad(torch.zeros_like(constant), 0.1)
    torch.testing.assert_close(regularizer.grad(constant, 0.1), at_zero)


@pytest.mark.parametrize("size", [(11, 26), (17, 16)], ids=str)
@over("build", REGULARIZERS)
def test_tiles_and_strips_change_nothing(
    build: Build, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluation that is differentiated runs as a whole."""
    regularizer = build()
    x = images(regularizer, 2, *size)
    sigma = SIGMAS[:2]
    value, grad = (
        t.detach() for t in regularizer.value_and_grad(x.clone().requires_grad_(), sigma)
    )
    monkeypatch.setattr(tiling, "_SIDE", {"cpu": 8})
    monkeypatch.setattr(strips, "_PIXELS", 3 * size[1])
    tiled_value, tiled_grad = regularizer.value_and_grad(x, sigma)
    torch.testing.assert_close(tiled_value, value, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(tiled_grad, grad, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(regularizer.energy(x, sigma), value, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(regularizer.grad(x, sigma), grad, rtol=1e-11, atol=1e-12)


@over("build", REGULARIZERS)
def test_an_image_of_nan_and_no_image_at_all(build: Build) -> None:
    """NaN stays in its image, and an empty batch has an empty answer."""
    regularizer = build()
    x = images(regularizer, 3)
    value, grad = regularizer.value_and_grad(x, 0.1)
    x[1] = float("nan")
    spoilt_value, spoilt_grad = regularizer.value_and_grad(x, 0.1)
    assert spoilt_value.isnan().tolist() == [False, True, False]
    assert bool(spoilt_grad[1].isnan().all())
    torch.testing.assert_close(spoilt_value[::2], value[::2], rtol=1e-13, atol=0)
    torch.testing.assert_close(spoilt_grad[::2], grad[::2], rtol=1e-13, atol=1e-15)
    value, grad = regularizer.value_and_grad(x[:0], 0.1)
    assert value.shape == (0,)
    assert grad.shape == (0, *x.shape[1:])


@over("build", REGULARIZERS)
def test_inference_mode_changes_nothing(build: Build) -> None:
    regularizer = build()
    x = images(regularizer, 2)
    grad, curvature = regularizer.grad(x, 0.1), regularizer.curvature(x, 0.1)
    with torch.inference_mode():
        torch.testing.assert_close(regularizer.grad(x + 0, 0.1), grad)
        inside = regularizer.curvature(x + 0, 0.1)
    if curvature is not None:
        assert inside is not None
        torch.testing.assert_close(inside.symbol, curvature.symbol)
        torch.testing.assert_close(inside.diagonal, curvature.diagonal)


@over("build", REGULARIZERS)
def test_float32_is_float64_rounded(build: Build) -> None:
    regularizer = build()
    x = images(regularizer, 2).float()
    value, grad = regularizer.value_and_grad(x.double(), 0.1)
    single = regularizer.float()
    single_value, single_grad = single.value_and_grad(x, 0.1)
    assert single_value.dtype == torch.float64
    assert single_grad.dtype == torch.float32
    torch.testing.assert_close(single_value, value, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(single_grad.double(), grad, rtol=1e-4, atol=1e-4)


OUTSIDE = {
    "below": 1e-4,
    "above": 0.9,
    "one of each": torch.tensor([1e-4, 0.9]),
    "one inside": torch.tensor([0.1, 0.9]),
}


@pytest.mark.parametrize("channels", [1, 3])
@over("sigma", OUTSIDE)
def test_levels_outside_the_range_are_reached_by_scale(sigma, channels) -> None:
    """`R(s x; s sigma) / s^2` with the Lipschitz constant of the level `s sigma`."""
    regularizer = perturbed(configured()())
    x = torch.rand(2, channels, 9, 10, dtype=torch.float64)
    levels = torch.as_tensor(sigma, dtype=torch.float64).expand(2)
    within = levels.clamp(1 / 255, 0.5)
    s = within / levels
    scaled = s.reshape(2, 1, 1, 1) * x
    value, grad = regularizer.value_and_grad(x, sigma)
    right, slope = regularizer.value_and_grad(scaled, within)
    torch.testing.assert_close(value, right / s**2)
    torch.testing.assert_close(grad, slope / s.reshape(2, 1, 1, 1))
    torch.testing.assert_close(
        regularizer.magnitudes(x, sigma), regularizer.magnitudes(scaled, within)
    )
    bound = regularizer.lipschitz((9, 10), sigma, channels=channels).expand(2)
    torch.testing.assert_close(bound, regularizer.lipschitz((9, 10), within, channels=channels))
    step = 1e-3 * torch.randn_like(x)
    change = regularizer.grad(x + step, sigma) - grad
    assert bool((rms(change) <= bound * rms(step) * (1 + 1e-9)).all())
    assert bool((inner(change, step) >= 0).all())
    curvature, there = regularizer.curvature(x, sigma), regularizer.curvature(scaled, within)
    torch.testing.assert_close(curvature.diagonal, there.diagonal)


def test_derivatives_in_levels_outside_the_range() -> None:
    regularizer = perturbed(configured()())
    x = torch.rand(2, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    sigma = torch.tensor([1e-3, 0.8], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(regularizer.energy, (x, sigma))
    assert torch.autograd.gradcheck(regularizer.grad, (x, sigma))


def test_noise_levels_that_are_none_are_refused() -> None:
    regularizer = configured()()
    x = images(regularizer, 2)
    for sigma in (25.0, -0.1, 0.0, float("nan"), torch.tensor([0.1, 1.1])):
        for call in (regularizer.grad, regularizer.energy, regularizer.value_and_grad):
            with pytest.raises(ValueError, match="sigma must be positive and at most 1"):
                call(x, sigma)
        with pytest.raises(ValueError, match="sigma must be positive and at most 1"):
            regularizer.lipschitz(None, sigma)
    with pytest.raises(ValueError, match="give sigma"):
        regularizer.grad(x)
    with pytest.raises(ValueError, match="2 images and 3 noise levels"):
        regularizer.grad(x, SIGMAS)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "floating-point tensors"),
        (torch.zeros(1, 8, 8).double(), "floating-point tensors"),
        (torch.zeros(1, 1, 8, 8), "images are torch.float32 .* the model .* are torch.float64"),
    ],
)
def test_images_of_another_kind_are_refused(x: Tensor, message: str) -> None:
    regularizer = configured()()
    for call in (regularizer.grad, regularizer.energy, regularizer.value_and_grad):
        with pytest.raises(ValueError, match=message):
            call(x, 0.1)


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("level", [0.1, SIGMAS], ids=["one level", "a level each"])
def test_bands_are_gray_images_each(channels: int, level: float | Tensor) -> None:
    """In value, gradient, bound and model of the curvature."""
    regularizer = configured()()
    x = torch.rand(3, channels, 7, 8).double()
    each = level if isinstance(level, float) else level.repeat_interleave(channels)
    term, planes = regularizer.term(level), x.reshape(-1, 1, 7, 8)
    value, grad = term.value_and_grad(x)
    its_value, its_grad = regularizer.value_and_grad(planes, each)
    torch.testing.assert_close(value, its_value.reshape(3, channels).sum(1))
    torch.testing.assert_close(grad, its_grad.reshape(x.shape))
    bounds = regularizer.lipschitz((7, 8), each).expand(3 * channels)
    torch.testing.assert_close(term.lipschitz(x).expand(3), bounds.reshape(3, channels).amax(1))
    model, its_model = term.curvature(x), regularizer.curvature(planes, each)
    assert model is not None
    assert its_model is not None
    torch.testing.assert_close(model.diagonal, its_model.diagonal.reshape(x.shape))
    one, v = torch.ones(()), torch.randn_like(x)
    together = Preconditioner(Curvature.constant(x, 1.0).plus(model, one))
    alone = Preconditioner(Curvature.constant(planes, 1.0).plus(its_model, one))
    torch.testing.assert_close(together(v), alone(v.reshape(planes.shape)).reshape(x.shape))


def test_networks_that_are_not_monotone_are_refused() -> None:
    network = GradNetC(Convolution((1, 2), (3,)), [LogCosh()])
    with pytest.raises(ValueError, match="not monotone"):
        ConvexRegularizer(network)
    convexified = ConvexRegularizer(StronglyMonotone(network, 0.0, convexify=True))
    assert convexified.strong_convexity() == 0


def test_curvature_model_is_near_the_hessian_where_it_is_exact() -> None:
    """Circular ridges at a constant image: the Hessian is the circulant matrix of the model."""
    regularizer = configured(architecture="crr", padding="circular")()
    x = torch.full((1, 1, 6, 7), 0.5).double()
    model = regularizer.curvature(x, 0.1)
    assert model is not None
    hessian = jacobian(lambda points: regularizer.grad(points, 0.1), x)
    impulse = hessian[:, 0].reshape(6, 7)
    symbol = torch.fft.rfft2(impulse).real
    torch.testing.assert_close(model.symbol[0, 0], symbol, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(model.diagonal.flatten(), hessian.diagonal(), rtol=1e-8, atol=1e-10)


@over("build", {name: build for name, build in REGULARIZERS.items() if name != "mixed"})
def test_tiles_change_nothing_in_the_curvature_model(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    regularizer = build()
    x, sigma = images(regularizer, 2, 17, 22), SIGMAS[:2]
    model = regularizer.curvature(x, sigma)
    monkeypatch.setattr(tiling, "_SIDE", {"cpu": 8})
    tiled = regularizer.curvature(x, sigma)
    assert model is not None
    assert tiled is not None
    torch.testing.assert_close(tiled.symbol, model.symbol, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(tiled.diagonal, model.diagonal, rtol=1e-10, atol=1e-12)


@over("build", REGULARIZERS)
def test_evaluations_apply_the_filters_once_each_way(build: Build) -> None:
    """Energy and gradient together cost no more filtering than the gradient alone, and a curvature model a
    fraction of it."""
    regularizer = build()
    x, work = images(regularizer, 1, 96, 96), {}
    for method in ("energy", "grad", "value_and_grad", "curvature"):
        with FlopCounterMode(display=False) as counter:
            getattr(regularizer, method)(x, 0.1)
        work[method] = counter.get_total_flops()
    assert work["value_and_grad"] == work["grad"]
    assert work["energy"] < 0.8 * work["grad"]
    assert work["curvature"] < 0.3 * work["grad"]
