"""The project's own solvers under the same watch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.harness.outcome import outcome_of
from benchmarks.solvers.recorder import Recorder, Stop
from benchmarks.solvers.tasks import Task
from convexreg.solvers import Progress, Solver, minimise


def own(solver: Solver[Any]) -> Callable[[Task, Recorder], None]:
    """A row's function for one of our solvers; reports the certificate with every iterate."""

    def run(task: Task, record: Recorder) -> None:
        def report(progress: Progress) -> None:
            record(progress.x, float(progress.relative_gap))

        solution = minimise(
            record.objective,
            task.start,
            solver,
            box=task.problem.box,
            gtol=1e-30,  # the recorder stops it
            max_iter=10**6,
            callback=report,
            throw=False,
        )
        raise Stop(outcome_of(int(solution.status)))

    return run
