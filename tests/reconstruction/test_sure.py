"""The weight chosen by Stein's unbiased risk estimate."""

from __future__ import annotations

import deepinv
import pytest
import torch

from convexreg import ConvexReconstructor, reconstruct
from convexreg.reconstruction.weight import _WEIGHTS, _inverse_hessian, _least, sure_weight
from convexreg.solvers import LeastSquares, OperatorBounds, Proximity, QuasiNewton, Sum, minimise
from tests.problems import scenes, small_regularizer


def _blur() -> deepinv.physics.Blur:
    return deepinv.physics.Blur(torch.ones(1, 1, 3, 3).double() / 9, padding="circular")


def test_the_divergence_is_that_of_the_exact_minimiser() -> None:
    """`b^T A H^{-1} A^T b` is the derivative of `b^T A x(y + t b)` in `t`."""
    regularizer, physics = small_regularizer(), _blur()
    y = physics.A(scenes(2)) + 0.1 * torch.randn(2, 1, 7, 8).double()
    probe = torch.randn_like(y)

    def objective(data: torch.Tensor) -> Sum:
        terms = [
            LeastSquares(physics, data, OperatorBounds(1.0)),
            regularizer.term(0.1),
            Proximity(torch.zeros_like(y)),
        ]
        return Sum(terms, [1.0, 0.7, 1e-3])

    def image(data: torch.Tensor) -> torch.Tensor:
        x = minimise(objective(data), data, QuasiNewton(), gtol=1e-11, max_iter=3000).x
        return physics.A(x)

    x = minimise(objective(y), y, QuasiNewton(), gtol=1e-11, max_iter=3000).x
    level = torch.tensor([0.1, 0.1]).double()
    solved = _inverse_hessian(regularizer, physics, x, level, 0.7, objective(y).curvature(x), probe)
    step = 1e-5
    change = (image(y + step * probe) - image(y - step * probe)) / (2 * step)
    expected = (probe * change).flatten(1).sum(1)
    measured = (probe * physics.A(solved)).flatten(1).sum(1)
    torch.testing.assert_close(measured, expected, rtol=0.02, atol=0)


def test_the_vertex_of_a_parabola_is_found() -> None:
    exponents = torch.tensor(_WEIGHTS).double().log2()
    wanted = torch.tensor([0.3, -2.7, -5.0]).double()
    risks = (exponents.unsqueeze(1) - wanted).square() + 1
    torch.testing.assert_close(_least(risks), torch.exp2(wanted))
    monotone = torch.stack([exponents, -exponents], 1)
    ends = _least(monotone)
    assert ends.tolist() == [_WEIGHTS[-1], _WEIGHTS[0]]


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

    def risk(weight) -> torch.Tensor:
        x = reconstruct(y, physics, sigma=sigma, regularizer=regularizer, lam=weight).image
        return (physics.A(x) - exact).square().mean((1, 2, 3))

    lam = sure_weight(y, physics, sigma=sigma, regularizer=regularizer)
    least = torch.stack([risk(weight) for weight in _WEIGHTS]).amin(0)
    assert (risk(lam) <= 1.2 * least).all()
    assert (risk(4.0) > 1.2 * least).any() or (risk(1 / 64) > 1.2 * least).any()
    for i in range(3):
        alone = sure_weight(y[i : i + 1], physics, sigma=float(sigma[i]), regularizer=regularizer)
        torch.testing.assert_close(alone, lam[i : i + 1], rtol=0.02, atol=0)
    chosen = reconstruct(y, physics, sigma=sigma, regularizer=regularizer, lam="sure")
    torch.testing.assert_close(chosen.lam, lam)
    model = ConvexReconstructor(regularizer, sigma=0.1, lam="sure")
    torch.testing.assert_close(model(y[1:2], physics), chosen.image[1:2], rtol=0, atol=2e-2)


def test_the_physics_need_not_be_differentiable() -> None:
    class Opaque:
        """The blur in NumPy, of which autograd sees nothing."""

        def A(self, x: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(_blur().A(x.detach()).numpy())

        def A_adjoint(self, y: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(_blur().A_adjoint(y.detach()).numpy())

    y = _blur().A(scenes(1, 16, 18)) + 0.1 * torch.randn(1, 1, 16, 18).double()
    options = {"sigma": 0.1, "regularizer": small_regularizer()}
    torch.testing.assert_close(
        sure_weight(y, Opaque(), **options), sure_weight(y, _blur(), **options), rtol=1e-6, atol=0
    )
