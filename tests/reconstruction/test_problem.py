"""The variational problem: what it offers, against dense linear algebra."""

from __future__ import annotations

import deepinv
import pytest
import torch
from torch import Tensor

from convexreg.networks.base import with_tensors
from convexreg.reconstruction.defaults import ANCHOR, Tolerance
from convexreg.reconstruction.problem import Problem, proximal_problem
from convexreg.solvers import Box, PrecisionError, data_term
from tests.oracles import jacobian
from tests.problems import scenes, small_regularizer

SIGMA = 0.1


def blur() -> deepinv.physics.Blur:
    kernel = torch.tensor([[1.0, 2.0, 0.0], [2.0, 6.0, 1.0], [0.0, 1.0, 1.0]]).double()
    return deepinv.physics.Blur((kernel / kernel.sum())[None, None], padding="circular")


def posed(count: int = 2, box: Box | None = None) -> tuple[Problem, Tensor]:
    physics = blur()
    y = physics.A(scenes(count, 6, 7)) + 0.05 * torch.randn(count, 1, 6, 7).double()
    problem = Problem(data_term(physics, y), small_regularizer(), SIGMA, 0.3, box=box or Box())
    return problem.anchored(y), y


def test_the_objective_is_the_sum_of_its_parts() -> None:
    problem, y = posed()
    x = torch.rand_like(y)
    misfit = (blur().A(x) - y).flatten(1).square().sum(1) / 2
    energy = problem.regularizer.term(SIGMA).value(x)
    distance = (x - y).flatten(1).square().sum(1) / 2
    torch.testing.assert_close(
        problem.objective.value(x), misfit + 0.3 * energy + ANCHOR * distance
    )
    doubled = problem.with_weight(torch.tensor([0.6, 0.0]))
    expected = misfit + torch.tensor([0.6, 0.0]) * energy + ANCHOR * distance
    torch.testing.assert_close(doubled.objective.value(x), expected)
    assert doubled.data is problem.data


def test_the_anchor_is_there_where_nothing_else_makes_a_minimiser_unique() -> None:
    problem, y = posed()
    assert problem.anchor == ANCHOR
    denoising = proximal_problem(y, small_regularizer(), SIGMA)
    assert denoising.anchored(y).anchor == 0
    assert problem.anchored(y, 0.5).anchor == 0.5
    assert problem.tolerances(Tolerance(), y) == (1e-2, None)
    assert denoising.tolerances(Tolerance(), y) == (1e-3, None)
    assert problem.anchored(y, 0.0).tolerances(Tolerance(), y) == (None, 1e-5)
    assert problem.tolerances(Tolerance(gtol=0.1), y) == (None, 0.1)


def test_in_float64_it_is_the_same_problem() -> None:
    problem, y = posed()
    single = with_tensors(small_regularizer(), lambda tensor: tensor.float())
    physics = blur().float()
    here = Problem(data_term(physics, y.float()), single, SIGMA).anchored(y.float())
    exact = here.exact(y.float())
    x = torch.rand_like(y)
    assert exact.objective.grad(x).dtype == torch.float64
    torch.testing.assert_close(
        exact.objective.value(x), here.objective.value(x.float()), rtol=1e-5, atol=0
    )
    assert physics.filter.dtype == torch.float32
    with pytest.raises(PrecisionError, match="no float64 version"):
        Problem(problem.objective, single, SIGMA).exact(y)


@pytest.mark.parametrize("box", [Box(), Box(0.3, 0.6)], ids=["free", "box"])
def test_the_inverse_hessian_is_the_dense_one(box: Box) -> None:
    problem, y = posed(1, box)
    x = problem.minimise(y, tolerance=Tolerance(gtol=1e-10), max_iter=3000).x
    hessian = jacobian(problem.objective.grad, x)
    free = ((x > box.lower) & (x < box.upper)).flatten()
    assert free.any()
    v = torch.randn_like(x)
    expected = torch.zeros_like(v).flatten()
    expected[free] = torch.linalg.solve(hessian[free][:, free], v.flatten()[free])
    found = problem.inverse_hessian(x, v, tol=1e-12, max_iter=1000).solution.flatten()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_refinement_is_a_newton_step() -> None:
    problem, y = posed()
    rough = problem.minimise(y, tolerance=Tolerance(gtol=1e-5)).x
    refined = problem.refined(rough)
    before, after = (problem.objective.grad(x).norm() for x in (rough, refined))
    assert after < 0.02 * before


def test_derivatives_in_everything_the_problem_depends_on() -> None:
    """Of the first and the second order, against dense Newton steps from the minimiser."""
    regularizer, physics = small_regularizer(), blur()
    y = physics.A(scenes(1, 5, 6)) + 0.05 * torch.randn(1, 1, 5, 6).double()
    numbers = torch.tensor([0.3, SIGMA]).double()
    parameters = dict(regularizer.named_parameters())
    name = next(key for key in parameters if "kernels" in key)

    def problem(y: Tensor, centre: Tensor, numbers: Tensor, kernels: Tensor) -> Problem:
        changed = with_tensors(
            regularizer, lambda tensor: kernels if tensor is parameters[name] else tensor
        )
        lam, sigma = numbers.unbind()
        return Problem(data_term(physics, y), changed, sigma, lam, 0.1, centre)

    inputs = [y, torch.rand_like(y), numbers, parameters[name].detach().clone()]
    start = problem(*inputs).minimise(y, tolerance=Tolerance(gtol=1e-9), max_iter=3000).x
    for _ in range(2):
        start = problem(*inputs).refined(start)
    weight = torch.rand_like(y)

    def outcome(x: Tensor) -> Tensor:
        return (weight * x**3).sum()

    def newton(*inputs: Tensor) -> Tensor:
        """Two steps from the minimiser: exact to the third order."""
        here, x = problem(*inputs), start
        for _ in range(2):
            point = x if x.requires_grad else x.clone().requires_grad_()
            grad = here.objective.grad(point)
            rows = [
                torch.autograd.grad(grad.flatten()[i], point, create_graph=True)[0].flatten()
                for i in range(point.numel())
            ]
            x = point - torch.linalg.solve(torch.stack(rows), grad.flatten()).reshape(point.shape)
        return x

    directions = [torch.randn_like(item) for item in inputs]

    def orders(solution) -> tuple[list[Tensor], list[Tensor]]:
        points = [item.clone().requires_grad_() for item in inputs]
        first = torch.autograd.grad(outcome(solution(*points)), points, create_graph=True)
        product = sum((g * d).sum() for g, d in zip(first, directions, strict=True))
        assert isinstance(product, Tensor)
        second = torch.autograd.grad(product, points)
        return [g.detach() for g in first], list(second)

    def implicit(*inputs: Tensor) -> Tensor:
        from convexreg.solvers import ImplicitSolution

        derivative = ImplicitSolution(tol=1e-11, max_iter=2000)
        return problem(*inputs).differentiable(start, derivative)

    for found, expected in zip(orders(implicit), orders(newton), strict=True):
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_a_box_has_no_derivative() -> None:
    problem, y = posed(1, Box(0, 1))
    point = y.clone().requires_grad_()
    boxed = Problem(data_term(blur(), point), problem.regularizer, SIGMA, box=Box(0, 1))
    with pytest.raises(ValueError, match="without a box"):
        boxed.differentiable(y)
    with torch.no_grad():
        assert boxed.differentiable(y) is y
