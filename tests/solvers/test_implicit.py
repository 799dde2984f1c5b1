"""Derivatives of minimisers: against those of minimisers in closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from deepinv.loss import JacobianSpectralNorm
from torch import Tensor

from convexreg.solvers import ImplicitSolution
from tests.oracles import jacobian
from tests.tables import over

N = 5
MIXING = torch.randn(N, N, generator=torch.Generator().manual_seed(1)).double()
ROTATION = torch.linalg.qr(MIXING)[0]

Minimiser = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ClosedForm:
    """`argmin_x F(x; a, y)` for positive `a`, `(N,)`, and `y`, `(B, N)`: as a formula, and `grad F`."""

    exact: Minimiser
    gradient: Callable[[Tensor, Tensor, Tensor], Tensor]

    def attached(self, a: Tensor, y: Tensor, tol: float = 1e-14) -> tuple[Tensor, ImplicitSolution]:
        implicit = ImplicitSolution(tol=tol)
        return implicit.attach(self.gradient, self.exact(a, y), (a, y)), implicit


def _hessian(a: Tensor) -> Tensor:
    return torch.eye(N).to(a) + (MIXING.to(a) * a) @ (MIXING.to(a) * a).T + torch.diag(a**2)


def _quadratic_gradient(x: Tensor, a: Tensor, y: Tensor) -> Tensor:
    # sums over a dimension of their own: an image gets the same bits alone
    return (_hessian(a) * x.unsqueeze(1)).sum(2) - y * a.sin()


def _cosh_gradient(x: Tensor, a: Tensor, y: Tensor) -> Tensor:
    return (a * (a * (x @ ROTATION)).sinh()) @ ROTATION.T - y


PROBLEMS = {
    "quadratic": ClosedForm(
        lambda a, y: torch.linalg.solve(_hessian(a), (y * a.sin()).T).T, _quadratic_gradient
    ),
    "cosh": ClosedForm(
        lambda a, y: ((y @ ROTATION / a).asinh() / a) @ ROTATION.T,
        _cosh_gradient,
    ),
}


def arguments(batch: int = 2) -> tuple[Tensor, Tensor]:
    a = (0.7 + torch.rand(N).double()).requires_grad_()
    return a, torch.randn(batch, N).double().requires_grad_()


def captured(problem: ClosedForm, a: Tensor, y: Tensor) -> Tensor:
    return ImplicitSolution(tol=1e-14).attach(
        lambda x, y: problem.gradient(x, a, y), problem.exact(a, y), (y,), (a,)
    )


FORMS: dict[str, Callable[[Minimiser], Minimiser]] = {
    "leaves": lambda f: f,
    "an input computed from another": lambda f: lambda a, y: f(a, y * a.sum()),
    "a minimiser of a minimiser": lambda f: lambda a, y: f(a, f(a, y)),
}
PASSED: dict[str, Callable[[ClosedForm], Minimiser]] = {
    "inputs": lambda problem: lambda a, y: problem.attached(a, y)[0],
    "captured": lambda problem: lambda a, y: captured(problem, a, y),
}


def derivatives(function: Minimiser, a: Tensor, y: Tensor, orders: int) -> list[Tensor]:
    """Of a sum of cubes, then of a random combination of its derivatives, and so on."""
    generator = torch.Generator().manual_seed(2)
    results, value = [], function(a, y).pow(3).sum()
    for _ in range(orders):
        parts = torch.autograd.grad(value, (a, y), create_graph=True)
        results.append(torch.cat([part.flatten().double() for part in parts]))
        value = torch.randn(results[-1].shape, generator=generator).double() @ results[-1]
    return results


@over("form", FORMS)
@over("passed", PASSED)
@over("problem", PROBLEMS)
def test_derivatives_of_order_one_two_and_three(problem, passed, form) -> None:
    a, y = arguments()
    expected = derivatives(form(problem.exact), a, y, 3)
    measured = derivatives(form(passed(problem)), a, y, 3)
    for one, other in zip(measured, expected, strict=True):
        assert (one - other).norm() <= 1e-10 * other.norm()


@over("problem", PROBLEMS)
def test_the_norm_of_a_jacobian_is_what_deepinv_finds(problem: ClosedForm) -> None:
    """It differentiates twice to find it, and a third time to train with it."""
    a, y = arguments(1)
    exact = torch.linalg.matrix_norm(jacobian(lambda y: problem.exact(a.detach(), y), y), 2)
    results = []
    for function in (problem.exact, lambda a, y: problem.attached(a, y)[0]):
        torch.manual_seed(0)
        norm = JacobianSpectralNorm(max_iter=100, tol=1e-10)(function(a, y), y)
        results.append((norm, *torch.autograd.grad(norm, (a, y), allow_unused=True)))
    assert float(results[1][0].detach()) == pytest.approx(float(exact), rel=1e-6)
    torch.testing.assert_close(results[1][1], results[0][1])
    if results[0][2] is not None:  # the Jacobian of a quadratic's minimiser is constant
        torch.testing.assert_close(results[1][2], results[0][2])


@over("problem", PROBLEMS)
def test_a_graph_that_is_kept_gives_the_same_again(problem: ClosedForm) -> None:
    a, y = arguments()
    x, _ = problem.attached(a, y)
    first, second = (torch.autograd.grad(x.sum(), (a, y), retain_graph=True) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


def test_an_input_given_twice_counts_twice() -> None:
    a = arguments()[0]
    y = a.detach().clone().requires_grad_()

    def gradient(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return 2 * x - first * second - y.sinh()

    x = ImplicitSolution().attach(
        gradient, ((y * y + y.sinh()) / 2)[None], (y[None], y[None]), (y, y)
    )
    (grad,) = torch.autograd.grad(x.sum(), y)
    torch.testing.assert_close(grad, y.detach() + y.detach().cosh() / 2)


def test_parameters_that_are_computed_from_one_another_are_refused() -> None:
    a, y = arguments()
    b = (a * 2).relu()
    implicit = ImplicitSolution()
    assert implicit.attach(lambda x, y: 3 * x - y - b, y, (y,), (b,)).requires_grad
    with pytest.raises(ValueError, match="computed from another"):
        implicit.attach(lambda x, y: 3 * x - y - a * b, y, (y,), (a, b))


def test_where_nothing_is_differentiated_the_minimiser_comes_back() -> None:
    a, y = arguments()
    problem = PROBLEMS["cosh"]
    exact = problem.exact(a, y).detach()
    with torch.no_grad():
        without = problem.attached(a, y)[0]
    with torch.inference_mode():
        inference = problem.attached(a, y)[0]
    for x in (without, inference, problem.attached(a.detach(), y.detach())[0]):
        assert torch.equal(x, exact)
        assert not x.requires_grad
    # what was made in inference mode is a constant like others
    with torch.inference_mode():
        made = y.detach().clone()
    x = ImplicitSolution(tol=1e-14).attach(problem.gradient, inference, (a, made))
    expected = torch.autograd.grad(problem.exact(a, y).sum(), a)
    torch.testing.assert_close(torch.autograd.grad(x.sum(), a), expected)


def test_inputs_may_be_anything_and_the_unused_have_no_derivative() -> None:
    a, y = arguments()
    x = ImplicitSolution().attach(
        lambda x, factor, y, nothing, a: factor * x - y, y / 2, (2.0, y, None, a)
    )
    grads = torch.autograd.grad(x.sum(), (a, y), allow_unused=True)
    assert grads[0] is None
    torch.testing.assert_close(grads[1], torch.full_like(y, 0.5))


def test_changing_the_result_or_what_was_given_is_noticed_or_harmless() -> None:
    a, y = arguments()
    minimiser = PROBLEMS["cosh"].exact(a, y).detach()
    x, _ = PROBLEMS["cosh"].attached(a, y)
    expected = torch.autograd.grad((2 * x).sum(), a, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(x.mul_(2).sum(), a), expected)
    assert torch.equal(minimiser, PROBLEMS["cosh"].exact(a, y))
    x, _ = PROBLEMS["cosh"].attached(a, y)
    with torch.no_grad():
        y += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        x.sum().backward()


@pytest.mark.parametrize("order", [1, 2])
def test_a_gradient_may_be_in_another_precision(order: int) -> None:
    """Images and parameters in float32, a gradient in float64."""
    a, y = arguments()
    problem = PROBLEMS["quadratic"]
    low_a, low_y = (t.detach().float().requires_grad_() for t in (a, y))

    def attached(a: Tensor, y: Tensor) -> Tensor:
        minimiser = problem.exact(a.double(), y.double()).float()
        gradient = lambda x, a, y: problem.gradient(x.double(), a.double(), y.double())  # noqa: E731
        return ImplicitSolution().attach(gradient, minimiser, (a, y))

    measured = derivatives(lambda a, y: attached(a, y).double(), low_a, low_y, order)[-1]
    expected = derivatives(problem.exact, a, y, order)[-1]
    assert (measured - expected).norm() <= 1e-5 * expected.norm()


def test_autocast_changes_nothing() -> None:
    a, y = (t.detach().float().requires_grad_() for t in arguments())
    rotation = ROTATION.float()

    def gradient(x: Tensor, a: Tensor, y: Tensor) -> Tensor:
        return (a * (a * (x @ rotation)).sinh()) @ rotation.T - y

    x = ImplicitSolution().attach(gradient, torch.zeros_like(y), (a, y))
    expected = torch.autograd.grad(x.sum(), (a, y), retain_graph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        measured = torch.autograd.grad(x.sum(), (a, y))
    for one, other in zip(measured, expected, strict=True):
        assert torch.equal(one, other)


@over("problem", PROBLEMS)
def test_what_is_reported_is_the_first_solve(problem: ClosedForm) -> None:
    a, y = arguments(3)
    x, implicit = problem.attached(a, y, tol=1e-3)
    (grad,) = torch.autograd.grad((torch.randn_like(y) * x).sum(), y, create_graph=True)
    first = implicit.residual
    assert first is not None
    assert first.shape == (3,)
    assert (first <= 1e-3).all()
    assert implicit.iterations > 0
    grad.pow(3).sum().backward()
    assert implicit.residual is first
