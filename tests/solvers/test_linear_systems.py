"""Conjugate gradients: solutions, and the residual that is really theirs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from convexreg.solvers import conjugate_gradient
from tests.problems import spectra, spectrum_matrix


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


@pytest.mark.parametrize("limit", [60, 400, 2000])
def test_the_residual_of_an_ill_conditioned_system_in_float32_is_the_true_one(limit: int) -> None:
    """The one that is carried along says 1e-6 where the solution is 1e-2 off."""
    matrix = spectrum_matrix(torch.logspace(0, 5, 100).double().expand(3, -1)).float()
    rhs = torch.randn(3, 100)

    def operator(v: Tensor) -> Tensor:
        return (matrix * v.unsqueeze(1)).sum(2)

    result = conjugate_gradient(operator, rhs, tol=1e-6, max_iter=limit)
    assert result.iterations <= limit
    exact = torch.einsum("bij,bj->bi", matrix.double(), result.solution.double()) - rhs
    true = exact.norm(dim=1) / rhs.double().norm(dim=1)
    rounding = 1e5 * torch.finfo(torch.float32).eps
    torch.testing.assert_close(result.residual, true, rtol=1e-2, atol=rounding)


def test_a_claim_that_does_not_hold_is_not_the_end() -> None:
    """The operator lies once, and the system is solved nevertheless."""
    operator, rhs, _ = systems((30.0, 5.0))
    calls = 0

    def unreliable(v: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return operator(v) * (1.5 if calls == 3 else 1.0)

    result = conjugate_gradient(unreliable, rhs, tol=1e-9)
    true = (operator(result.solution) - rhs).norm(dim=1) / rhs.norm(dim=1)
    assert (true <= 1e-9).all()
    torch.testing.assert_close(result.residual, true)
