"""Solvers: rates, certificates, independence of the images, counts, and every way to fail."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from problems import (
    PROBLEMS,
    SOLVERS,
    UNIT,
    Counting,
    Problem,
    Quadratic,
    SolverCase,
    denoising,
    quadratic,
    scenes,
    small_regularizer,
    spectra,
)
from tables import over
from torch import Tensor

from convexreg.models import Architecture
from solvers import (
    FISTA,
    Backtracking,
    Box,
    GradientDescent,
    Objective,
    Progress,
    Proximity,
    QuasiNewton,
    SolverError,
    Status,
    Sum,
    certify,
    minimise,
)

SEARCHING = {name: case for name, case in SOLVERS.items() if "search" in name}


@functools.cache
def posed(name: str) -> Problem:
    """The problem of a row, solved by other means once."""
    torch.manual_seed(0)
    return PROBLEMS[name]()


def recorded(problem: Problem, case: SolverCase, **options) -> list[Progress]:
    """Every iteration of a solve that only the iteration limit or the tolerance ends."""
    history: list[Progress] = []
    options = {"gtol": 1e-14, "max_iter": 40} | options
    minimise(
        problem.objective,
        problem.x0,
        case.solver,
        box=problem.box,
        callback=history.append,
        **options,
    )
    return history


def certified(problem: Problem) -> bool:
    """Whether a gap can be proven."""
    modulus = problem.objective.strong_convexity(problem.x0)
    return problem.box.bounded or bool((modulus > 0).all())


@pytest.mark.parametrize("name", PROBLEMS)
@over("case", SOLVERS)
def test_gap_obeys_curve_and_certificate_at_every_iteration(case: SolverCase, name: str) -> None:
    problem = posed(name)
    objective, least = problem.objective, problem.least
    start = problem.box.project(problem.x0)
    distance = (start - problem.minimiser).flatten(1).norm(dim=1)
    initial = objective.value(start) - least
    constants = [
        bound.expand(len(start)).tolist()
        for bound in (objective.lipschitz(start), objective.strong_convexity(start))
    ]
    rounding = 1e-11 * (1 + least.abs())
    for progress in recorded(problem, case):
        state = progress.state
        assert torch.equal(problem.box.project(state.x), state.x)
        gap = objective.value(state.x) - least
        assert (gap <= state.gap + rounding).all()
        assert (state.lower <= least + rounding).all()
        far = (state.x - problem.minimiser).flatten(1).square().sum(1)
        mu = objective.strong_convexity(start)
        assert (mu / 2 * far <= state.gap + 1e-7 * rounding**0.5).all()
        if case.rate is not None:
            for index, (L, mu) in enumerate(zip(*constants, strict=True)):
                curve = case.rate(
                    progress.iteration, L, mu, float(distance[index]), float(initial[index])
                )
                assert float(gap[index]) <= curve + float(rounding[index])


@pytest.mark.parametrize("box", [Box(), UNIT], ids=["free", "unit"])
@pytest.mark.parametrize("stated_mu", [True, False])
@pytest.mark.parametrize("name", ["gd", "fista"])
def test_iterates_are_those_of_the_theorem(name: str, stated_mu: bool, box: Box) -> None:
    """Written down from the papers: on easy problems a wrong momentum stays below the curve too."""
    problem = quadratic(spectra(3, 6, (60.0,)), box, stated_mu=stated_mu)
    objective = problem.objective
    assert isinstance(objective, Quadratic)
    L, mu = objective.largest.unsqueeze(1), objective.smallest.unsqueeze(1)
    x = y = problem.x0
    t = 1.0
    for progress in recorded(problem, SOLVERS[name]):
        following = box.project(y - objective.value_and_grad(y)[1] / L)
        larger = (1 + (1 + 4 * t**2) ** 0.5) / 2
        root = (mu / L).sqrt()
        momentum = (1 - root) / (1 + root) if stated_mu else (t - 1) / larger
        y = following + momentum * (following - x) if name == "fista" else following
        x, t = following, larger
        torch.testing.assert_close(progress.state.x, x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", PROBLEMS)
@over("case", SOLVERS)
def test_reaches_the_minimiser_of_another_method(case: SolverCase, name: str) -> None:
    problem = posed(name)
    tolerance = {"gap_tol": 1e-6} if certified(problem) else {"gtol": 1e-6}
    solution = minimise(
        problem.objective,
        problem.x0,
        case.solver,
        box=problem.box,
        max_iter=20000,
        **tolerance,
    )
    assert solution.converged.all()
    gap = problem.objective.value(solution.x) - problem.least
    assert (gap >= -1e-11 * (1 + problem.least.abs())).all()
    if certified(problem):
        assert (gap <= 1e-6 * problem.least).all()
        assert (solution.certificate.relative_gap <= 1e-6).all()
        assert (gap <= solution.certificate.gap + 1e-13).all()
        far = (solution.x - problem.minimiser).flatten(1).norm(dim=1)
        assert (far <= solution.certificate.distance + 1e-8).all()
    else:
        assert (gap <= 1e-5).all()
        assert solution.certificate.gap.isinf().all()
        assert solution.certificate.distance.isinf().all()


RANDOM_BOXES = {
    "free": Box(),
    "unit": UNIT,
    "nonnegative": Box(lower=0.0),
    "below": Box(upper=0.5),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("rank", [None, 3], ids=["regular", "singular"])
@over("box", RANDOM_BOXES)
@over("case", SOLVERS)
def test_certificates_of_random_problems_hold(
    case: SolverCase, box: Box, rank: int | None, dtype: torch.dtype
) -> None:
    """500 quadratics at a time, 56,000 in all: never below the true gap, at any iteration.

    In float32 up to its rounding; `certify` in float64 of the float32 result without such an excuse.
    """
    problem = quadratic(spectra(500, 5, (1.5, 10.0, 300.0), rank=rank), box, stated_mu=rank is None)
    assert isinstance(problem.objective, Quadratic)
    rounded = problem.objective.to(dtype)
    honest = rounded.to(torch.float64)
    slack = 1e-13 if dtype == torch.float64 else 1e-5

    def check(progress: Progress) -> None:
        point = progress.state.x.double()
        gap = honest.value(point) - 1
        assert (gap <= progress.state.gap + slack * (1 + gap)).all()
        assert (progress.state.lower <= 1 + slack * (1 + gap)).all()
        assert (gap <= certify(honest, point, box).gap + 1e-12).all()

    minimise(
        rounded,
        problem.x0.to(dtype),
        case.solver,
        box=box,
        gtol=1e-30,
        max_iter=25,
        callback=check,
    )


@functools.cache
def random_denoising(architecture: Architecture, dtype: torch.dtype) -> tuple[Sum, Sum, Tensor]:
    """200 images of random noise level and weight: in `dtype`, in float64, and the least values."""
    torch.manual_seed(0)
    sigma = 0.02 + 0.3 * torch.rand(200).double()
    noisy = scenes(200, 5, 6)
    noisy = (noisy + sigma.reshape(-1, 1, 1, 1) * torch.randn_like(noisy)).to(dtype)
    weight = 10 ** torch.empty(200).uniform_(-2, 1).double()
    regularizer = small_regularizer(architecture).to(dtype)
    rounded = Sum([Proximity(noisy), regularizer.term(sigma)], [1.0, weight])
    exact = copy.deepcopy(regularizer).double()
    honest = Sum([Proximity(noisy.double()), exact.term(sigma)], [1.0, weight])
    best = minimise(honest, noisy.double(), QuasiNewton(), gap_tol=1e-13, max_iter=300)
    return rounded, honest, honest.value(best.x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("architecture", ["mgradnet-m", "crr"])
@over("case", SOLVERS)
def test_certificates_of_random_denoising_problems_hold(
    case: SolverCase, architecture: Architecture, dtype: torch.dtype
) -> None:
    """Compared with the float64 value of the best point found by anyone."""
    rounded, honest, reference = random_denoising(architecture, dtype)
    slack = (1e-12 if dtype == torch.float64 else 1e-5) * (1 + reference)

    def check(progress: Progress) -> None:
        point = progress.state.x.double()
        gap = honest.value(point) - reference
        assert (gap <= progress.state.gap + slack).all()
        assert (gap <= certify(honest, point).gap + 1e-12).all()

    data = rounded.terms[0]
    assert isinstance(data, Proximity)
    minimise(rounded, data.y, case.solver, gtol=1e-30, max_iter=12, callback=check)


@pytest.mark.parametrize("box", [Box(), UNIT], ids=["free", "unit"])
@over("case", SOLVERS)
def test_a_batch_gives_every_image_what_it_gets_alone(case: SolverCase, box: Box) -> None:
    """Bit for bit: easy and hard images, converging at very different iterations."""
    problem = quadratic(spectra(6, 6, (1.2, 20.0, 500.0)), box)
    objective = problem.objective
    assert isinstance(objective, Quadratic)
    options = {"box": box, "gap_tol": 1e-6, "max_iter": 200}
    together = minimise(objective, problem.x0, case.solver, **options)
    assert len(set(together.iterations.tolist())) > 2
    for index in range(6):
        here = slice(index, index + 1)
        alone = minimise(objective[here], problem.x0[here], case.solver, **options)
        for name in ("x", "status", "iterations", "evaluations", "stationarity"):
            assert torch.equal(getattr(alone, name), getattr(together, name)[here]), name
        for name in ("gap", "lower", "distance"):
            expected = getattr(together.certificate, name)[here]
            assert torch.equal(getattr(alone.certificate, name), expected), name


@over("case", SOLVERS)
def test_a_batch_of_images_agrees_with_one_at_a_time(case: SolverCase) -> None:
    """With convolutions, whose rounding depends on the batch."""
    regularizer = small_regularizer()
    noisy = scenes(3) + 0.1 * torch.randn(3, 1, 7, 8).double()
    sigma = torch.tensor([0.03, 0.1, 0.3]).double()
    options = {"gap_tol": 1e-8, "max_iter": 2000}
    together = minimise(
        Sum([Proximity(noisy), regularizer.term(sigma)], [1.0, 1.0]), noisy, case.solver, **options
    )
    for index in range(3):
        here = slice(index, index + 1)
        alone = minimise(
            Sum([Proximity(noisy[here]), regularizer.term(sigma[here])], [1.0, 1.0]),
            noisy[here],
            case.solver,
            **options,
        )
        assert torch.equal(alone.iterations, together.iterations[here])
        assert torch.equal(alone.evaluations, together.evaluations[here])
        torch.testing.assert_close(alone.x, together.x[here], rtol=0, atol=1e-12)


@over("case", SOLVERS)
def test_converged_images_stop_changing(case: SolverCase) -> None:
    problem = quadratic(spectra(4, 6, (1.2, 300.0)), Box())
    history = recorded(problem, case, gtol=None, gap_tol=1e-4, max_iter=2000)
    ends = [
        next(i for i, progress in enumerate(history) if not progress.active[image])
        for image in range(4)
    ]
    assert len(set(ends)) > 1
    for image, end in enumerate(ends):
        for progress in history[end:]:
            assert torch.equal(progress.state.x[image], history[end].state.x[image])
            assert progress.state.evaluations[image] == history[end].state.evaluations[image]
            assert progress.state.gap[image] == history[end].state.gap[image]


@pytest.mark.parametrize("name", ["quadratic", "quadratic-singular-box", "denoising-m"])
@over("case", SOLVERS)
def test_evaluations_are_counted(case: SolverCase, name: str) -> None:
    """One image: exactly what the objective sees. A batch: its hardest image never waits for free."""
    problem = posed(name)
    counting = Counting(problem.objective)
    solution = minimise(counting, problem.x0, case.solver, box=problem.box, gtol=1e-4, max_iter=50)
    assert float(solution.evaluations.max()) <= counting.evaluations
    alone = quadratic(spectra(1, 6, (40.0,)), problem.box)
    if name == "denoising-m":
        noisy = problem.x0[:1]
        alone = replace(
            problem,
            objective=Sum([Proximity(noisy), small_regularizer().term(0.1)], [1.0, 1.0]),
            x0=noisy,
        )
    counting = Counting(alone.objective)
    solution = minimise(counting, alone.x0, case.solver, box=alone.box, gtol=1e-4, max_iter=50)
    assert float(solution.evaluations) == counting.evaluations


# How a solve can end --------------------------------------------------------------------------


class Faulty(Objective):
    """An objective that is well until its `after`-th gradient, where `spoil` changes the answer."""

    def __init__(
        self, inner: Objective, after: int, spoil: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    ) -> None:
        self.inner, self.after, self.spoil = inner, after, spoil
        self.calls = 0

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        value, grad = self.inner.value_and_grad(x)
        return self.spoil(value, grad) if self.calls > self.after else (value, grad)

    def lipschitz(self, x: Tensor) -> Tensor:
        return self.inner.lipschitz(x)

    def strong_convexity(self, x: Tensor) -> Tensor:
        return self.inner.strong_convexity(x)


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


@pytest.mark.parametrize("name", ["gd", "fista", "fista-restart"])
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


@pytest.mark.parametrize("name", ["gd", "fista"])
def test_a_wrong_adjoint_is_found_out(name: str) -> None:
    """The gradient of something else than the value."""
    problem = quadratic(spectra(2, 6, (50.0,)), Box(), stated_mu=False)
    faulty = Faulty(problem.objective, 0, lambda value, grad: (value, grad.roll(1, 1)))
    solution = minimise(
        faulty, problem.x0, SOLVERS[name].solver, gtol=1e-8, max_iter=5000, throw=False
    )
    assert (solution.status == Status.BOUND_VIOLATED).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("box", [Box(), UNIT], ids=["free", "unit"])
@pytest.mark.parametrize("name", ["gd", "fista"])
def test_no_false_alarm_of_a_violated_bound(name: str, box: Box, dtype: torch.dtype) -> None:
    """Thousands of honest problems run far beyond what rounding lets them improve."""
    problem = quadratic(spectra(1000, 6, (1.5, 20.0, 1000.0)), box)
    assert isinstance(problem.objective, Quadratic)
    solution = minimise(
        problem.objective.to(dtype),
        problem.x0.to(dtype),
        SOLVERS[name].solver,
        box=box,
        gtol=1e-30,
        max_iter=150,
        throw=False,
    )
    assert not (solution.status == Status.BOUND_VIOLATED).any()


@over("case", SOLVERS)
def test_iteration_limit(case: SolverCase) -> None:
    problem = quadratic(spectra(2, 6, (1e5,)), Box())
    solution = minimise(problem.objective, problem.x0, case.solver, gap_tol=1e-12, max_iter=3)
    assert (solution.status == Status.MAX_ITERATIONS).all()
    assert (solution.iterations == 3).all()
    assert not solution.converged.any()
    assert "Raise max_iter" in Status.MAX_ITERATIONS.message
    assert not Status.MAX_ITERATIONS.failed


@over("case", SOLVERS)
def test_time_limit(case: SolverCase) -> None:
    problem = quadratic(spectra(2, 6, (1e5,)), Box())
    started = time.perf_counter()
    solution = minimise(
        problem.objective, problem.x0, case.solver, gap_tol=1e-15, max_iter=10**6, time_limit=0.02
    )
    assert (solution.status == Status.TIME_LIMIT).all() or solution.converged.all()
    if isinstance(case.solver, GradientDescent):
        assert (solution.status == Status.TIME_LIMIT).all()
        assert 0.02 < solution.seconds < time.perf_counter() - started
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
    assert "solve in float64" in Status.STAGNATED.message


@over("case", SOLVERS)
def test_gtol_is_not_reached_by_rounding(case: SolverCase) -> None:
    """The stationarity reported is that of the gradient, however small the step became."""
    problem = quadratic(spectra(50, 6, (10.0, 1000.0)), Box())
    assert isinstance(problem.objective, Quadratic)
    single = problem.objective.to(torch.float32)
    solution = minimise(single, problem.x0.float(), case.solver, gtol=1e-12, max_iter=200)
    grad = single.to(torch.float64).value_and_grad(solution.x.double())[1]
    true = grad.square().mean(1).sqrt()
    assert (true[solution.converged] <= 1e-8).all()


def test_every_status_has_a_message() -> None:
    for status in Status:
        assert len(status.message) > 20
    assert {status for status in Status if status.failed} == {
        Status.NOT_FINITE,
        Status.BOUND_VIOLATED,
    }


# What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [Box(), Box(lower=0.0)], ids=["free", "nonnegative"])
@over("case", SOLVERS)
def test_gap_without_certificate_is_refused(case: SolverCase, box: Box) -> None:
    problem = quadratic(spectra(2, 6, (5.0,)), box, stated_mu=False)
    with pytest.raises(ValueError, match="gap_tol needs a certificate"):
        minimise(problem.objective, problem.x0, case.solver, box=box, gap_tol=1e-3)
    solution = minimise(
        problem.objective, problem.x0, case.solver, box=box, gap_tol=1e-3, gtol=1e-4, max_iter=5000
    )
    assert solution.converged.all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give gap_tol"),
        ({"gap_tol": 0.0}, "must be positive"),
        ({"gtol": -1.0}, "must be positive"),
        ({"gtol": 1.0, "max_iter": 0}, "must be positive"),
    ],
)
def test_requests_that_make_no_sense_are_refused(options, message: str) -> None:
    problem = quadratic(spectra(1, 3, (5.0,)), Box())
    with pytest.raises(ValueError, match=message):
        minimise(problem.objective, problem.x0, GradientDescent(), **options)


def test_integer_starts_are_refused() -> None:
    problem = quadratic(spectra(1, 3, (5.0,)), Box())
    with pytest.raises(ValueError, match="floating-point"):
        minimise(problem.objective, problem.x0.long(), GradientDescent(), gtol=1e-3)


@pytest.mark.parametrize("name", ["gd", "fista", "fista-restart"])
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
    assert minimise(problem.objective, problem.x0, case.solver, gap_tol=1e-6).converged.all()


@pytest.mark.parametrize("settings", [{"initial": 0.0}, {"increase": 1.0}, {"decrease": 1.1}])
def test_backtracking_settings_are_checked(settings) -> None:
    with pytest.raises(ValueError, match="backtracking needs"):
        Backtracking(**settings)


def test_a_search_that_runs_out_of_attempts_certifies_nothing() -> None:
    """Then no majorisation test has passed, and the bound would rest on it."""
    problem = quadratic(spectra(3, 6, (100.0,)), Box())
    hopeless = Backtracking(initial=1e-3, increase=1.001, limit=2)
    history: list[Progress] = []
    for solver in (GradientDescent(hopeless), FISTA(hopeless)):
        minimise(
            problem.objective, problem.x0, solver, gtol=1e-9, max_iter=5, callback=history.append,
            throw=False,
        )  # fmt: skip
    for progress in history:
        gap = problem.objective.value(progress.state.x) - problem.least
        assert (gap <= progress.state.gap + 1e-12).all()


# Boxes, sums ----------------------------------------------------------------------------------


def test_boxes() -> None:
    with pytest.raises(ValueError, match="lower < upper"):
        Box(1.0, 1.0)
    with pytest.raises(ValueError, match="lower < upper"):
        Box(float("nan"), 1.0)
    assert Box().everything
    assert not Box().bounded
    assert UNIT.bounded
    assert not Box(lower=0.0).bounded
    x = torch.tensor([-1.0, 0.5, 2.0])
    assert torch.equal(UNIT.project(x), torch.tensor([0.0, 0.5, 1.0]))


@over("box", RANDOM_BOXES)
@pytest.mark.parametrize("mu", [0.0, 0.3])
def test_furthest_descent_is_the_maximum(box: Box, mu: float) -> None:
    """Against a fine grid of `<g, x - s> - mu/2 |s - x|^2` per pixel, from inside and outside."""
    x, grad = 2 * torch.randn(40, 1).double(), torch.randn(40, 1).double()
    grad[::5] = 0
    value = box.furthest_descent(x, grad, torch.tensor(mu, dtype=torch.float64))
    grid = torch.linspace(max(box.lower, -30), min(box.upper, 30), 60001).double()
    brute = (grad * (x - grid) - mu / 2 * (grid - x).square()).amax(1)
    unbounded = torch.isinf(value)
    assert (brute[unbounded] > 20 * grad.abs()[unbounded].flatten()).all()
    assert (value >= brute.clamp_min(0) - 1e-12)[~unbounded].all()
    inside = (x == box.project(x)).flatten() & ~unbounded
    torch.testing.assert_close(value[inside], brute[inside].clamp_min(0), rtol=1e-5, atol=1e-5)


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
