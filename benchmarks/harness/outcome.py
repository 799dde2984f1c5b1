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

    @property
    def usable(self) -> bool:
        """Whether there is a result to measure."""
        return self not in (Outcome.FAILED, Outcome.SKIPPED)


def outcome_of(status: int) -> Outcome:
    """The outcome that a solver's status means."""
    match Status(status):
        case Status.CONVERGED:
            return Outcome.CONVERGED
        case Status.TIME_LIMIT:
            return Outcome.TIME_LIMIT
        case Status.STAGNATED:
            return Outcome.STAGNATED
        case Status.NOT_FINITE | Status.BOUND_VIOLATED:
            return Outcome.FAILED
        case _:
            return Outcome.ITERATION_LIMIT
