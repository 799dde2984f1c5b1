"""Denoising a large image window by window: on all cores, in little memory, certified as a whole.

What is far away says nothing about a pixel. The problems of windows with a margin are solved apart, each
small enough for the caches, and their solutions side by side nearly are the solution of the whole. How nearly
the certificate of the whole says: an evaluation of the whole, which owes nothing to the windows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from convexreg.adaptive import GivenInWindows
from convexreg.networks import colour
from convexreg.reconstruction.clock import Clock
from convexreg.reconstruction.defaults import Tolerance
from convexreg.reconstruction.problem import Problem, proximal_problem
from convexreg.reconstruction.solved import Solved, certified
from convexreg.reconstruction.windows import CORNER, Window, Windows
from convexreg.regularizer import Regularizer
from convexreg.solvers.certificates import Certificate, certify
from convexreg.solvers.data_terms import LeastSquares
from convexreg.solvers.progress import Progress
from convexreg.solvers.quasi_newton import QuasiNewton
from convexreg.solvers.solution import Solution, Status
from convexreg.solvers.solver import Solver

_CLOSER = 0.85
"""The tolerance of a window relative to that of the whole: margins count, and windows do not fit exactly."""


def minimise(
    problem: Problem,
    start: Tensor,
    *,
    in_float64: bool,
    tolerance: Tolerance | None = None,
    solver: Solver[Any] | None = None,
    time_limit: float | None = None,
    callback: Callable[[Progress], None] | None = None,
    **options: Any,
) -> Solved:
    """`problem.minimise(start, ...)`, certified; by windows where the image is large and that is possible."""
    gap_tol = _tolerance_of_windows(problem, start, tolerance or Tolerance(), solver)
    clock = Clock(time_limit)
    before: Solution | None = None
    if gap_tol is not None:
        windows = Windows.of(problem, start)
        own = QuasiNewton() if solver in (None, problem.solver(start)) else solver
        solve = partial(_solve, problem, start, Tolerance(_CLOSER * gap_tol), own, clock, options)
        before = _side_by_side(windows, solve, start, callback)
        result = _by_the_whole(windows.cut(problem), before, gap_tol, in_float64)
        if Status.CONVERGED not in (int(result.solution.status), int(before.status)):
            return result  # out of time or iterations
        if result.solution.converged:
            return result
        start = before.x  # the margins were too narrow for the tolerance
    solution = problem.minimise(
        start,
        tolerance=tolerance,
        solver=solver,
        time_limit=clock.left(),
        callback=callback,
        **options,
    )
    if before is not None:
        solution = replace(
            solution,
            iterations=before.iterations + solution.iterations,
            evaluations=before.evaluations + solution.evaluations,
            seconds=before.seconds + solution.seconds,
        )
    return certified(problem, solution, in_float64=in_float64)


def _tolerance_of_windows(
    problem: Problem, start: Tensor, tolerance: Tolerance, solver: Solver[Any] | None
) -> float | None:
    """The certified relative gap to reach, where windows can be solved apart: of one large image that is seen
    as it is, without a box, with a regularizer of a known reach, by the default solver. Else nothing."""
    data, regularizer = problem.data, problem.regularizer
    if (
        start.shape[0] != 1
        or start[0, 0].numel() < colour.LARGE
        or start.device.type != "cpu"
        or not (isinstance(data, LeastSquares) and data.sees_images and problem.box.everything)
        or not isinstance(regularizer, (Regularizer, GivenInWindows))
        # weak weights in smooth places carry colour differences much farther than a margin
        or (isinstance(regularizer, GivenInWindows) and start.shape[1] > 1)
        or not (solver is None or isinstance(solver, QuasiNewton))
        or (torch.is_grad_enabled() and problem.inputs)
    ):
        return None
    one = regularizer.window(CORNER, CORNER).of(start.shape[1])
    reach = one.network.reach()
    if one.in_channels != start.shape[1] or reach is None or reach.circular or not one.convex:
        return None
    gap_tol, gtol = problem.tolerances(tolerance, start)
    return gap_tol if gtol is None else None


def _side_by_side(
    windows: Windows,
    solve: Callable[[Window], Solution],
    start: Tensor,
    callback: Callable[[Progress], None] | None,
) -> Solution:
    """Solutions of all of them as one, without a certificate."""
    began = time.perf_counter()
    x, pixels = start.clone(), start[0, 0].numel()
    unknown = x.new_full((1,), float("inf"), dtype=torch.float64)
    iterations, evaluations = unknown.new_zeros(1, dtype=torch.long), torch.zeros_like(unknown)
    statuses = list[int]()
    for number, (window, its) in enumerate(windows.in_order(solve), 1):
        x[(..., *window.core)] = its.x[(..., *window.inside)]
        iterations = iterations.maximum(its.iterations)
        evaluations = evaluations + its.evaluations * its.x[0, 0].numel() / pixels
        statuses.append(int(its.status))
        if callback is not None:
            share = torch.full_like(unknown, number / len(windows.windows))
            active, seconds = unknown.isinf(), time.perf_counter() - began
            numbers = (None, unknown, unknown, unknown, unknown, evaluations)
            callback(Progress(number, x.clone(), *numbers, active, share, seconds))
    status = iterations.new_full((1,), max(statuses))  # the codes of failures are the largest
    nothing = Certificate(unknown, -unknown, unknown, x.dtype)
    seconds = time.perf_counter() - began
    return Solution(x, status, iterations, evaluations, nothing, unknown, seconds)


def _solve(
    problem: Problem,
    start: Tensor,
    tolerance: Tolerance,
    solver: Solver[Any],
    clock: Clock,
    options: dict[str, Any],
    window: Window,
) -> Solution:
    """The problem of a window with its margin."""
    regularizer, data = problem.regularizer, problem.data
    assert isinstance(regularizer, (Regularizer, GivenInWindows))
    assert isinstance(data, LeastSquares)
    with torch.no_grad():
        own = regularizer.window(*window.outer)
        part = proximal_problem(window.of(data.y), own, problem.sigma, problem.lam)
        if problem.centre is not None:
            part = replace(part, anchor=problem.anchor, centre=window.of(problem.centre))
        options = {**options, "throw": False, "time_limit": clock.left()}
        found = part.minimise(window.of(start), tolerance=tolerance, solver=solver, **options)
    # where the bound comes from the gradient is the smallest, and nothing else counts for that of the whole
    return found if found.support is None else replace(found, x=found.support)


def _by_the_whole(cut: Problem, found: Solution, gap_tol: float, in_float64: bool) -> Solved:
    """Certified, by one evaluation, and converged if that says so."""
    if not in_float64 or found.x.dtype == torch.float64:
        found = replace(found, certificate=certify(cut.objective, found.x))
    solved = certified(cut, found, in_float64=in_float64)
    certificate = solved.solution.certificate
    mu = cut.objective.strong_convexity(found.x).to(certificate.gap)
    status = found.status
    if bool(certificate.relative_gap <= gap_tol):
        status = torch.full_like(status, int(Status.CONVERGED))
    elif int(status) == Status.CONVERGED:
        status = torch.full_like(status, int(Status.MAX_ITERATIONS))
    solution = replace(
        solved.solution,
        status=status,
        evaluations=found.evaluations + 1,
        # without a box the gap is |grad|^2 / (2 mu)
        stationarity=(2 * mu * certificate.gap / found.x[0].numel()).sqrt(),
    )
    return replace(solved, solution=solution)
