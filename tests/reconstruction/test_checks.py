"""Operators as people bring them: adjoints, precision, noise models, scale."""

from __future__ import annotations

from typing import Any

import deepinv
import pytest
import torch
from torch import Tensor

from convexreg import reconstruct
from convexreg.solvers import FISTA, Backtracking, FreeFISTA, QuasiNewton
from tests.problems import scenes, small_regularizer
from tests.tables import over


class Scaled:
    """`A x = factor x` with an adjoint of another factor."""

    def __init__(self, factor: float, adjoint: float) -> None:
        self.factor, self.adjoint = factor, adjoint

    def A(self, x: Tensor) -> Tensor:
        return self.factor * x

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self.adjoint * y


SOLVERS = {
    "quasi-Newton": QuasiNewton(),
    "FISTA": FISTA(Backtracking()),
    "Free-FISTA": FreeFISTA(),
}


@over("solver", SOLVERS)
def test_a_wrong_adjoint_gets_no_certificate(solver: Any) -> None:
    options = {"sigma": 0.1, "regularizer": small_regularizer(), "solver": solver}
    with pytest.raises(ValueError, match="not the adjoint"):
        reconstruct(scenes(1), Scaled(1.0, 0.5), **options)
    assert reconstruct(scenes(1) / 2, Scaled(0.5, 0.5), **options).converged


def test_memory_that_runs_out_is_an_error() -> None:
    class Full(Scaled):
        def A(self, x: Tensor) -> Tensor:
            if x.dtype == torch.float64:
                raise torch.OutOfMemoryError("no memory left")
            return x

    regularizer = small_regularizer().float()
    with pytest.raises(torch.OutOfMemoryError):
        reconstruct(scenes(1).float(), Full(1.0, 1.0), sigma=0.1, regularizer=regularizer)


def test_an_operator_without_float64_says_so() -> None:
    class Single(Scaled):
        def A(self, x: Tensor) -> Tensor:
            if x.dtype == torch.float64:
                raise RuntimeError("expected scalar type Float but found Double")
            return x

    regularizer = small_regularizer().float()
    result = reconstruct(scenes(1).float(), Single(1.0, 1.0), sigma=0.1, regularizer=regularizer)
    assert result.certificate.dtype == torch.float32
    assert "Single cannot compute in float64 (expected scalar type Float" in result.summary()
    exact = reconstruct(scenes(1).float(), Scaled(1.0, 1.0), sigma=0.1, regularizer=regularizer)
    assert exact.certificate.dtype == torch.float64
    assert not exact.remark


def test_what_does_not_fit_is_named() -> None:
    mask = (torch.rand(1, 7, 8) > 0.3).double()
    physics = deepinv.physics.Inpainting((1, 7, 8), mask=mask)
    with pytest.raises(ValueError, match=r"Inpainting .*mask is torch\.float64"):
        reconstruct(scenes(1).float(), physics, sigma=0.1)


def test_the_noise_level_of_a_physics_is_taken_where_it_is_all_there_is() -> None:
    regularizer, y = small_regularizer(), scenes(1)
    gaussian = deepinv.physics.Denoising(deepinv.physics.GaussianNoise(0.07))
    left_out = reconstruct(y, gaussian, regularizer=regularizer)
    given = reconstruct(y, gaussian, regularizer=regularizer, sigma=0.07)
    torch.testing.assert_close(left_out.image, given.image, rtol=0, atol=1e-5)
    other = deepinv.physics.Denoising(deepinv.physics.GammaNoise())
    for physics in (other, Scaled(1.0, 1.0)):
        with pytest.raises(ValueError, match="give sigma"):
            reconstruct(y, physics, regularizer=regularizer)


@pytest.mark.parametrize("norm", [300.0, 0.01])
def test_norms_far_from_one_are_noticed(norm: float) -> None:
    physics = Scaled(norm, norm)
    options = {"sigma": 0.1, "regularizer": small_regularizer(), "max_iter": 2}
    if norm > 1:
        with pytest.warns(UserWarning, match="norm of at least 300"):
            reconstruct(norm * scenes(1), physics, **options)
    known = deepinv.physics.Blur(norm * torch.ones(1, 1, 3, 3).double() / 9, padding="circular")
    with pytest.warns(UserWarning, match="norm of at"):
        reconstruct(norm * scenes(1), known, **options)


@pytest.mark.parametrize("seen", [0.0, 1.0])
def test_evaluations_do_not_hang_on_the_central_pixel(seen: float) -> None:
    mask = (torch.rand(1, 32, 32) < 0.5).float()
    mask[0, 16, 16] = seen
    physics = deepinv.physics.Inpainting((1, 32, 32), mask=mask)
    clean = scenes(1, 32, 32).float()
    y = physics.A(clean + 0.02 * torch.randn_like(clean))
    result = reconstruct(y, physics, sigma=0.02)
    assert result.converged
    assert float(result.evaluations) <= 40


def test_holes_are_filled() -> None:
    ramp = torch.linspace(0.3, 0.7, 48).expand(1, 1, 48, 48).clone()
    mask = torch.ones(1, 48, 48)
    mask[:, 10:26, 12:28] = 0
    physics = deepinv.physics.Inpainting((1, 48, 48), mask=mask)
    y = physics.A(ramp + 0.02 * torch.randn_like(ramp))
    result = reconstruct(y, physics, sigma=0.02)
    assert result.converged
    assert int(result.iterations) <= 60
    assert float((result.image - ramp)[0][mask == 0].abs().mean()) < 0.03
