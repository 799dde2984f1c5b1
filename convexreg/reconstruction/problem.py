"""Solving one convex problem, and what is said about the result."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from convexreg.adaptive import FIRST_ROUND_GAP, FIRST_ROUND_GRADIENT
from convexreg.reconstruction.start import ANCHOR
from convexreg.regularizer import ConvexRegularizer
from convexreg.solvers.box import Box
from convexreg.solvers.certificates import Certificate, certify
from convexreg.solvers.data_terms import LeastSquares, Proximity
from convexreg.solvers.fidelities import data_term
from convexreg.solvers.loop import Progress, Solver, minimise
from convexreg.solvers.objective import Objective, Sum
from convexreg.solvers.physics_norms import OperatorBounds, operator_bounds
from convexreg.solvers.quasi_newton import QuasiNewton
from convexreg.solvers.solution import Solution, Status


@dataclass(frozen=True)
class Reconstruction:
    """A minimiser of `|A x - y|^2 / 2 + lam R(x; sigma) + anchor |x - x0|^2 / 2`, and what is proven.

    Per-image tensors have shape `(B,)`.

    :ivar image: `(B, C, H, W)`, in the dtype of the measurements.
    :ivar status: `solvers.Status` codes.
    :ivar certificate: evaluated in float64 at `image`: `gap` bounds how far the objective is above its
        minimum, `relative_gap` the same relative to the minimum, `distance` (with a strongly convex
        objective) the 2-norm to the minimiser. Infinite where nothing is proven.
    :ivar iterations, evaluations: steps and gradient evaluations.
    :ivar stationarity: rms of the gradient (of the projected gradient with a box).
    :ivar lam: the weight of the regularizer, `(B,)`.
    :ivar anchor: the weight of the anchor, zero where there is none.
    :ivar box: the bounds on the pixels.
    :ivar method: solver, and where its step size comes from.
    :ivar seconds: of this solve.
    :ivar first: with an adaptive regularizer the first round, whose image decided the weights and is
        `x0` here; what is proven holds given that image.
    """

    image: Tensor
    status: Tensor
    certificate: Certificate
    iterations: Tensor
    evaluations: Tensor
    stationarity: Tensor
    lam: Tensor
    anchor: float
    box: Box
    method: str
    seconds: float
    first: Reconstruction | None = None

    @property
    def converged(self) -> bool:
        """Whether every image reached the tolerance; of an adaptive regularizer that of round 1."""
        return bool((self.status == Status.CONVERGED).all())

    def summary(self) -> str:
        """One line per image: status, certificate, iterations."""
        lines = []
        for index in range(len(self.status)):
            status = Status(int(self.status[index]))
            relative = float(self.certificate.relative_gap[index])
            gap = float(self.certificate.gap[index])
            if relative < float("inf"):
                proven = f"certified relative gap {relative:.1e}"
            elif gap < float("inf"):  # the minimum may be zero
                proven = f"certified gap {gap:.1e}"
            else:
                proven = f"no certificate (gradient rms {float(self.stationarity[index]):.1e})"
            lines.append(
                f"{status.name.lower().replace('_', ' ')} after {int(self.iterations[index])} "
                f"iterations: {proven}"
            )
        if self.first is not None:
            rounds = (self.first.summary().split("\n"), lines)
            lines = [
                f"round {number}: {line}"
                for pair in zip(*rounds, strict=True)
                for number, line in enumerate(pair)
            ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Settings:
    """How to solve."""

    solver: Solver[Any]
    max_iter: int
    time_limit: float | None
    callback: Callable[[Progress], None] | None


@dataclass(frozen=True)
class Tolerance:
    """When to stop; with neither given the first of the defaults that can be certified."""

    gap_tol: float | None = None
    gtol: float | None = None
    strongly_convex_gap: float = 1e-4
    gap: float = 1e-2
    uncertified: float = 1e-5


LOOSE = Tolerance(
    strongly_convex_gap=FIRST_ROUND_GAP, gap=FIRST_ROUND_GAP, uncertified=FIRST_ROUND_GRADIENT
)


@dataclass(frozen=True)
class Problem:
    """What is minimised, but for the anchor."""

    y: Tensor
    physics: Any
    bounds: OperatorBounds
    model: ConvexRegularizer
    fidelity: Any
    sigma: Tensor
    weight: Tensor
    box: Box

    def data(self) -> Objective:
        """The data term."""
        if self.fidelity is None:
            return LeastSquares(self.physics, self.y, self.bounds)
        return data_term(self.fidelity, self.physics, self.y, self.bounds)

    def objective(self, start: Tensor, anchor: float) -> Objective:
        """The sum of data term, regularizer and anchor."""
        terms = [self.data(), self.model.term(self.sigma)]
        coefficients: list[Tensor | float] = [1.0, self.weight]
        if anchor:
            terms.append(Proximity(start))
            coefficients.append(anchor)
        return Sum(terms, coefficients)


def solve(
    problem: Problem,
    start: Tensor,
    anchor: float | Literal["auto"],
    settings: Settings,
    tolerance: Tolerance,
) -> Reconstruction:
    """Solve one convex problem from `start`."""
    strongly_convex = bool((problem.data().strong_convexity(start) > 0).all())
    if anchor == "auto":
        anchor = 0.0 if strongly_convex else ANCHOR
    gap_tol, gtol = tolerance.gap_tol, tolerance.gtol
    if gap_tol is None and gtol is None:
        if strongly_convex:
            gap_tol = tolerance.strongly_convex_gap
        elif anchor > 0 or problem.box.bounded:
            gap_tol = tolerance.gap
        else:
            gtol = tolerance.uncertified
    solution = minimise(
        problem.objective(start, anchor),
        start,
        settings.solver,
        box=problem.box,
        # A margin, so that rounding of the solve does not decide about the certificate; what is not
        # positive is passed on as it is, to be refused.
        gap_tol=None if gap_tol is None else min(gap_tol, 0.99 * gap_tol),
        gtol=gtol,
        max_iter=settings.max_iter,
        time_limit=settings.time_limit,
        callback=settings.callback,
    )
    certificate, status = _certify_in_float64(problem, start, anchor, solution), solution.status
    if gap_tol is not None:
        kept = certificate.relative_gap <= gap_tol
        if gtol is not None:
            kept |= solution.stationarity <= gtol
        unproven = (status == Status.CONVERGED) & ~kept
        status = torch.where(unproven, int(Status.STAGNATED), status)
    return Reconstruction(
        image=solution.x,
        status=status,
        certificate=certificate,
        iterations=solution.iterations,
        evaluations=solution.evaluations,
        stationarity=solution.stationarity,
        lam=problem.weight,
        anchor=anchor,
        box=problem.box,
        method=_describe(settings.solver, problem.bounds),
        seconds=solution.seconds,
    )


def _certify_in_float64(
    problem: Problem, start: Tensor, anchor: float, solution: Solution
) -> Certificate:
    """The certificate of the solution, free of the rounding of a float32 solve where possible."""
    if problem.y.dtype == torch.float64:
        return solution.certificate
    x = solution.x.double()
    try:
        duplicate = copy.deepcopy(problem.physics)
        # .to(torch.float64) would corrupt deepinv's complex buffers
        physics: Any = duplicate.double() if isinstance(duplicate, torch.nn.Module) else duplicate
        there = physics.A(x)
        if (there - problem.physics.A(solution.x)).abs().max() > 1e-4 * there.abs().max():
            return solution.certificate  # the conversion changed the operator
        exact = replace(
            problem,
            y=problem.y.double(),
            physics=physics,
            bounds=operator_bounds(physics, x),
            model=copy.deepcopy(problem.model).double(),
        )
        return certify(exact.objective(start.double(), anchor), x, problem.box)
    except (RuntimeError, TypeError, ValueError):
        # an operator or a data term that cannot be copied or cannot compute in float64
        return solution.certificate


def _describe(solver: Solver[Any], bounds: OperatorBounds) -> str:
    name = type(solver).__name__
    if isinstance(solver, QuasiNewton):
        return f"{name} (line search; needs no bound on |A|)"
    if getattr(solver, "backtracking", None) or getattr(solver, "search", None):
        return f"{name} with backtracking"
    source = f"|A|^2 <= {float(torch.as_tensor(bounds.largest).max()):.4g}, {bounds.proof}"
    return f"{name} with the proven step 1/L ({source})"
