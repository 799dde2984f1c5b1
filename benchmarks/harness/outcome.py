"""How a run ended. Every run has an outcome and is counted, failures included."""

from __future__ import annotations

from enum import Enum

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


_OUTCOMES = {
    Status.CONVERGED: Outcome.CONVERGED,
    Status.TIME_LIMIT: Outcome.TIME_LIMIT,
    Status.STAGNATED: Outcome.STAGNATED,
    Status.MAX_ITERATIONS: Outcome.ITERATION_LIMIT,
}


def outcome_of(status: int) -> Outcome:
    """The outcome that a solver's status means."""
    return _OUTCOMES.get(Status(status), Outcome.FAILED)
