"""The weight from the measurements: by the discrepancy principle, and by Stein's unbiased risk estimate."""

from __future__ import annotations

from typing import Any

import deepinv
import pytest
import torch
from torch import Tensor

from convexreg import ConvexReconstructor, reconstruct
from convexreg.reconstruction.defaults import ANCHOR, Tolerance
from convexreg.reconstruction.problem import Problem
from convexreg.reconstruction.start import starting_image
from convexreg.reconstruction.weight import (
    WEIGHT_RULES,
    WEIGHTS,
    discrepancy_weight,
    least_risk,
    sure_weight,
)
from convexreg.solvers import Box, data_term
from tests.problems import scenes, small_regularizer


def _posed(y: Tensor, physics: Any, sigma: Any, regularizer: Any) -> tuple[Problem, Tensor]:
    """The problem as `reconstruct` poses it, and its start."""
    level = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1).expand(y.shape[0])
    start = starting_image(y, physics, level)
    return Problem(data_term(physics, y), regularizer, level).anchored(start), start


def test_the_misfit_is_that_of_the_noise_or_the_weight_is_one():
    regularizer = small_regularizer()
    for name, parameter in regularizer.named_parameters():
        if "log_slope" in name:
            parameter.data.add_(3)
    kernel = torch.ones(1, 1, 3, 3).double() / 9
    physics = deepinv.physics.Blur(kernel, padding="circular")
    exact = physics.A(scenes(3, 12, 10))
    sigma = torch.tensor([0.01, 0.05, 0.4]).double()
    y = exact + sigma.reshape(3, 1, 1, 1) * torch.randn_like(exact)
    lam = discrepancy_weight(*_posed(y, physics, sigma, regularizer))
    assert ((lam >= 1 / 64) & (lam <= 1)).all()
    assert (lam < 1).any()

    def misfit(weight) -> torch.Tensor:
        x = reconstruct(y, physics, sigma=sigma, regularizer=regularizer, lam=weight).image
        return (physics.A(x) - y).square().mean((1, 2, 3)).sqrt() / sigma

    assert (misfit(lam) <= 1.01).all()
    assert ((misfit((1.15 * lam).clamp_max(1)) >= 0.99) | (lam == 1)).all()
    for index in range(3):
        here = slice(index, index + 1)
        alone = discrepancy_weight(*_posed(y[here], physics, sigma[here], regularizer))
        torch.testing.assert_close(alone, lam[here], rtol=0.08, atol=0)
    model = ConvexReconstructor(regularizer, sigma=0.05, lam="discrepancy")
    chosen = reconstruct(y[1:2], physics, sigma=0.05, regularizer=regularizer, lam=lam[1:2]).image
    torch.testing.assert_close(model(y[1:2], physics), chosen, rtol=0, atol=0.01)


def test_only_measured_pixels_count():
    """Half of them missing: the misfit allowed is that of the other half."""
    regularizer = small_regularizer()
    for name, parameter in regularizer.named_parameters():
        if "log_slope" in name:
            parameter.data.add_(3)
    clean = scenes(1, 8, 7)
    mask = (torch.rand(1, 1, 8, 7) > 0.5).double()
    physics = deepinv.physics.Inpainting((1, 8, 7), mask=mask)
    y = physics.A(clean + 0.05 * torch.randn_like(clean))
    lam = discrepancy_weight(*_posed(y, physics, 0.05, regularizer))
    assert lam < 1
    x = reconstruct(y, physics, sigma=0.05, regularizer=regularizer, lam=lam).image
    misfit = (physics.A(x) - y).square().sum() / mask.sum()
    assert 0.8 * 0.05 < misfit.sqrt() <= 1.01 * 0.05


def _blur() -> deepinv.physics.Blur:
    return deepinv.physics.Blur(torch.ones(1, 1, 3, 3).double() / 9, padding="circular")


@pytest.mark.parametrize("box", [Box(), Box(0.2, 0.7)])
def test_the_divergence_is_that_of_the_exact_minimiser(box: Box) -> None:
    """`b^T A H^{-1} A^T b` is the derivative of `b^T A x(y + t b)` in `t`."""
    regularizer, physics = small_regularizer(), _blur()
    y = physics.A(scenes(2)) + 0.1 * torch.randn(2, 1, 7, 8).double()
    probe = torch.randn_like(y)

    def problem(data: Tensor) -> Problem:
        centre = torch.zeros_like(y)
        return Problem(data_term(physics, data), regularizer, 0.1, 0.7, 1e-3, centre, box)

    def minimiser(data: Tensor) -> Tensor:
        tolerance = Tolerance(gtol=1e-11)
        return problem(data).minimise(data, tolerance=tolerance, max_iter=3000).x

    x, step = minimiser(y), 1e-6
    moved = problem(y).inverse_hessian(x, physics.A_adjoint(probe)).solution
    ends = [physics.A(minimiser(y + sign * step * probe)) for sign in (1, -1)]
    expected = (probe * (ends[0] - ends[1])).flatten(1).sum(1) / (2 * step)
    measured = (probe * physics.A(moved)).flatten(1).sum(1)
    torch.testing.assert_close(measured, expected, rtol=0.02, atol=0)


def test_the_vertex_of_a_parabola_is_found() -> None:
    exponents = torch.tensor(WEIGHTS).double().log2()
    wanted = torch.tensor([0.3, -2.7, -5.0]).double()
    risks = (exponents.unsqueeze(1) - wanted).square() + 1
    torch.testing.assert_close(least_risk(risks), torch.exp2(wanted))
    monotone = torch.stack([exponents, -exponents], 1)
    ends = least_risk(monotone)
    assert ends.tolist() == [WEIGHTS[-1], WEIGHTS[0]]


@pytest.mark.parametrize("name", ["denoising", "blur"])
def test_the_prediction_risk_is_nearly_the_least(name: str) -> None:
    """Within a fifth of the best of the weights in hindsight, for every image and each alone."""
    regularizer = small_regularizer()
    for parameter_name, parameter in regularizer.named_parameters():
        if "log_slope" in parameter_name:
            parameter.data.add_(2)
    physics = deepinv.physics.Denoising() if name == "denoising" else _blur()
    clean = scenes(3, 48, 52)
    exact = physics.A(clean)
    sigma = torch.tensor([0.03, 0.1, 0.3]).double()
    y = exact + sigma.reshape(3, 1, 1, 1) * torch.randn_like(exact)

    def risk(weight) -> Tensor:
        x = reconstruct(y, physics, sigma=sigma, regularizer=regularizer, lam=weight).image
        return (physics.A(x) - exact).square().mean((1, 2, 3))

    lam = sure_weight(*_posed(y, physics, sigma, regularizer))
    least = torch.stack([risk(weight) for weight in WEIGHTS]).amin(0)
    assert (risk(lam) <= 1.2 * least).all()
    assert (risk(4.0) > 1.2 * least).any() or (risk(1 / 64) > 1.2 * least).any()
    for i in range(3):
        alone = sure_weight(*_posed(y[i : i + 1], physics, sigma[i], regularizer))
        torch.testing.assert_close(alone, lam[i : i + 1], rtol=0.02, atol=0)
    chosen = reconstruct(y, physics, sigma=sigma, regularizer=regularizer, lam="sure")
    torch.testing.assert_close(chosen.lam, lam)
    model = ConvexReconstructor(regularizer, sigma=0.1, lam="sure")
    torch.testing.assert_close(model(y[1:2], physics), chosen.image[1:2], rtol=0, atol=2e-2)


def test_the_physics_need_not_be_differentiable() -> None:
    class Opaque:
        """The blur in NumPy, of which autograd sees nothing."""

        def A(self, x: Tensor) -> Tensor:
            return torch.from_numpy(_blur().A(x.detach()).numpy())

        def A_adjoint(self, y: Tensor) -> Tensor:
            return torch.from_numpy(_blur().A_adjoint(y.detach()).numpy())

    y = _blur().A(scenes(1, 16, 18)) + 0.1 * torch.randn(1, 1, 16, 18).double()
    regularizer = small_regularizer()
    weights = [sure_weight(*_posed(y, p, 0.1, regularizer)) for p in (Opaque(), _blur())]
    torch.testing.assert_close(*weights, rtol=1e-2, atol=0)


@pytest.mark.parametrize("rule", ["discrepancy", "sure"])
def test_rules_see_the_start_the_anchor_and_the_box(rule: str) -> None:
    """Of what the caller asked for, and no others."""
    regularizer, physics = small_regularizer(), _blur()
    y = physics.A(scenes(1, 16, 18)) + 0.1 * torch.randn(1, 1, 16, 18).double()
    x0 = torch.full_like(y, 0.9)
    asked = {"sigma": 0.1, "regularizer": regularizer, "x0": x0, "anchor": 0.5, "box": (0.3, 0.6)}
    posed = Problem(
        data_term(physics, y),
        regularizer,
        torch.tensor([0.1]).double(),
        1.0,
        0.5,
        x0,
        Box(0.3, 0.6),
    )
    expected = WEIGHT_RULES[rule](posed, x0)
    assert ANCHOR != 0.5
    torch.testing.assert_close(reconstruct(y, physics, lam=rule, **asked).lam, expected)
