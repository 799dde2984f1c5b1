"""How a solve can end: every status provoked, every request that makes no sense refused."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from convexreg.solvers import (
    FISTA,
    OGMG,
    Backtracking,
    Box,
    FreeFISTA,
    GradientDescent,
    Objective,
    QuasiNewton,
    SolverError,
    Status,
    certify,
    minimise,
)
from tests.problems import (
    SOLVERS,
    UNIT,
    Quadratic,
    SolverCase,
    quadratic,
    spectra,
)
from tests.solvers.faults import Faulty
from tests.tables import over

SEARCHING = {name: case for name, case in SOLVERS.items() if "search" in name}


def only_second(number: float, what: str) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Put a number into the value or the gradient of the second image."""

    def spoil(value: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        value, grad = value.clone(), grad.clone()
        if what == "value":
            value[1] = number
        else:
            grad[1, 0] = number
        return value, grad

    return spoil


@pytest.mark.parametrize("what", ["value", "gradient"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@over("case", SOLVERS)
def test_numbers_that_are_not_finite_end_that_image_only(
    case: SolverCase, number: float, what: str
) -> None:
    problem = quadratic(spectra(3, 6, (6.0,)), Box())
    options = {"gap_tol": 1e-3, "max_iter": 300}
    healthy = minimise(problem.objective, problem.x0, case.solver, **options)
    faulty = Faulty(problem.objective, 4, only_second(number, what))
    solution = minimise(faulty, problem.x0, case.solver, throw=False, **options)
    assert solution.status.tolist() == [
        Status.CONVERGED,
        Status.NOT_FINITE,
        Status.CONVERGED,
    ]
    assert torch.isfinite(solution.x).all()
    assert solution.iterations[1] < 8
    for image in (0, 2):
        if case.solver.__class__.__name__ != "QuasiNewton":  # its memory is not reset by a search
            assert torch.equal(solution.x[image], healthy.x[image])
    faulty.calls = 0
    with pytest.raises(SolverError, match=r"NOT_FINITE for image\(s\) \[1\].*NaN or infinite") as e:
        minimise(faulty, problem.x0, case.solver, **options)
    assert torch.isfinite(e.value.solution.x).all()


@over("case", SOLVERS)
def test_iteration_limit(case: SolverCase) -> None:
    problem = quadratic(spectra(2, 6, (1e5,)), Box())
    solution = minimise(problem.objective, problem.x0, case.solver, gap_tol=1e-12, max_iter=3)
    assert (solution.status == Status.MAX_ITERATIONS).all()
    assert (solution.iterations == 3).all()
    assert not (solution.status == Status.CONVERGED).any()
    assert "Raise max_iter" in Status.MAX_ITERATIONS.message
    assert not Status.MAX_ITERATIONS.failed


@over("case", SOLVERS)
def test_time_limit(case: SolverCase) -> None:
    """The iteration in which the time runs out is the last: here the first, however fast the computer."""
    problem = quadratic(spectra(2, 6, (1e5,)), Box())

    def slowly(value: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        time.sleep(0.003)
        return value, grad

    started = time.perf_counter()
    solution = minimise(
        Faulty(problem.objective, 0, slowly),
        problem.x0,
        case.solver,
        gap_tol=1e-15,
        time_limit=0.002,
    )
    assert (solution.status == Status.TIME_LIMIT).all()
    assert (solution.iterations == 1).all()
    assert 0.002 < solution.seconds < time.perf_counter() - started
    assert "time limit" in Status.TIME_LIMIT.message


@pytest.mark.parametrize("box", [Box(), UNIT], ids=["free", "unit"])
@over("case", SOLVERS)
def test_stagnation_at_rounding(case: SolverCase, box: Box) -> None:
    """A tolerance below what float32 resolves is not claimed to be reached."""
    problem = quadratic(spectra(4, 6, (10.0,)), box)
    assert isinstance(problem.objective, Quadratic)
    single = problem.objective.to(torch.float32)
    solution = minimise(
        single, problem.x0.float(), case.solver, box=box, gap_tol=1e-30, max_iter=400
    )
    stopped = {Status(int(code)) for code in solution.status}
    honest = certify(single.to(torch.float64), solution.x.double(), box)
    exact = honest.gap <= 1e-9
    assert stopped <= {Status.STAGNATED, Status.MAX_ITERATIONS, Status.CONVERGED}
    assert ((solution.status != Status.CONVERGED) | exact).all()
    if case.solver in (
        GradientDescent(),
        FISTA(),
    ):  # the others may find the minimiser, or alternate
        assert Status.STAGNATED in stopped
    assert "solve in float64" in Status.STAGNATED.message


@over("case", SOLVERS)
def test_a_step_below_rounding_is_stagnation(case: SolverCase) -> None:
    """The gradient is not zero, but in float32 no step can follow it."""
    x, ones = torch.full((2, 6), 0.75), torch.ones(2)
    matrix = torch.eye(6).expand(2, 6, 6)
    objective = Quadratic(matrix, x, torch.full_like(x, 1e-11), ones, ones / 2)
    solution = minimise(objective, x, case.solver, gap_tol=1e-30, gtol=1e-20)
    assert solution.status.tolist() == [Status.STAGNATED] * 2
    assert (solution.iterations == 1).all()
    assert torch.equal(solution.x, x)


@over("case", SOLVERS)
def test_gtol_is_not_reached_by_rounding(case: SolverCase) -> None:
    """The stationarity reported is that of the gradient, however small the step became."""
    problem = quadratic(spectra(50, 6, (10.0, 1000.0)), Box())
    assert isinstance(problem.objective, Quadratic)
    single = problem.objective.to(torch.float32)
    solution = minimise(single, problem.x0.float(), case.solver, gtol=1e-12, max_iter=200)
    grad = single.to(torch.float64).value_and_grad(solution.x.double())[1]
    true = grad.square().mean(1).sqrt()
    assert (true[solution.status == Status.CONVERGED] <= 1e-8).all()


def test_every_status_has_a_message() -> None:
    for status in Status:
        assert len(status.message) > 20
    assert {status for status in Status if status.failed} == {
        Status.NOT_FINITE,
        Status.BOUND_VIOLATED,
    }


@pytest.mark.parametrize("box", [Box(), Box(lower=0.0)], ids=["free", "nonnegative"])
@over("case", SOLVERS)
def test_gap_without_certificate_is_refused(case: SolverCase, box: Box) -> None:
    problem = quadratic(spectra(2, 6, (5.0,)), box, stated_mu=False)
    with pytest.raises(ValueError, match="gap_tol needs a certificate"):
        minimise(problem.objective, problem.x0, case.solver, box=box, gap_tol=1e-3)
    solution = minimise(
        problem.objective, problem.x0, case.solver, box=box, gap_tol=1e-3, gtol=1e-4, max_iter=5000
    )
    assert solution.converged


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give gap_tol"),
        ({"gap_tol": 0.0}, "must be positive"),
        ({"gtol": -1.0}, "must be positive"),
        ({"gtol": 1.0, "max_iter": 0}, "must be positive"),
        ({"gtol": 1.0, "time_limit": -1.0}, "time_limit must be seconds"),
        ({"gtol": 1.0, "time_limit": float("nan")}, "time_limit must be seconds"),
    ],
)
def test_requests_that_make_no_sense_are_refused(options, message: str) -> None:
    problem = quadratic(spectra(1, 3, (5.0,)), Box())
    with pytest.raises(ValueError, match=message):
        minimise(problem.objective, problem.x0, GradientDescent(), **options)


def test_starts_of_integers_or_without_an_image_are_refused() -> None:
    problem = quadratic(spectra(1, 3, (5.0,)), Box())
    for x0 in (problem.x0.long(), problem.x0[:0]):
        with pytest.raises(ValueError, match="floating-point tensor of at least one image"):
            minimise(problem.objective, x0, GradientDescent(), gtol=1e-3)


@over("case", SOLVERS)
def test_solving_records_no_graph(case: SolverCase) -> None:
    problem = quadratic(spectra(2, 6, (5.0,)), Box())
    x0 = problem.x0.requires_grad_()
    solution = minimise(problem.objective, x0, case.solver, gap_tol=1e-3)
    assert not solution.x.requires_grad


@pytest.mark.parametrize("box", [Box(), UNIT], ids=["free", "unit"])
@pytest.mark.parametrize("solver", [GradientDescent(), QuasiNewton()])
def test_descent_takes_what_is_not_convex(solver, box: Box) -> None:
    """`1 - |x|^2 / 2 + |x|_4^4 / 4`: not convex around zero, and nothing is certified."""

    class DoubleWell(Objective):
        def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
            value = (1 - x.square() / 2 + x**4 / 4).sum(1, dtype=torch.float64)
            return value, x**3 - x

        def lipschitz(self, x: Tensor) -> Tensor:
            return torch.tensor(11.0).double()  # |3 x^2 - 1| up to two

        def strong_convexity(self, x: Tensor) -> Tensor:
            return torch.tensor(-1.0).double()

    x0 = 0.01 + 0.1 * torch.rand(3, 5).double()
    solution = minimise(DoubleWell(), x0, solver, box=box, gtol=1e-6)
    assert solution.converged
    torch.testing.assert_close(solution.x, torch.ones_like(x0), rtol=0, atol=1e-5)
    assert solution.certificate.gap.isinf().all()
    with pytest.raises(ValueError, match="gap_tol needs a certificate"):
        minimise(DoubleWell(), x0, solver, box=box, gap_tol=1e-3)


@pytest.mark.parametrize("name", ["gd", "fista"])
def test_fixed_steps_need_a_constant(name: str) -> None:
    problem = quadratic(spectra(2, 6, (5.0,)), Box())
    assert isinstance(problem.objective, Quadratic)
    problem.objective.largest = torch.full((2,), float("inf")).double()
    with pytest.raises(ValueError, match="no proven Lipschitz constant"):
        minimise(problem.objective, problem.x0, SOLVERS[name].solver, gtol=1e-3)


@over("case", SEARCHING)
def test_searching_needs_no_constant(case: SolverCase) -> None:
    problem = quadratic(spectra(2, 6, (5.0,)), Box())
    assert isinstance(problem.objective, Quadratic)
    problem.objective.largest = torch.full((2,), float("inf")).double()
    assert minimise(problem.objective, problem.x0, case.solver, gap_tol=1e-6).converged


@pytest.mark.parametrize(
    "settings", [{"initial": 0.0}, {"increase": 1.0}, {"decrease": 1.1}, {"limit": 0}]
)
def test_backtracking_settings_are_checked(settings) -> None:
    with pytest.raises(ValueError, match="backtracking needs"):
        Backtracking(**settings)


@pytest.mark.parametrize("solver", [FISTA(), FreeFISTA(), OGMG()])
def test_accelerated_methods_refuse_what_is_not_known_to_be_convex(solver) -> None:
    objective = quadratic(torch.ones(1, 4).double(), Box()).objective
    objective.smallest = -objective.smallest
    with pytest.raises(ValueError, match="convex"):
        minimise(objective, torch.zeros(1, 4).double(), solver, gtol=1e-6)
