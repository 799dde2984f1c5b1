"""One round of a reconstruction: a convex problem, anchored at a good solution, solved and certified."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from convexreg.reconstruction import planes
from convexreg.reconstruction.clock import Clock
from convexreg.reconstruction.defaults import (
    ACCURACIES,
    FIRST_ROUND,
    GOOD_ANCHOR,
    GOOD_START,
    Accuracy,
    Tolerance,
)
from convexreg.reconstruction.problem import Problem
from convexreg.reconstruction.result import Reconstruction
from convexreg.solvers.data_terms import DataTerm
from convexreg.solvers.history import History
from convexreg.solvers.progress import Progress
from convexreg.solvers.solution import Solution
from convexreg.solvers.solver import Solver


@dataclass(frozen=True)
class Rounds:
    """How the problems of all rounds are solved.

    :ivar accuracy: of the last round, where `gap_tol` and `gtol` do not say it.
    :ivar anchor: weight of the anchor of every round, or `"auto"`.
    :ivar max_iter: of every round.
    :ivar history: of every solve.
    """

    accuracy: Accuracy
    gap_tol: float | None
    gtol: float | None
    anchor: float | Literal["auto"]
    solver: Solver[Any] | None
    max_iter: int
    clock: Clock
    callback: Callable[[Progress], None] | None
    history: History = field(default_factory=History)

    def solved(self, problem: Problem, there: Tensor, *, last: bool) -> Reconstruction:
        """The minimiser of a problem that is anchored at its start `there`.

        In the last round, where nothing else makes the problem strongly convex, the anchor moves to a good
        solution of it, where it can be stronger at no cost.
        """
        spent = None
        if last and self.anchor == "auto" and problem.anchor > 0 and self.max_iter > 1:
            spent = problem.minimise(
                there.detach(),
                tolerance=GOOD_START[self.accuracy],
                solver=self.solver,
                max_iter=self.max_iter - 1,
                time_limit=self.clock.left(),
                callback=self.history.before(_to_be_continued(self.callback)),
            )
            there = _differentiated(problem, spent.x)
            problem = problem.anchored(there, GOOD_ANCHOR)
        asked = replace(ACCURACIES[self.accuracy], gap_tol=self.gap_tol, gtol=self.gtol)
        # weights follow what is differentiated through the reconstruction that they are made of
        precise = last or _is_differentiated(problem)
        result = _certified(
            problem,
            there.detach(),
            asked if precise else FIRST_ROUND,
            self.solver or problem.solver(there),
            in_float64=last,
            max_iter=self.max_iter
            if spent is None
            else self.max_iter - int(spent.iterations.max()),
            time_limit=self.clock.left(),
            callback=self.history.before(
                self.callback if spent is None else _continued(self.callback, spent)
            ),
        )
        if not last:
            return replace(result, image=_differentiated(problem, result.image))
        return result if spent is None else result.including(spent)


@torch.no_grad()
def _certified(
    problem: Problem,
    start: Tensor,
    tolerance: Tolerance,
    solver: Solver[Any],
    *,
    in_float64: bool,
    **limits: Any,
) -> Reconstruction:
    """One convex problem from `start`, certified."""
    gap_tol, gtol = problem.tolerances(tolerance, start)
    # A margin, so that rounding of the solve does not decide about the certificate; what is not
    # positive is passed on as it is, to be refused.
    margin = None if gap_tol is None else min(gap_tol, 0.99 * gap_tol)
    tolerance = replace(tolerance, gap_tol=margin, gtol=gtol)
    solution, remark = planes.minimise(
        problem, start, in_float64=in_float64, tolerance=tolerance, solver=solver, **limits
    )
    if tolerance.decrement is not None:
        gap_tol = None  # what has stopped there owes no certificate
    method = _method(solver, problem)
    return Reconstruction.of(problem, solution, gap_tol, gtol, method, remark)


def _differentiated(problem: Problem, x: Tensor) -> Tensor:
    """The solution `x` as a function of what is being differentiated, where it is one."""
    return problem.differentiable(problem.refined(x)) if _is_differentiated(problem) else x


def _is_differentiated(problem: Problem) -> bool:
    return torch.is_grad_enabled() and bool(problem.inputs) and problem.box.everything


def _to_be_continued(
    callback: Callable[[Progress], None] | None,
) -> Callable[[Progress], None] | None:
    """The callback of a solve at whose end all images go on in another one."""
    if callback is None:
        return None

    def follow(progress: Progress) -> None:
        ended = not bool(progress.active.any())
        callback(replace(progress, active=progress.active | ended))

    return follow


def _continued(
    callback: Callable[[Progress], None] | None, spent: Solution
) -> Callable[[Progress], None] | None:
    """The callback of a solve that goes on where another one has stopped."""
    if callback is None:
        return None

    def follow(progress: Progress) -> None:
        callback(
            replace(
                progress,
                iteration=progress.iteration + int(spent.iterations.max()),
                evaluations=progress.evaluations + spent.evaluations,
                seconds=progress.seconds + spent.seconds,
            )
        )

    return follow


def _method(solver: Solver[Any], problem: Problem) -> str:
    """The solver, and where its step size comes from."""
    if isinstance(problem.data, DataTerm) and "1/L" in solver.description:
        bounds = problem.data.bounds
        largest = float(torch.as_tensor(bounds.largest, device="cpu").max())
        return f"{solver.description} (|A|^2 <= {largest:.4g}, {bounds.proof})"
    return solver.description
