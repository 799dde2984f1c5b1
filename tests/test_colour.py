"""Gray models on colour images: the sum over the planes of an orthonormal transform."""

from __future__ import annotations

import pytest
import torch

from convexreg.networks import tiling
from convexreg.networks.colour import colour_transform
from tests.oracles import gradient, jacobian
from tests.tables import over
from tests.test_regularizer import GRAY, SIGMAS, Build, configured


@over("build", GRAY)
def test_colour_is_an_orthonormal_transform(build: Build) -> None:
    """A gray model on colour: the sum over three planes, with neither constant changed."""
    regularizer = build()
    transform = colour_transform(torch.float64, torch.device("cpu"))
    identity = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(transform @ transform.T, identity, rtol=0, atol=1e-15)
    x = torch.rand(2, 3, 7, 8).double()
    sigma = SIGMAS[:2]
    value, grad = regularizer.value_and_grad(x, sigma)
    planes = torch.einsum("kc,bchw->kbhw", transform, x).unsqueeze(2)
    torch.testing.assert_close(value, sum(regularizer.energy(plane, sigma) for plane in planes))
    plane_grads = torch.cat([regularizer.grad(plane, sigma) for plane in planes], 1)
    torch.testing.assert_close(grad, torch.einsum("kc,bkhw->bchw", transform, plane_grads))
    torch.testing.assert_close(regularizer.energy(x, sigma), value)
    derivative = gradient(lambda points: regularizer.energy(points, sigma), x)
    torch.testing.assert_close(grad, derivative, rtol=1e-8, atol=1e-11)
    gray = x[:, :1]
    luminance = regularizer.energy(gray.expand(-1, 3, -1, -1), sigma)
    chroma = 2 * regularizer.energy(torch.zeros_like(gray), sigma)
    torch.testing.assert_close(luminance, regularizer.energy(gray * 3**0.5, sigma) + chroma)


def test_colour_works_in_and_after_inference_mode() -> None:
    colour_transform.cache_clear()
    regularizer = configured()()
    x = torch.rand(1, 3, 6, 6).double()
    with torch.inference_mode():
        inside = regularizer.energy(x, 0.1)
    derivative = gradient(lambda points: regularizer.energy(points, 0.1), x)
    torch.testing.assert_close(regularizer.grad(x, 0.1), derivative, rtol=1e-8, atol=1e-11)
    torch.testing.assert_close(regularizer.energy(x, 0.1), inside)


def test_colour_constants_hold() -> None:
    regularizer = configured()()
    x = torch.rand(1, 3, 4, 5).double()
    hessian = jacobian(lambda points: regularizer.grad(points, 0.1), x)
    eigenvalues = torch.linalg.eigvalsh(hessian)
    assert eigenvalues[0] >= -1e-12
    assert eigenvalues[-1] <= regularizer.lipschitz((4, 5), 0.1)


def test_tiles_change_nothing_on_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    regularizer = configured()()
    colour = torch.rand(2, 3, 19, 13).double()
    value, grad = regularizer.value_and_grad(colour, SIGMAS[:2])
    monkeypatch.setattr(tiling, "_SIDE", {"cpu": 8})
    tiled_value, tiled_grad = regularizer.value_and_grad(colour, SIGMAS[:2])
    torch.testing.assert_close(tiled_value, value, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(tiled_grad, grad, rtol=1e-11, atol=1e-12)


def test_a_colour_model_refuses_gray() -> None:
    regularizer = configured(channels=(3, 3, 6))()
    with pytest.raises(ValueError, match="images of 3 channel"):
        regularizer.grad(torch.zeros(1, 1, 8, 8).double(), 0.1)


def test_curvature_model_of_colour_is_the_average_of_its_planes() -> None:
    regularizer = configured()()
    x = torch.rand(2, 3, 6, 7).double()
    transform = colour_transform(torch.float64, torch.device("cpu"))
    planes = torch.einsum("kc,bchw->kbhw", transform, x).unsqueeze(2)
    model = regularizer.curvature(x, SIGMAS[:2])
    models = [regularizer.curvature(plane, SIGMAS[:2]) for plane in planes]
    for name in ("symbol", "diagonal"):
        expected = sum(getattr(part, name) for part in models) / 3
        torch.testing.assert_close(getattr(model, name), expected)
