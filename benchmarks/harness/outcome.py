"""How a run ended, and with what. Every run has an outcome and is counted, failures included."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from convexreg.solvers import Status


class Outcome(str, Enum):
    """The end of one method on one problem."""

    CONVERGED = "converged"
    FINISHED = "finished"  # a fixed amount of work, no stopping rule
    ITERATION_LIMIT = "iteration limit"
    TIME_LIMIT = "time limit"
    STAGNATED = "stagnated"  # as far as the floating-point precision goes, short of the tolerance
    FAILED = "failed"
    SKIPPED = "skipped"  # could not be tried here; the message says why

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Result:
    """An image and how it was reached.

    :ivar evaluations: gradient evaluations, or whatever the method counts; NaN for none.
    :ivar certified: proven relative gap of the objective; NaN where nothing is claimed.
    :ivar weight: that the method took by itself, in the place of the one it was given.
    """

    image: Tensor
    outcome: Outcome = Outcome.FINISHED
    evaluations: float = float("nan")
    certified: float = float("nan")
    weight: float | None = None


_OUTCOMES = {
    Status.CONVERGED: Outcome.CONVERGED,
    Status.TIME_LIMIT: Outcome.TIME_LIMIT,
    Status.STAGNATED: Outcome.STAGNATED,
    Status.MAX_ITERATIONS: Outcome.ITERATION_LIMIT,
}


def outcome_of(status: int) -> Outcome:
    """The outcome that a solver's status means."""
    return _OUTCOMES.get(Status(status), Outcome.FAILED)
