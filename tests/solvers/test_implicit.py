"""Derivatives of minimisers: against finite differences of exactly solved problems."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from convexreg.models.config import ARCHITECTURES, Architecture
from convexreg.regularizer import ConvexRegularizer
from convexreg.solvers import (
    ImplicitSolution,
    Proximity,
    QuasiNewton,
    Sum,
    conjugate_gradient,
    minimise,
)
from convexreg.solvers.curvature import Preconditioner
from tests.problems import scenes, small_regularizer, spectra, spectrum_matrix

LAM = 0.7


def solve(regularizer: ConvexRegularizer, y: Tensor, sigma: Tensor, lam: float = LAM) -> Tensor:
    """The minimiser of `|x - y|^2 / 2 + lam R(x; sigma)`, to float64 rounding."""
    with torch.no_grad():
        objective = Sum([Proximity(y), regularizer.term(sigma)], [1.0, lam])
        return minimise(objective, y, QuasiNewton(), gtol=1e-16, max_iter=40, throw=False).x


def attached(
    regularizer: ConvexRegularizer,
    y: Tensor,
    sigma: Tensor,
    lam: Tensor | float = LAM,
    **options,
) -> tuple[Tensor, ImplicitSolution]:
    implicit = ImplicitSolution(**({"tol": 1e-10} | options))
    minimiser = solve(regularizer, y.detach(), sigma.detach(), float(torch.as_tensor(lam).detach()))
    gradient = lambda x: x - y + lam * regularizer.grad(x, sigma)  # noqa: E731 - reads as in the docs
    return implicit.attach(gradient, minimiser), implicit


def slope(loss: Callable[[float], Tensor], step: float = 3e-7) -> float:
    """Central difference at zero, short enough for splines to cross no knot."""
    return float(loss(step) - loss(-step)) / (2 * step)


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return request.param


def test_derivatives_of_a_minimiser(architecture: Architecture) -> None:
    """In y, sigma, lam and every parameter along a random direction, to 1e-5."""
    regularizer = small_regularizer(architecture).requires_grad_(True)
    y = scenes(2, 5, 6) + 0.05 * torch.randn(2, 1, 5, 6).double()
    sigma = torch.tensor([0.05, 0.2]).double()
    weights = torch.randn_like(y)

    y.requires_grad_()
    sigma.requires_grad_()
    lam = torch.tensor(LAM, dtype=torch.float64, requires_grad=True)
    x, implicit = attached(regularizer, y, sigma, lam)
    (x * weights).sum().backward()
    assert implicit.residual is not None
    assert implicit.residual.shape == (2,)
    assert (implicit.residual <= 1e-10).all()
    assert implicit.iterations > 0

    y0, sigma0 = y.detach(), sigma.detach()

    def loss(y: Tensor = y0, sigma: Tensor = sigma0, lam: float = LAM) -> Tensor:
        return (solve(regularizer, y, sigma, lam) * weights).sum()

    direction = torch.randn_like(y0)
    for tensor, along, shifted in (
        (y, direction, lambda t: loss(y=y0 + t * direction)),
        (sigma, torch.ones(2), lambda t: loss(sigma=sigma0 + t)),
        (lam, torch.ones(()), lambda t: loss(lam=LAM + t)),
    ):
        assert tensor.grad is not None
        expected = slope(shifted)
        assert float((tensor.grad * along).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-9)
    for name, parameter in regularizer.named_parameters():
        assert parameter.grad is not None, name
        direction = torch.randn_like(parameter)
        start = parameter.data.clone()

        def shifted_parameter(t: float, p=parameter, s=start, d=direction) -> Tensor:
            p.data = s + t * d
            result = loss()
            p.data = s
            return result

        expected = slope(shifted_parameter)
        measured = float((parameter.grad * direction).sum())
        assert measured == pytest.approx(expected, rel=1e-5, abs=1e-8), name


def test_value_is_exactly_that_of_the_minimiser() -> None:
    regularizer = small_regularizer().float().requires_grad_(True)
    y = scenes(3).float()
    minimiser = y + 0.3 * torch.randn_like(y)  # far from optimal: a large residual
    x = ImplicitSolution().attach(lambda p: p - y + regularizer.grad(p, 0.1), minimiser)
    assert torch.equal(x, minimiser)
    assert x.requires_grad


def test_images_are_independent() -> None:
    """Easy and hard images together, each with the derivative it gets alone."""
    regularizer = small_regularizer().requires_grad_(False)
    y = scenes(3, 5, 6) + 0.1 * torch.randn(3, 1, 5, 6).double()
    sigma = torch.tensor([0.02, 0.1, 0.4]).double()
    weights = torch.randn_like(y)
    together = y.clone().requires_grad_()
    x, implicit = attached(regularizer, together, sigma, tol=1e-4)
    (x * weights).sum().backward()
    assert implicit.residual is not None
    for i in range(3):
        here = slice(i, i + 1)
        alone = y[here].clone().requires_grad_()
        alone_x, alone_implicit = attached(regularizer, alone, sigma[here], tol=1e-4)
        (alone_x * weights[here]).sum().backward()
        assert alone_implicit.residual is not None
        assert together.grad is not None
        assert alone.grad is not None
        torch.testing.assert_close(together.grad[here], alone.grad, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(
            implicit.residual[here], alone_implicit.residual, rtol=1e-4, atol=1e-12
        )


def test_a_preconditioner_changes_the_work_and_not_the_result() -> None:
    regularizer = small_regularizer("crr", "circular")
    y = scenes(2, 8, 9) + 0.1 * torch.randn(2, 1, 8, 9).double()
    sigma = torch.tensor([0.1, 0.1]).double()
    weights = torch.randn_like(y)
    objective = Sum([Proximity(y), regularizer.term(sigma)], [1.0, 8.0])
    model = objective.curvature(solve(regularizer, y, sigma, 8.0))
    assert model is not None
    results = []
    for preconditioner in (None, Preconditioner(model)):
        point = y.clone().requires_grad_()
        x, implicit = attached(regularizer, point, sigma, 8.0, preconditioner=preconditioner)
        (x * weights).sum().backward()
        results.append((point.grad, implicit.iterations))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-8, atol=1e-10)
    assert results[1][1] < results[0][1]


def systems(conditions: tuple[float, ...]) -> tuple[Callable[[Tensor], Tensor], Tensor, Tensor]:
    """Random positive definite systems, one per image, with sums that do not depend on the batch."""
    matrix = spectrum_matrix(spectra(len(conditions), 12, conditions))
    rhs = torch.randn(len(conditions), 12).double()
    return lambda v: (matrix * v.unsqueeze(1)).sum(2), rhs, matrix


def test_conjugate_gradients_solve_and_report_the_true_residual() -> None:
    operator, rhs, matrix = systems((1.5, 30.0, 1000.0))
    for tol in (1e-2, 1e-6, 1e-10):
        result = conjugate_gradient(operator, rhs, tol=tol)
        assert (result.residual <= tol).all()
        true = (operator(result.solution) - rhs).norm(dim=1) / rhs.norm(dim=1)
        torch.testing.assert_close(result.residual, true, rtol=1e-3, atol=1e-12)
    torch.testing.assert_close(
        result.solution, torch.linalg.solve(matrix, rhs), rtol=1e-6, atol=1e-6
    )


def test_conjugate_gradients_stop_at_their_limit_and_say_how_far_they_came() -> None:
    operator, rhs, _ = systems((1.0 + 1e-12, 1000.0))
    result = conjugate_gradient(operator, rhs, tol=1e-12, max_iter=3)
    assert result.iterations == 3
    assert result.residual[0] <= 1e-10
    assert result.residual[1] > 1e-6
    true = (operator(result.solution) - rhs).norm(dim=1) / rhs.norm(dim=1)
    torch.testing.assert_close(result.residual, true, rtol=1e-3, atol=1e-12)


def test_conjugate_gradients_give_every_image_what_it_gets_alone() -> None:
    matrix = spectrum_matrix(spectra(4, 12, (1.5, 10.0, 200.0)))
    rhs = torch.randn(4, 12).double()

    def operator(here: slice) -> Callable[[Tensor], Tensor]:
        return lambda v: (matrix[here] * v.unsqueeze(1)).sum(2)

    together = conjugate_gradient(operator(slice(None)), rhs, tol=1e-5)
    for i in range(4):
        here = slice(i, i + 1)
        alone = conjugate_gradient(operator(here), rhs[here], tol=1e-5)
        assert torch.equal(alone.solution, together.solution[here])
        assert torch.equal(alone.residual, together.residual[here])


def test_conjugate_gradients_of_nothing_are_nothing() -> None:
    operator, rhs, _ = systems((5.0, 5.0))
    rhs[0] = 0
    result = conjugate_gradient(operator, rhs)
    assert (result.solution[0] == 0).all()
    assert result.residual[0] == 0
    assert result.residual[1] <= 1e-6
    nothing = conjugate_gradient(operator, torch.zeros_like(rhs))
    assert nothing.iterations == 0


def test_conjugate_gradients_on_a_singular_system_do_not_diverge() -> None:
    """Semidefinite and inconsistent: the residual that remains is reported."""
    matrix = torch.diag(torch.tensor([1.0, 2.0, 0.0, 0.0])).double()
    rhs = torch.ones(1, 4).double()
    result = conjugate_gradient(lambda v: v @ matrix, rhs, tol=1e-10, max_iter=50)
    assert result.solution.abs().max() <= 2
    true = (result.solution @ matrix - rhs).norm() / rhs.norm()
    assert float(result.residual) == pytest.approx(float(true), rel=1e-6)
    assert result.iterations < 50


@pytest.mark.parametrize("rest", [1e-4, 1e-6, 1e-8])
def test_conjugate_gradients_give_up_on_what_has_no_solution_at_once(rest: float) -> None:
    """Three steps solve what can be solved, and the fourth meets a direction without curvature."""
    matrix = torch.diag(torch.tensor([1.0, 2.0, 3.0, 0.0])).double()
    rhs = torch.tensor([[1.0, 1.0, 1.0, rest]]).double()
    result = conjugate_gradient(lambda v: v @ matrix, rhs, tol=1e-12, max_iter=50)
    assert result.iterations == 4
    solution = torch.tensor([[1.0, 1 / 2, 1 / 3]]).double()
    torch.testing.assert_close(result.solution[:, :3], solution, rtol=1e-6, atol=0)
    assert result.residual.item() == pytest.approx(rest / 3**0.5, rel=1e-6)


@pytest.mark.parametrize("limit", [10, 20, 50])
def test_the_residual_of_what_has_no_solution_is_the_true_one(limit: int) -> None:
    matrices = spectrum_matrix(
        torch.cat([10 ** (3 * torch.rand(9, 8)), torch.zeros(9, 4)], 1).double()
    )
    rhs = torch.randn(9, 12).double()

    def operator(v: Tensor) -> Tensor:
        return (matrices * v.unsqueeze(1)).sum(2)

    result = conjugate_gradient(operator, rhs, tol=1e-6, max_iter=limit)
    true = (operator(result.solution) - rhs).norm(dim=1) / rhs.norm(dim=1)
    torch.testing.assert_close(result.residual, true)
    assert (true <= 1).all()
