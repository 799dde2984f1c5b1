"""Data terms and their sums: gradients, constants, subsets."""

from __future__ import annotations

import pytest
import torch
from deepinv import physics
from deepinv.optim.data_fidelity import L1
from deepinv.optim.data_fidelity import PoissonLikelihood as PoissonFidelity

from convexreg.solvers import Box, LeastSquares, Proximity, Sum, data_term, operator_bounds
from tests.oracles import gradient, jacobian, matrix
from tests.physics import GRAY, PHYSICS, PhysicsCase, kernel
from tests.problems import Quadratic, denoising, quadratic, spectra
from tests.tables import over


@over("case", PHYSICS)
def test_least_squares(case: PhysicsCase) -> None:
    """The gradient is the derivative of the value (so deepinv's adjoint is one); both constants hold."""
    operator = case.build().double()
    x = torch.rand(2, *case.shape).double()
    y = operator.A(torch.rand_like(x))
    bounds = operator_bounds(operator, x)
    term = LeastSquares(operator, y, bounds)
    value, grad = term.value_and_grad(x)
    assert value.dtype == torch.float64
    assert value.shape == (2,)
    residual = operator.A(x) - y
    torch.testing.assert_close(value, residual.flatten(1).square().sum(1) / 2)
    torch.testing.assert_close(term.value(x), value)
    torch.testing.assert_close(grad, gradient(term.value, x), rtol=1e-6, atol=1e-6)
    other = torch.rand_like(x)
    difference = grad - term.value_and_grad(other)[1]
    stretch = difference.flatten(1).norm(dim=1) / (x - other).flatten(1).norm(dim=1)
    assert (stretch <= term.lipschitz(x)).all()
    assert (stretch >= term.strong_convexity(x) - 1e-6).all()


@over("case", PHYSICS)
def test_products_with_the_hessian(case: PhysicsCase) -> None:
    operator = case.build().double()
    x = torch.rand(1, *case.shape).double()
    term = LeastSquares(operator, operator.A(x), sigma=0.5)
    dense = matrix(operator.A, case.shape)
    products = matrix(lambda basis: term.hessian_product(x, basis), case.shape)
    torch.testing.assert_close(products, 4 * dense.T @ dense, rtol=1e-5, atol=1e-5)


FIDELITIES = {
    "least-squares": lambda: None,
    "counts": lambda: PoissonFidelity(gain=0.1, bkg=0.5),
    "l1": L1,
}


@over("fidelity", FIDELITIES)
def test_a_subset_is_the_term_of_those_images(fidelity) -> None:
    operator = physics.Blur(kernel(3, 3, positive=True), padding="circular").double()
    x, y = torch.rand(2, 3, *GRAY).double().unbind()
    term, index = data_term(operator, y, fidelity()), torch.tensor([2, 0])
    part = term.subset(index)
    assert part is not None
    value, grad = term.value_and_grad(x)
    torch.testing.assert_close(part.value_and_grad(x[index]), (value[index], grad[index]))
    whole = term.lipschitz(x).expand(3)[index]
    torch.testing.assert_close(part.lipschitz(x[index]).expand(2), whole)
    curvature, less = term.curvature(x), part.curvature(x[index])
    assert curvature is not None
    assert less is not None
    for one, other in ((curvature.symbol, less.symbol), (curvature.diagonal, less.diagonal)):
        shape = (3, *one.shape[1:])
        torch.testing.assert_close(one.expand(shape)[index], other.expand(2, *shape[1:]))


def test_an_operator_with_a_mask_per_image_has_no_subset() -> None:
    operator = physics.Inpainting(GRAY, mask=(torch.rand(3, *GRAY) > 0.5).double())
    y = operator.A(torch.rand(3, *GRAY).double())
    assert data_term(operator, y).subset(torch.tensor([2, 0])) is None


def test_proximity() -> None:
    x, y = torch.rand(2, 3, 1, 4, 5).double().unbind()
    term = Proximity(y)
    value, grad = term.value_and_grad(x)
    torch.testing.assert_close(value, (x - y).flatten(1).square().sum(1) / 2)
    torch.testing.assert_close(term.value(x), value)
    torch.testing.assert_close(grad, gradient(term.value, x))
    dense = jacobian(lambda p: Proximity(y[:1]).value_and_grad(p)[1], x[:1])
    torch.testing.assert_close(dense, torch.eye(20).double())
    assert float(term.lipschitz(x)) == float(term.strong_convexity(x)) == 1


def test_sums_add_up() -> None:
    problem = denoising("mgradnet-m", Box())
    objective = problem.objective
    assert isinstance(objective, Sum)
    x = torch.rand_like(problem.x0)
    value, grad = objective.value_and_grad(x)
    torch.testing.assert_close(objective.value(x), value)
    expected = sum(
        c.expand(3) * term.value(x)
        for c, term in zip(objective.coefficients, objective.terms, strict=True)
    )
    torch.testing.assert_close(value, expected)
    point = x.clone().requires_grad_()
    (derivative,) = torch.autograd.grad(objective.value(point).sum(), point)
    torch.testing.assert_close(grad, derivative)
    with pytest.raises(ValueError, match="nonnegative"):
        Sum(objective.terms, [1.0, -0.1])
    with pytest.raises(ValueError, match="nonnegative"):
        Sum(objective.terms, [1.0, float("nan")])


def test_a_term_of_weight_zero_does_not_need_a_constant() -> None:
    problem = quadratic(spectra(2, 6, (5.0,)), Box())
    rough = quadratic(spectra(2, 6, (5.0,)), Box()).objective
    assert isinstance(rough, Quadratic)
    rough.largest = torch.full((2,), float("inf")).double()
    combined = Sum([problem.objective, rough], [1.0, 0.0])
    torch.testing.assert_close(
        combined.lipschitz(problem.x0), problem.objective.lipschitz(problem.x0)
    )
    half = Sum([problem.objective, rough], [1.0, torch.tensor([0.0, 1.0])])
    assert torch.isinf(half.lipschitz(problem.x0)).tolist() == [False, True]


def test_complex_measurements_are_refused() -> None:
    y = torch.ones(1, *GRAY, dtype=torch.complex128)
    with pytest.raises(ValueError, match="real and imaginary part"):
        LeastSquares(physics.Denoising(), y, operator_bounds(physics.Denoising(), y.real))
