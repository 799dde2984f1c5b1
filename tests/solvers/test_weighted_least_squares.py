"""Least squares with weights: constants against dense linear algebra, batches, precision."""

from __future__ import annotations

import pytest
import torch
from deepinv.physics import Blur, Denoising, Inpainting

from convexreg.solvers import QuasiNewton, WeightedLeastSquares, minimise, operator_bounds
from tests.oracles import gradient, jacobian
from tests.tables import over

PHYSICS = {
    "identity": Denoising,
    "mask": lambda: Inpainting((1, 5, 6), mask=(torch.rand(1, 5, 6) > 0.3).double()),
    "blur": lambda: Blur(torch.tensor([[[[0.2, 0.5, 0.3]] * 3]]).double() / 3, padding="circular"),
}


def posed(build, count: int = 3):
    physics, y = build(), torch.rand(count, 1, 5, 6).double()
    weights = 0.1 + 5 * torch.rand_like(y)
    return WeightedLeastSquares(physics, y, operator_bounds(physics, y), weights=weights), y


@over("build", PHYSICS)
def test_value_gradient_and_constants(build) -> None:
    term, x = posed(build)
    value, grad = term.value_and_grad(x)
    misfit = term.operator.A(x) - term.y
    torch.testing.assert_close(value, (term.weights * misfit**2 / 2).sum((1, 2, 3)))
    torch.testing.assert_close(grad, gradient(lambda z: term.value(z).sum(), x))
    for i in range(3):
        one = term.subset(torch.tensor([i]))
        hessian = jacobian(one.grad, x[i : i + 1])
        eigenvalues = torch.linalg.eigvalsh(hessian)
        assert eigenvalues[0] >= term.strong_convexity(x).expand(3)[i] - 1e-9
        assert eigenvalues[-1] <= term.lipschitz(x)[i] * (1 + 1e-9)
        u = torch.randn_like(x)
        product = term.hessian_product(x, u)[i].flatten()
        torch.testing.assert_close(product, hessian @ u[i].flatten())


def test_of_the_identity_everything_is_exact() -> None:
    term, x = posed(Denoising)
    curvature = term.curvature(x)
    torch.testing.assert_close(curvature.diagonal.expand_as(x), term.weights)
    solution = minimise(term, torch.zeros_like(x), QuasiNewton(), gap_tol=1e-12)
    torch.testing.assert_close(solution.x, term.y)
    single = WeightedLeastSquares(
        Denoising(), x.float(), operator_bounds(Denoising(), x.float()), weights=x.float() + 1
    )
    assert single.in_float64(x.float()).weights.dtype == torch.float64


@pytest.mark.parametrize("weights", [torch.zeros(1, 1, 5, 6), torch.ones(1, 1, 5, 5)])
def test_refusals(weights) -> None:
    with pytest.raises(ValueError, match="weights must be positive and finite"):
        WeightedLeastSquares(Denoising(), torch.rand(1, 1, 5, 6), weights=weights)
