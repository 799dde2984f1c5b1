"""Convergence: true gap and certificate against gradient evaluations and seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import pandas
import torch
from pandas import DataFrame, Series
from tqdm import tqdm

from benchmarks.harness.clock import summary as timing
from benchmarks.harness.datasets import open_images
from benchmarks.harness.options import Options
from benchmarks.harness.outcome import Outcome
from benchmarks.harness.records import write_rows
from benchmarks.harness.registry import Benchmark, Figure, Table, register, selected
from benchmarks.methods.models import default_regularizer
from benchmarks.problems.table import named_problem
from benchmarks.solvers import report
from benchmarks.solvers.recorder import MAX_EVALUATIONS, Point, Recorder, Stop
from benchmarks.solvers.table import PEERS, Constants, Peer
from benchmarks.solvers.tasks import Reference, Task, reference
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
    file = "summary.csv"
    adds_up = False

    def run(self, options: Options, folder: Path) -> None:
        traces, summary, references = [], [], []
        for task in _tasks(options):
            exact = reference(task, folder / "references")
            references.append(_reference_row(task, exact))
            for trace, rows in compare(task, exact, _peers(options, task), options):
                traces.append(trace)
                summary += rows
            write_rows(folder / "references.csv", references)
            write_rows(folder / "traces.csv", pandas.concat(traces))
            write_rows(folder / self.file, summary)

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
            yield Task.of(label, measurement, model.to(options.device), box)


def _peers(options: Options, task: Task) -> dict[str, Peer]:
    chosen = selected(PEERS, options.methods, "solver")
    return {name: peer for name, peer in chosen.items() if peer.box or task.problem.box.everything}


def compare(
    task: Task, exact: Reference, peers: dict[str, Peer], options: Options
) -> list[tuple[DataFrame, list[dict[str, object]]]]:
    """Trace and summary of all methods on one task, alternating over `options.repeats` repetitions."""
    constants = _constants(task, exact)
    measured: dict[str, tuple[list[Point], Outcome, str]] = {}
    seconds: dict[str, list[list[float]]] = {name: [] for name in peers}
    _warm_up(task)
    repetitions = max(1, options.repeats)
    bar = tqdm(desc=task.name, total=repetitions * len(peers), disable=None, leave=False)
    for repetition in range(repetitions):
        for name, peer in peers.items():
            if repetition == 0:
                measured[name] = _watch(peer, task, exact, options, None)
                points = measured[name][0]
            else:
                needed = _iterations_to_time(measured[name][0])
                points = _watch(peer, task, exact, options, needed)[0] if needed else []
            seconds[name].append([point.seconds for point in points])
            bar.update()
    bar.close()
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
        task.problem.objective.value_and_grad(task.start)
    task.exact.objective.value(task.start.double())


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
    start, stated = task.start.double(), task.problem.objective
    return Constants(
        lipschitz=float(stated.lipschitz(task.start)),
        strong_convexity=float(stated.strong_convexity(task.start)),
        distance=float((start - exact.x).norm()),
        initial_gap=float(task.exact.objective.value(start)) - exact.value,
    )


COLUMNS = (
    *("task", "method", "model", "tolerance", "outcome", "message", "evaluations", "seconds"),
    *("seconds_min", "seconds_max", "certified_evaluations", "certified_seconds", "final_gap"),
    *("above_proven_curve", "certificate_below_gap"),
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
) -> tuple[DataFrame, list[dict[str, object]]]:
    """Every iterate of a method, and a row per tolerance."""
    scale = abs(exact.value)
    runs = pandas.concat([Series(times, dtype=float) for times in seconds], axis=1)
    trace = DataFrame(points, columns=[field.name for field in fields(Point)])
    trace["seconds"] = runs.median(axis=1)
    trace["proven"] = [
        peer.rate(k, constants) / scale if peer.rate else math.nan for k in trace["iteration"]
    ]
    # what float64 sums and the reference itself leave uncertain
    slack = 1e-12 + (exact.gap / scale if exact.gap < math.inf else 1e-9)
    label = {"task": task.name, "method": name}
    summary = []
    for tolerance in TOLERANCES:
        row = dict.fromkeys(COLUMNS) | {
            **label,
            "model": _model_name(task),
            "tolerance": f"{tolerance:.0e}".replace("e-0", "e-"),
            "outcome": str(outcome),
            "message": message,
            "final_gap": f"{trace['gap'].min():.2e}",
            "certificate_below_gap": int((trace["certified"] < trace["gap"] - slack).sum()),
        }
        if peer.rate:
            row["above_proven_curve"] = int((trace["gap"] > trace["proven"] + slack).sum())
        true, proven = (trace[trace[key] <= tolerance] for key in ("gap", "certified"))
        if len(true):
            times = runs.loc[true.index[0]]
            row["evaluations"] = true["evaluations"].iloc[0]
            row |= timing(times.dropna().tolist())
        if len(proven):
            row["certified_evaluations"] = proven["evaluations"].iloc[0]
            row["certified_seconds"] = f"{proven['seconds'].iloc[0]:.4f}"
        summary.append(row)
    forms = {"seconds": "{:.5f}", "gap": "{:.3e}", "certified": "{:.3e}", "proven": "{:.3e}"}
    saved = trace.assign(**{key: trace[key].map(form.format) for key, form in forms.items()})
    return DataFrame(label, index=saved.index).join(saved), summary


def _model_name(task: Task) -> str:
    return getattr(task.problem.regularizer, "name", "")


def _reference_row(task: Task, exact: Reference) -> dict[str, object]:
    proven = exact.gap < math.inf
    return {
        "task": task.name,
        "model": _model_name(task),
        "minimum": f"{exact.value:.12g}",
        "certified_relative_gap": f"{exact.gap / abs(exact.value):.1e}" if proven else "none",
        "stationarity": f"{exact.stationarity:.1e}",
        "evaluations": f"{exact.evaluations:g}",
        "lipschitz": f"{float(task.problem.objective.lipschitz(task.start)):.4g}",
    }
