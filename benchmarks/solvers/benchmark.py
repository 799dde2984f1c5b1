"""Convergence: true gap and certificate against gradient evaluations and seconds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from tqdm import tqdm

from benchmarks.solvers import report
from benchmarks.harness.datasets import open_images
from benchmarks.harness.outcome import Outcome
from benchmarks.solvers.recorder import MAX_EVALUATIONS, Point, Recorder, Stop
from benchmarks.harness.records import write_rows
from benchmarks.harness.options import Options
from benchmarks.harness.registry import Benchmark, Figure, Table, register, selected
from benchmarks.solvers.tasks import Reference, Task, reference
from benchmarks.methods.models import default_regularizer
from benchmarks.problems.table import named_problem
from benchmarks.solvers.table import PEERS, Constants, Peer
from convexreg.solvers import Box

TOLERANCES = (1e-4, 1e-6, 1e-8)
# problem, number of images, constraint
DEFAULT_TASKS = (
    ("noise-25", 2, Box()),
    ("gaussian-0.01-circular", 1, Box()),
    ("gaussian-0.01-circular", 1, Box(0.0, 1.0)),
)


@register
class Convergence(Benchmark):
    """Every solver on every task, alternating; one measured run, then runs for the time alone.

    `traces.csv` has a row per iterate, `summary.csv` one per task, method and tolerance,
    `references.csv` the exact minima; the minima themselves are cached in `references/`.
    """

    name = "convergence"
    description = "Gap and certificate against gradient evaluations and seconds, all solvers"
    adds_up = False

    def run(self, options: Options, folder: Path) -> None:
        traces, summary, references = [], [], []
        for task in _tasks(options):
            exact = reference(task, folder / "references")
            references.append(_reference_row(task, exact))
            for row in compare(task, exact, _peers(options, task), options):
                traces += row.traces
                summary += row.summary
            write_rows(folder / "references.csv", references)
            write_rows(folder / "traces.csv", traces)
            write_rows(folder / "summary.csv", summary)

    def tables(self, folder: Path) -> list[Table]:
        return report.tables(folder)

    def headline(self, folder: Path) -> list[Table]:
        return report.tables(folder)[:2]

    def figures(self, folder: Path) -> list[Figure]:
        return report.figures(folder)


def _tasks(options: Options) -> Iterable[Task]:
    crop = options.crop or (24 if options.tiny else 96)
    images = open_images(options.images or "photographs", limit=options.limit, crop=crop)
    model = default_regularizer(options)
    rows = [row for row in DEFAULT_TASKS if not options.problems or row[0] in options.problems]
    rows += [
        (name, 1, Box())
        for name in options.problems
        if name not in {row[0] for row in DEFAULT_TASKS}
    ]
    for name, count, box in rows:
        for number, (image_name, image) in enumerate(
            images[: 1 if options.tiny else options.limit or count]
        ):
            measurement = named_problem(name).measure(image, number, device=options.device)
            label = f"{name} {image_name}" + ("" if box.everything else " in a box")
            yield Task(label, measurement, model.to(options.device), box)


def _peers(options: Options, task: Task) -> dict[str, Peer]:
    chosen = selected(PEERS, options.methods, "solver")
    return {name: peer for name, peer in chosen.items() if peer.box or task.box.everything}


class Comparison:
    """Rows of one method on one task."""

    def __init__(self) -> None:
        self.traces: list[dict[str, object]] = []
        self.summary: list[dict[str, object]] = []


def compare(
    task: Task, exact: Reference, peers: dict[str, Peer], options: Options
) -> list[Comparison]:
    """All methods on one task, alternating over `options.repeats` repetitions."""
    constants = _constants(task, exact)
    measured: dict[str, tuple[list[Point], Outcome, str]] = {}
    seconds: dict[str, list[list[float]]] = {name: [] for name in peers}
    _warm_up(task)
    repetitions = max(1, options.repeats)
    bar = tqdm(desc=task.name, total=repetitions * len(peers), disable=None, leave=False)
    with bar:
        for repetition in range(repetitions):
            for name, peer in peers.items():
                if repetition == 0:
                    points, outcome, message = _watch(peer, task, exact, options, None)
                    measured[name] = (points, outcome, message)
                else:
                    needed = _iterations_to_time(measured[name][0])
                    points = _watch(peer, task, exact, options, needed)[0] if needed else []
                seconds[name].append([point.seconds for point in points])
                bar.update()
    return [
        _rows(task, name, peers[name], *measured[name], seconds[name], constants, exact)
        for name in peers
    ]


def _iterations_to_time(points: list[Point]) -> int:
    """Iterations to the tightest tolerance a method reached: what comes after is not timed again."""
    best, last = float("inf"), 0
    for point in points:
        if any(point.gap <= tolerance < best for tolerance in TOLERANCES):
            last = point.iteration
        best = min(best, point.gap)
    return last


def _warm_up(task: Task) -> None:
    """First calls allocate and choose algorithms; nobody pays for that."""
    for _ in range(2):
        task.objective.value_and_grad(task.start)
    task.exact.objective.value(task.exact.start)


def _watch(
    peer: Peer, task: Task, exact: Reference, options: Options, iterations: int | None
) -> tuple[list[Point], Outcome, str]:
    """One run. Whatever a method raises is its failure, not the benchmark's."""
    record = Recorder(
        task,
        exact,
        target=TOLERANCES[-1],
        max_evaluations=20 if options.tiny else MAX_EVALUATIONS,
        time_limit=options.time_limit,
        iterations=iterations,
    )
    record.restart()
    outcome, message = Outcome.FINISHED, "stopped by its own rule"
    with torch.no_grad():
        try:
            peer.run(task, record)
        except Stop as stop:
            outcome, message = stop.outcome, ""
        except Exception as error:
            outcome, message = Outcome.FAILED, f"{type(error).__name__}: {error}"
    return record.points, outcome, message


def _constants(task: Task, exact: Reference) -> Constants:
    objective, start = task.exact.objective, task.exact.start
    return Constants(
        lipschitz=float(objective.lipschitz(start)),
        strong_convexity=float(objective.strong_convexity(start)),
        distance=float((start - exact.x).norm()),
        initial_gap=float(objective.value(start)) - exact.value,
    )


def _rows(
    task: Task,
    name: str,
    peer: Peer,
    points: list[Point],
    outcome: Outcome,
    message: str,
    seconds: list[list[float]],
    constants: Constants,
    exact: Reference,
) -> Comparison:
    rows = Comparison()
    timed = [
        replace(point, seconds=median(times[k] for times in seconds if k < len(times)))
        for k, point in enumerate(points)
    ]
    scale = abs(exact.value)
    for point in timed:
        proven = peer.rate(point.iteration, constants) / scale if peer.rate else float("nan")
        rows.traces.append(
            {
                "task": task.name,
                "method": name,
                "iteration": point.iteration,
                "evaluations": point.evaluations,
                "seconds": f"{point.seconds:.5f}",
                "gap": f"{point.gap:.3e}",
                "certified": f"{point.certified:.3e}",
                "proven": f"{proven:.3e}",
            }
        )
    # what float64 sums and the reference itself leave uncertain
    slack = 1e-12 + (exact.gap / scale if exact.gap < float("inf") else 1e-9)
    above = [
        p for p in timed if peer.rate and p.gap > peer.rate(p.iteration, constants) / scale + slack
    ]
    below = [p for p in timed if p.certified < p.gap - slack]
    for tolerance in TOLERANCES:
        true = next((k for k, p in enumerate(timed) if p.gap <= tolerance), None)
        proven = next((k for k, p in enumerate(timed) if p.certified <= tolerance), None)
        times = [] if true is None else [run[true] for run in seconds if true < len(run)]
        rows.summary.append(
            {
                "task": task.name,
                "method": name,
                "model": task.regularizer.name,
                "tolerance": f"{tolerance:.0e}".replace("e-0", "e-"),
                "outcome": str(outcome),
                "message": message,
                "evaluations": "" if true is None else timed[true].evaluations,
                "seconds": "" if true is None else f"{median(times):.4f}",
                "seconds_min": "" if true is None else f"{min(times):.4f}",
                "seconds_max": "" if true is None else f"{max(times):.4f}",
                "certified_evaluations": "" if proven is None else timed[proven].evaluations,
                "certified_seconds": "" if proven is None else f"{timed[proven].seconds:.4f}",
                "final_gap": f"{min((p.gap for p in timed), default=float('nan')):.2e}",
                "above_proven_curve": len(above) if peer.rate else "",
                "certificate_below_gap": len(below),
            }
        )
    return rows


def _reference_row(task: Task, exact: Reference) -> dict[str, object]:
    proven = exact.gap < float("inf")
    return {
        "task": task.name,
        "model": task.regularizer.name,
        "minimum": f"{exact.value:.12g}",
        "certified_relative_gap": f"{exact.gap / abs(exact.value):.1e}" if proven else "none",
        "stationarity": f"{exact.stationarity:.1e}",
        "evaluations": f"{exact.evaluations:g}",
        "lipschitz": f"{float(task.objective.lipschitz(task.start)):.4g}",
    }
