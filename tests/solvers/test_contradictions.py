"""Evaluations that contradict what is stated of the objective are found out, honest ones never accused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from deepinv.physics import Blur
from torch import Tensor

from convexreg.solvers import (
    FISTA,
    OGMG,
    Box,
    GradientDescent,
    LeastSquares,
    Objective,
    PoissonLikelihood,
    SolverError,
    Status,
    minimise,
    operator_bounds,
)
from convexreg.solvers.batch import inner, rms
from convexreg.solvers.contradictions import Evaluation, contradict
from tests.problems import (
    SOLVERS,
    UNIT,
    Quadratic,
    SolverCase,
    quadratic,
    scenes,
    spectra,
    spectrum_matrix,
)
from tests.solvers.faults import Faulty
from tests.tables import over

ALL_SOLVERS = SOLVERS | {"ogm-g": SolverCase(OGMG(20))}
FIXED = {name: ALL_SOLVERS[name] for name in ("gd", "fista", "ogm-g")}
SEARCHED = {name: SOLVERS[name] for name in ("gd-search", "fista-search", "quasi-newton")}


@pytest.mark.parametrize("ratio", [0.99, 1.01])
def test_two_points_of_a_parabola_tell_its_constant(ratio: float) -> None:
    """`c x^2 / 2` contradicts the constant `L` exactly where `c > L`."""
    lipschitz = torch.tensor([0.1, 1.0, 30.0]).double()
    a, b = torch.randn(2, 3, 1).double().unbind()
    curvature = ratio * lipschitz

    def at(x: Tensor) -> Evaluation:
        return Evaluation(x, curvature * inner(x, x) / 2, curvature.unsqueeze(1) * x)

    assert contradict(at(a), at(b), lipschitz).tolist() == [ratio > 1] * 3
    assert contradict(at(b), at(a), lipschitz).tolist() == [ratio > 1] * 3


@pytest.mark.parametrize("name", ["gd", "fista"])
@pytest.mark.parametrize("factor", [0.2, 0.02])
def test_a_wrong_lipschitz_constant_is_found_out(name: str, factor: float) -> None:
    problem = quadratic(spectra(3, 6, (20.0,)), Box(), stated_mu=False)
    lying = problem.objective
    assert isinstance(lying, Quadratic)
    lying.largest = lying.largest * torch.tensor([1.0, factor, 1.0]).double()
    options = {"gtol": 1e-3, "max_iter": 2000}
    solution = minimise(lying, problem.x0, SOLVERS[name].solver, throw=False, **options)
    assert solution.status.tolist() == [Status.CONVERGED, Status.BOUND_VIOLATED, Status.CONVERGED]
    assert torch.isfinite(solution.x).all()
    with pytest.raises(SolverError, match=r"BOUND_VIOLATED for image\(s\) \[1\].*backtracking"):
        minimise(lying, problem.x0, SOLVERS[name].solver, **options)


@pytest.mark.parametrize("kind", ["noise-free", "counts"])
@pytest.mark.parametrize("solver", [GradientDescent(), FISTA(), OGMG()], ids=repr)
def test_rounding_is_not_taken_for_a_wrong_constant(solver, kind: str) -> None:
    """In float32 where data are met to rounding, and where terms of the size of the counts cancel."""
    kernel = torch.rand(1, 1, 5, 5)
    physics = Blur(filter=kernel / kernel.sum(), padding="circular")
    clean = scenes(2, 16, 16).float()
    bounds, y = operator_bounds(physics, clean), physics.A(clean)
    counts, x0 = torch.poisson(1e4 * y + 1e3), torch.full_like(clean, 0.3)

    def solve(factor: float) -> set[int]:
        stated = replace(bounds, largest=factor * bounds.largest)
        objective = (
            LeastSquares(physics, y, stated)
            if kind == "noise-free"
            else PoissonLikelihood(physics, counts, stated, gain=1e-4, background=1e3)
        )
        solution = minimise(objective, x0, solver, gtol=1e-12, max_iter=400, throw=False)
        return set(solution.status.tolist())

    assert Status.BOUND_VIOLATED not in solve(1.0)
    # the constant of counts allows for pixels at the background, a thousand times as curved
    assert solve(0.1 if kind == "noise-free" else 1e-4) == {Status.BOUND_VIOLATED}


@pytest.mark.parametrize("known", [True, False], ids=["L-known", "L-unknown"])
@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 2.0])
@over("case", FIXED | SEARCHED)
def test_a_scaled_adjoint_is_found_out(case: SolverCase, factor: float, known: bool) -> None:
    """`|A x - y|^2 / 2 + |x|^2 / 20` with `c A^T` for `A^T`: the gradient of another convex function."""
    known = known or case in FIXED.values()
    matrix, y = torch.randn(3, 6, 6).double() / 6**0.5, 1 + torch.randn(3, 6).double()
    largest = torch.linalg.matrix_norm(matrix, 2) ** 2 * max(factor, 1) + 0.1

    class Scaled(Objective):
        def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
            residual = (matrix @ x.unsqueeze(2)).squeeze(2) - y
            grad = factor * (matrix.mT @ residual.unsqueeze(2)).squeeze(2) + x / 10
            return inner(residual, residual) / 2 + inner(x, x) / 20, grad

        def lipschitz(self, x: Tensor) -> Tensor:
            return largest if known else torch.full_like(largest, float("inf"))

        def strong_convexity(self, x: Tensor) -> Tensor:
            return torch.full_like(largest, 0.1)

    solution = minimise(
        Scaled(), torch.zeros(3, 6).double(), case.solver, gtol=1e-9, max_iter=5000, throw=False
    )
    assert (solution.status == Status.BOUND_VIOLATED).all()


@over("case", FIXED | {"quasi-newton": SOLVERS["quasi-newton"]})
def test_a_gradient_in_another_order_is_found_out(case: SolverCase) -> None:
    problem = quadratic(spectra(2, 6, (50.0,)), Box(), stated_mu=False)
    faulty = Faulty(problem.objective, 0, lambda value, grad: (value, grad.roll(1, 1)))
    solution = minimise(faulty, problem.x0, case.solver, gtol=1e-8, max_iter=5000, throw=False)
    assert (solution.status == Status.BOUND_VIOLATED).all()


@pytest.mark.parametrize("known", [True, False], ids=["L-known", "L-unknown"])
@over("case", FIXED | {"quasi-newton": SOLVERS["quasi-newton"]})
def test_what_is_not_convex_is_found_out(case: SolverCase, known: bool) -> None:
    """`sum sqrt(1 + x^2) + cos(3 x)` claims to be convex; its curvature at the start is negative."""
    known = known or case in FIXED.values()

    class Wavy(Objective):
        def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
            root = (1 + x.square()).sqrt()
            value = (root + torch.cos(3 * x)).sum(1, dtype=torch.float64)
            return 50 + value, x / root - 3 * torch.sin(3 * x)

        def lipschitz(self, x: Tensor) -> Tensor:
            return torch.tensor(10.0 if known else float("inf")).double()

        def strong_convexity(self, x: Tensor) -> Tensor:
            return torch.zeros(()).double()

    x0 = 0.02 + 0.1 * torch.rand(3, 5).double()
    solution = minimise(Wavy(), x0, case.solver, gtol=1e-6, throw=False)
    assert (solution.status == Status.BOUND_VIOLATED).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("box", [Box(), UNIT], ids=["free", "unit"])
@pytest.mark.parametrize("condition", [20.0, 1e3, 1e6])
@over("case", ALL_SOLVERS)
def test_no_false_alarm_of_a_violated_bound(
    case: SolverCase, condition: float, box: Box, dtype: torch.dtype
) -> None:
    """Thousands of honest problems run far beyond what rounding lets them improve."""
    if isinstance(case.solver, OGMG) and not box.everything:
        pytest.skip("OGM-G has no box")
    problem = quadratic(spectra(500, 6, (1.5, condition)), box)
    assert isinstance(problem.objective, Quadratic)
    solution = minimise(
        problem.objective.to(dtype),
        problem.x0.to(dtype),
        case.solver,
        box=box,
        gtol=1e-30,
        max_iter=150,
        throw=False,
    )
    assert not (solution.status == Status.BOUND_VIOLATED).any()


class Fit(Objective):
    """`c (|B x - y|^2 / 2 + t sum (sqrt(1 + x^2) - 1))`, one matrix, data and scale per image."""

    def __init__(
        self, matrix: Tensor, y: Tensor, scale: Tensor, weight: float, known: bool
    ) -> None:
        self.matrix, self.y, self.scale, self.weight, self.known = matrix, y, scale, weight, known

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        residual = (self.matrix @ x.unsqueeze(2)).squeeze(2) - self.y
        root = (1 + x.square()).sqrt()
        back = (self.matrix.mT @ residual.unsqueeze(2)).squeeze(2)
        value = inner(residual, residual) / 2 + self.weight * inner(x, x / (1 + root))
        factor = self.scale.to(x.dtype).unsqueeze(1)
        return self.scale * value, factor * (back + self.weight * x / root)

    def lipschitz(self, x: Tensor) -> Tensor:
        norm = torch.linalg.matrix_norm(self.matrix.double(), 2)
        bound = self.scale * (norm**2 + self.weight) * (1 + 1e-5)
        return bound if self.known else torch.full_like(bound, float("inf"))

    def strong_convexity(self, x: Tensor) -> Tensor:
        return torch.zeros_like(self.scale)

    def subset(self, index: Tensor) -> Fit:
        return Fit(self.matrix[index], self.y[index], self.scale[index], self.weight, self.known)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("known", [True, False], ids=["L-known", "L-unknown"])
@pytest.mark.parametrize("weight", [0.0, 1e-3, 1.0])
@over("case", ALL_SOLVERS)
def test_honest_fits_are_never_accused(
    case: SolverCase, weight: float, known: bool, dtype: torch.dtype
) -> None:
    """300 at a time, 19,000 in all: values large and tiny, conditions of `B^T B` up to 1e8, data met exactly
    or not at all, starts near the solution and far from it, all solved until they stagnate."""
    batch, size = 300, 8
    known = known or case in FIXED.values()
    spectrum = 10 ** (-torch.rand(batch, 1) * 4 * torch.rand(batch, size)).double()
    matrix = spectrum_matrix(spectrum) * 10 ** torch.empty(batch, 1, 1).uniform_(-2, 2).double()
    truth = torch.randn(batch, size).double() * 10 ** torch.empty(batch, 1).uniform_(-2, 2).double()
    met = torch.rand(batch, 1) < 0.5
    noise = torch.where(met, 0.0, 10 ** torch.empty(batch, 1).uniform_(-4, 2))
    matrix, truth = matrix.to(dtype), truth.to(dtype)
    image = (matrix @ truth.unsqueeze(2)).squeeze(2)
    y = image + noise.to(dtype) * torch.randn(batch, size).to(dtype) * rms(image).to(dtype)[:, None]
    scale = 10 ** torch.empty(batch).uniform_(-12, 12).double()
    near = torch.rand(batch, 1) < 0.5
    x0 = torch.where(near, truth * (1 + 1e-4 * torch.randn(batch, size).to(dtype)), -truth)
    objective = Fit(matrix, y, scale, weight, known)
    solution = minimise(objective, x0, case.solver, gtol=1e-300, max_iter=150, throw=False)
    assert not (solution.status == Status.BOUND_VIOLATED).any()
