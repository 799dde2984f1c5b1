"""Watches a solver: counts evaluations, holds the clock, measures the gap, says when to stop."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.harness.clock import Clock
from benchmarks.harness.outcome import Outcome
from benchmarks.solvers.tasks import Reference, Task
from convexreg.solvers import Objective
from convexreg.solvers.curvature import Curvature

MAX_EVALUATIONS = 250


class CountedObjective(Objective):
    """Counts what a solver evaluates: a gradient (with or without the value) or a curvature model as
    one, a value alone as one half."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.evaluations = 0.0

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.evaluations += 1
        return self.objective.value_and_grad(x)

    def value(self, x: Tensor) -> Tensor:
        self.evaluations += 0.5
        return self.objective.value(x)

    def curvature(self, x: Tensor) -> Curvature | None:
        model = self.objective.curvature(x)
        self.evaluations += model is not None
        return model

    def lipschitz(self, x: Tensor) -> Tensor:
        return self.objective.lipschitz(x)

    def strong_convexity(self, x: Tensor) -> Tensor:
        return self.objective.strong_convexity(x)


@dataclass(frozen=True)
class Point:
    """One iterate: what it cost and how good it is.

    :ivar gap: true relative gap `(F(x) - F*) / F*`, in float64; NaN when not measured.
    :ivar certified: the relative gap the method itself proves.
    """

    iteration: int
    evaluations: float
    seconds: float
    gap: float
    certified: float


class Stop(Exception):
    """Raised inside a solver to end it; carries the outcome."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class Recorder:
    """What a peer reports its iterates to.

    The first run of a method is measured: after every iterate the clock stops, the true gap is
    computed, and the method is stopped at `target`. Later runs only take the time of the same
    `iterations`.

    :param target: relative gap at which the method is done.
    :param iterations: `None` to measure.
    """

    def __init__(
        self,
        task: Task,
        reference: Reference,
        *,
        target: float,
        max_evaluations: float,
        time_limit: float,
        iterations: int | None = None,
    ) -> None:
        self.task, self.reference = task, reference
        self.objective = CountedObjective(task.problem.objective)
        self.target, self.max_evaluations, self.time_limit = target, max_evaluations, time_limit
        self.iterations = iterations
        self.points: list[Point] = []
        self.clock = Clock(str(task.start.device))

    def __call__(self, x: Tensor, certified: float = float("inf")) -> None:
        """Report an iterate, with the relative gap the method proves for it.

        :raises Stop: the method has done enough.
        """
        seconds = self.clock.seconds
        iteration = len(self.points) + 1
        with self.clock.paused():
            gap = self.gap(x) if self.iterations is None else float("nan")
        evaluations = self.objective.evaluations
        self.points.append(Point(iteration, evaluations, seconds, gap, certified))
        if gap <= self.target:
            raise Stop(Outcome.CONVERGED)
        if self.iterations is not None and iteration >= self.iterations:
            raise Stop(Outcome.FINISHED)
        if not bool(torch.isfinite(x).all()):
            raise Stop(Outcome.FAILED)
        if evaluations >= self.max_evaluations:
            raise Stop(Outcome.ITERATION_LIMIT)
        if seconds > self.time_limit:
            raise Stop(Outcome.TIME_LIMIT)

    def gap(self, x: Tensor) -> float:
        """True relative gap of `x`, evaluated in float64."""
        value = float(self.task.exact.objective.value(x.detach().double()))
        return (value - self.reference.value) / abs(self.reference.value)
