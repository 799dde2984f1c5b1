"""Gray models on colour images: the weighted sum over the planes of an orthonormal transform."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convexreg.networks import colour, tiling
from convexreg.networks.colour import PLANE_WEIGHTS, colour_transform
from convexreg.solvers.curvature import Curvature, Preconditioner
from tests.oracles import gradient, jacobian, matrix
from tests.tables import over
from tests.test_regularizer import GRAY, SIGMAS, Build, configured

LEVELS: dict[str, float | Tensor] = {"one level": 0.1, "a level each": SIGMAS[:2]}


def in_planes(x: Tensor) -> Tensor:
    """Three gray images for every colour image, the planes first: `(3, B, 1, H, W)`."""
    transform = colour_transform(x.dtype, x.device)
    return torch.einsum("kc,bchw->kbhw", transform, x).unsqueeze(2)


def test_the_transform_is_orthonormal_and_starts_with_luminance() -> None:
    transform = colour_transform(torch.float64, torch.device("cpu"))
    identity = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(transform @ transform.T, identity, rtol=0, atol=1e-15)
    torch.testing.assert_close(transform[0], torch.full((3,), 3**-0.5).double())
    x = torch.rand(2, 3, 4, 5).double()
    separate = colour.planes(x)
    expected = in_planes(x).transpose(0, 1).reshape(6, 1, 4, 5)
    torch.testing.assert_close(separate, expected)
    torch.testing.assert_close(colour.from_planes(separate), x)
    z = torch.randn_like(separate)
    adjoint = (colour.from_planes(z) * x).sum()
    torch.testing.assert_close((z * separate).sum(), adjoint)


@over("level", LEVELS)
@over("build", GRAY)
def test_colour_is_a_weighted_sum_over_its_planes(build: Build, level: float | Tensor) -> None:
    """In energy and gradient, with one noise level or one each."""
    regularizer = build()
    x = torch.rand(2, 3, 7, 8).double()
    value, grad = regularizer.value_and_grad(x, level)
    weighted = list(zip(PLANE_WEIGHTS, in_planes(x), strict=True))
    energies = [weight * regularizer.energy(plane, level) for weight, plane in weighted]
    torch.testing.assert_close(value, sum(energies))
    plane_grads = torch.cat([w * regularizer.grad(plane, level) for w, plane in weighted], 1)
    transform = colour_transform(torch.float64, torch.device("cpu"))
    torch.testing.assert_close(grad, torch.einsum("kc,bkhw->bchw", transform, plane_grads))
    torch.testing.assert_close(regularizer.energy(x, level), value)
    torch.testing.assert_close(regularizer.grad(x, level), grad)
    derivative = gradient(lambda points: regularizer.energy(points, level), x)
    torch.testing.assert_close(grad, derivative, rtol=1e-8, atol=1e-11)


@over("build", GRAY)
def test_a_gray_image_in_colour_is_its_luminance(build: Build) -> None:
    regularizer = build()
    gray = torch.rand(2, 1, 7, 8).double()
    energy = regularizer.energy(gray.expand(-1, 3, -1, -1), SIGMAS[:2])
    nothing = regularizer.energy(torch.zeros_like(gray), SIGMAS[:2])
    luminance = PLANE_WEIGHTS[0] * regularizer.energy(gray * 3**0.5, SIGMAS[:2])
    torch.testing.assert_close(energy, luminance + sum(PLANE_WEIGHTS[1:]) * nothing)


def test_colour_works_in_and_after_inference_mode() -> None:
    colour_transform.cache_clear()
    regularizer = configured()()
    x = torch.rand(1, 3, 6, 6).double()
    with torch.inference_mode():
        inside = regularizer.energy(x, 0.1)
    derivative = gradient(lambda points: regularizer.energy(points, 0.1), x)
    torch.testing.assert_close(regularizer.grad(x, 0.1), derivative, rtol=1e-8, atol=1e-11)
    torch.testing.assert_close(regularizer.energy(x, 0.1), inside)


@over("build", GRAY)
def test_colour_constants_hold(build: Build) -> None:
    """Dense Hessians lie between the constants, for every image size and noise level."""
    regularizer = build()
    for sigma in SIGMAS.tolist():
        bounds = [regularizer.lipschitz(size, sigma, channels=3) for size in ((4, 5), None)]
        for scale in (0.0, 0.1, 1.0):
            x = scale * torch.rand(1, 3, 4, 5).double()
            hessian = jacobian(lambda points, s=sigma: regularizer.grad(points, s), x)
            assert (hessian - hessian.T).abs().max() <= 1e-12 * max(1, float(bounds[1]))
            eigenvalues = torch.linalg.eigvalsh(hessian)
            assert eigenvalues[0] >= regularizer.strong_convexity() - 1e-10
            assert all(eigenvalues[-1] <= bound for bound in bounds)


@over("build", GRAY)
def test_the_bound_of_colour_is_that_of_gray_times_the_largest_weight(build: Build) -> None:
    regularizer = build()
    for size in ((7, 8), None):
        for level in (0.1, SIGMAS[0], SIGMAS[:1], SIGMAS):
            gray = regularizer.lipschitz(size, level)
            bound = regularizer.lipschitz(size, level, channels=3)
            torch.testing.assert_close(bound, max(PLANE_WEIGHTS) * gray)
            torch.testing.assert_close(regularizer.lipschitz(size, level, channels=1), gray)
    x = torch.rand(3, 3, 7, 8).double()
    expected = regularizer.lipschitz((7, 8), SIGMAS, channels=3)
    torch.testing.assert_close(regularizer.term(SIGMAS).lipschitz(x), expected)


def test_a_colour_model_has_one_bound() -> None:
    regularizer = configured(channels=(3, 3, 6))()
    bound = regularizer.lipschitz((7, 8), 0.1)
    assert torch.equal(regularizer.lipschitz((7, 8), 0.1, channels=3), bound)


def test_tiles_change_nothing_on_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    regularizer = configured()()
    x = torch.rand(2, 3, 19, 13).double()
    watched = x.clone().requires_grad_()
    value, grad = (t.detach() for t in regularizer.value_and_grad(watched, SIGMAS[:2]))
    monkeypatch.setattr(tiling, "_SIDE", {"cpu": 8})
    tiled_value, tiled_grad = regularizer.value_and_grad(x, SIGMAS[:2])
    torch.testing.assert_close(tiled_value, value, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(tiled_grad, grad, rtol=1e-11, atol=1e-12)


def test_a_colour_model_refuses_gray() -> None:
    regularizer = configured(channels=(3, 3, 6))()
    with pytest.raises(ValueError, match="takes images of 3 channels only, got 1"):
        regularizer.grad(torch.zeros(1, 1, 8, 8).double(), 0.1)


@over("level", LEVELS)
@pytest.mark.parametrize("side", [7, 33])
def test_curvature_model_of_colour_is_that_of_every_plane(side: int, level: float | Tensor) -> None:
    """Times its weight, in the basis of the planes; of large images as well, seen in a few places."""
    regularizer = configured()()
    x = torch.rand(2, 3, side, side + 1).double()
    model = regularizer.curvature(x, level)
    assert model is not None
    assert model.basis is colour_transform(torch.float64, torch.device("cpu"))
    for i, (weight, plane) in enumerate(zip(PLANE_WEIGHTS, in_planes(x), strict=True)):
        alone = regularizer.curvature(plane, level)
        assert alone is not None
        torch.testing.assert_close(model.symbol[:, i : i + 1], weight * alone.symbol)
        torch.testing.assert_close(model.diagonal[:, i : i + 1], weight * alone.diagonal)


def test_curvature_model_of_colour_is_near_the_hessian_where_it_is_exact() -> None:
    """Circular ridges at an image of one colour: the preconditioner is the inverse of the Hessian."""
    regularizer = configured(group_size=1, padding="circular")()
    x = torch.tensor([0.2, 0.5, 0.9]).double().reshape(1, 3, 1, 1).expand(1, 3, 5, 6).clone()
    model = regularizer.curvature(x, 0.1)
    assert model is not None
    hessian = jacobian(lambda points: regularizer.grad(points, 0.1), x)
    shift = float(hessian.diagonal().mean())
    hessian = hessian + shift * torch.eye(len(hessian), dtype=torch.float64)
    precondition = Preconditioner(
        model.plus(Curvature.constant(x, shift), torch.ones((), dtype=torch.float64))
    )
    inverse = matrix(precondition, (3, 5, 6))
    torch.testing.assert_close(inverse, torch.linalg.inv(hessian), rtol=1e-8, atol=1e-10)
