"""What a solve tells: progress, certificates and solutions that are light and say only what is known."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass, fields

import pytest
import torch
from torch import Tensor

from convexreg.solvers import (
    FISTA,
    OGMG,
    Backtracking,
    Box,
    Certificate,
    FreeFISTA,
    GradientDescent,
    Objective,
    Progress,
    QuasiNewton,
    Solver,
    SolverError,
    certify,
    minimise,
)
from convexreg.solvers.certificates import certificate_after_step
from tests.problems import SOLVERS, UNIT, Quadratic, SolverCase, quadratic, spectra
from tests.tables import over


@over("case", SOLVERS)
def test_progress_that_is_kept_keeps_images_and_numbers_only(case: SolverCase) -> None:
    problem = quadratic(spectra(4, 6, (1.2, 50.0)), Box())
    states: list[weakref.ref] = []

    class Watched(Solver):
        def init(self, objective: Objective, x: Tensor, box: Box):
            return case.solver.init(objective, x, box)

        def step(self, objective: Objective, state, box: Box):
            state = case.solver.step(objective, state, box)
            states.append(weakref.ref(state))
            return state

    history: list[Progress] = []
    minimise(problem.objective, problem.x0, Watched(), gtol=1e-4, callback=history.append)
    gc.collect()
    assert not [state for state in states if state() is not None]
    for number, progress in enumerate(history):
        assert progress.iteration == number + 1
        for field in fields(progress):
            part = getattr(progress, field.name)
            if isinstance(part, Tensor):
                assert part.shape == ((4, 6) if field.name == "x" else (4,)), field.name
            else:
                assert part is None or isinstance(part, (int, float)), field.name
        value = problem.objective.value(progress.x)
        if progress.value is not None:
            torch.testing.assert_close(progress.value, value)
    assert (history[0].value is None) == isinstance(case.solver, FISTA)


def test_results_are_described_without_a_dump() -> None:
    problem = quadratic(spectra(3, 6, (5.0,)), Box())
    solution = minimise(problem.objective, problem.x0, QuasiNewton(), gap_tol=1e-6)
    assert solution.converged is True
    assert "3 CONVERGED" in repr(solution)
    assert "float64" in repr(solution.certificate)
    short = minimise(problem.objective, problem.x0, FISTA(), gap_tol=1e-9, max_iter=2)
    assert short.converged is False
    assert "3 MAX_ITERATIONS; 2 iterations" in repr(short)
    for text in (repr(solution), repr(short), repr(short.certificate)):
        assert "tensor" not in text
        assert len(text) < 200


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@over("case", SOLVERS)
def test_certificates_say_their_precision(case: SolverCase, dtype: torch.dtype) -> None:
    problem = quadratic(spectra(2, 6, (5.0,)), Box())
    assert isinstance(problem.objective, Quadratic)
    objective = problem.objective.to(dtype)
    solution = minimise(objective, problem.x0.to(dtype), case.solver, gap_tol=1e-2)
    assert solution.certificate.dtype == dtype
    assert certify(objective, solution.x).dtype == dtype


@pytest.mark.parametrize("mu", [0.0, 0.5])
@pytest.mark.parametrize("box", [Box(), UNIT], ids=["free", "unit"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["point", "gradient", "value"])
def test_what_is_not_finite_has_no_gap(where: str, number: float, box: Box, mu: float) -> None:
    """Of that image; a gradient of zero elsewhere does not make it optimal."""

    class Flat(Objective):
        def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
            value, grad = x.new_ones(len(x), dtype=torch.float64), torch.zeros_like(x)
            if where == "gradient":
                grad[0, 0] = number
            if where == "value":
                value[0] = number
            return value, grad

        def lipschitz(self, x: Tensor) -> Tensor:
            return torch.ones(()).double()

        def strong_convexity(self, x: Tensor) -> Tensor:
            return torch.tensor(mu).double()

    x = torch.full((2, 3), 0.5).double()
    if where == "point":
        x[0, 0] = number
    if where == "point" and number == float("inf") and not box.everything:
        with pytest.raises(ValueError, match="not in the box"):
            certify(Flat(), x, box)
        return
    certificate = certify(Flat(), x, box)
    value, grad = Flat().value_and_grad(x)
    one = torch.ones(2).double()
    stepped = certificate_after_step(value, grad, x, box.project(x - grad), one, mu * one, box)
    for found in (certificate, stepped):
        assert found.gap.isnan().tolist() == [True, False]
        assert found.relative_gap.isnan().tolist() == [True, False]
        assert found.gap[1] == found.relative_gap[1] == 0


def test_a_relative_gap_of_unknowns_is_unknown() -> None:
    gap = torch.tensor([float("nan"), 0.0, 1.0, float("inf"), 1.0, 0.0]).double()
    lower = torch.tensor([1.0, -1.0, -1.0, -float("inf"), 2.0, float("nan")]).double()
    relative = Certificate(gap, lower, gap, torch.float64).relative_gap
    expected = torch.tensor([float("nan"), 0.0, float("inf"), float("inf"), 0.5, float("nan")])
    torch.testing.assert_close(relative, expected.double(), equal_nan=True)


def test_solvers_describe_themselves_and_claim_nothing_for_others() -> None:
    @dataclass(frozen=True)
    class Mine(Solver):
        backtracking: Backtracking | None = None

        def init(self, objective: Objective, x: Tensor, box: Box):
            raise NotImplementedError

        step = init

    assert {solver.description for solver in (GradientDescent(), FISTA(), OGMG())} == {
        f"{name} with the proven step 1/L" for name in ("GradientDescent", "FISTA", "OGMG")
    }
    assert FISTA(Backtracking()).description == "FISTA with backtracking"
    assert GradientDescent(Backtracking()).description == "GradientDescent with backtracking"
    assert FreeFISTA().description == "FreeFISTA with backtracking"
    assert QuasiNewton().description == "QuasiNewton, line search, no bound on |A| needed"
    assert Mine().description == Mine(Backtracking()).description == "Mine"


def test_an_objective_checks_itself_once_before_the_first_iteration() -> None:
    class Suspicious(Quadratic):
        def check(self, x: Tensor) -> None:
            seen.append(x)
            if len(seen) > 1:
                raise ValueError("the gradient is not that of the value")

    seen: list[Tensor] = []
    problem = quadratic(spectra(2, 6, (5.0,)), UNIT)
    objective = Suspicious(*vars(problem.objective).values())
    minimise(objective, problem.x0 + 1, QuasiNewton(), box=UNIT, gtol=1e-4)
    assert torch.equal(*seen, UNIT.project(problem.x0 + 1))
    with pytest.raises(ValueError, match="not that of the value"):
        minimise(objective, problem.x0, QuasiNewton(), gtol=1e-4)


def test_a_failed_solve_says_which_images() -> None:
    problem = quadratic(spectra(2, 6, (5.0,)), Box())
    assert isinstance(problem.objective, Quadratic)
    problem.objective.slope[1, 0] = float("nan")
    with pytest.raises(SolverError, match=r"NOT_FINITE for image\(s\) \[1\]") as error:
        minimise(problem.objective, problem.x0, QuasiNewton(), gtol=1e-4)
    assert not error.value.solution.converged
