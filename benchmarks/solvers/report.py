"""Tables and figures of the convergence benchmark, from its files."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from benchmarks.harness.drawing import canvas, legend_below, style_of, ticks_of_seconds
from benchmarks.harness.outcome import Outcome
from benchmarks.solvers.recorder import MAX_EVALUATIONS
from benchmarks.harness.records import read_rows
from benchmarks.harness.registry import Figure, Table
from benchmarks.solvers.profile import performance_profile

Rows = list[dict[str, str]]


def _group(task: str) -> str:
    """Tasks that differ in the image only belong together: `noise-25 camera` and `noise-25 coins`."""
    problem, _, *constraint = task.split(" ")
    return " ".join([problem, *constraint])


def tables(folder: Path) -> list[Table]:
    """One table per kind of task, then the reference minima."""
    groups: dict[str, Rows] = defaultdict(list)
    for row in read_rows(folder / "summary.csv"):
        groups[_group(row["task"])].append(row)
    result = [_group_table(group, rows) for group, rows in groups.items()]
    references = read_rows(folder / "references.csv")
    if references:
        result.append(
            Table(
                "Reference minima",
                references,
                "Computed in float64. The certificate is proven; without strong convexity or a box "
                "there is none, and the gradient's rms says how close it is.",
            )
        )
    return result


def _group_table(group: str, rows: Rows) -> Table:
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    cells: dict[str, dict[str, Rows]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        cells[row["method"]][row["tolerance"]].append(row)
    lines = []
    for method, by_tolerance in cells.items():
        line: dict[str, object] = {"method": method}
        for tolerance, entries in by_tolerance.items():
            line[f"evaluations to {tolerance}"] = _mean(entries, "evaluations")
        middle = by_tolerance.get("1e-6") or next(iter(by_tolerance.values()))
        line["certified"] = _mean(middle, "certified_evaluations")
        line["seconds"] = _mean(middle, "seconds", "seconds_min", "seconds_max")
        line["outcome"] = _outcomes(middle)
        lines.append(line)
    note = (
        f"Mean over {len(tasks)} image(s). A gradient evaluation counts one, a value alone one half. "
        "Columns 'evaluations' are to a true relative gap, 'certified' is where the method itself "
        "proves 1e-6, 'seconds' are to a true gap of 1e-6 (median of the repetitions, with the least "
        f"and the most). A dash: not reached, within at most {MAX_EVALUATIONS} evaluations (iteration limit)."
    )
    if any(str(Outcome.STAGNATED) in str(line["outcome"]) for line in lines):
        note += (
            " Stagnated: at the limits of float32, it could not lower the objective any further."
        )
    return Table(f"Convergence: {group}", lines, note)


def _mean(rows: Rows, column: str, least: str | None = None, most: str | None = None) -> str:
    """The mean over tasks; a dash when any of them did not get there."""
    if any(row[column] == "" for row in rows):
        return "-"

    def mean(key: str) -> float:
        return sum(float(row[key]) for row in rows) / len(rows)

    if least is None or most is None:
        return f"{mean(column):.1f}".removesuffix(".0")
    return f"{mean(column):.2f} ({mean(least):.2f} to {mean(most):.2f})"


def _outcomes(rows: Rows) -> str:
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[row["outcome"]] += 1
    return ", ".join(f"{outcome} {count}" for outcome, count in counts.items())


def figures(folder: Path) -> list[Figure]:
    """Gap against evaluations and seconds, certificates with the proven curves, profiles."""
    traces, summary = read_rows(folder / "traces.csv"), read_rows(folder / "summary.csv")
    methods = list(dict.fromkeys(row["method"] for row in summary))
    first: dict[str, str] = {}
    for row in traces:
        first.setdefault(_group(row["task"]), row["task"])
    result = []
    for number, task in enumerate(first.values()):
        rows = [row for row in traces if row["task"] == task]
        for key, label in (("evaluations", "gradient evaluations"), ("seconds", "seconds")):
            result.append(_curves(rows, methods, task, key, label, f"gap-{key}-{number}"))
        result.append(_proofs(rows, methods, task, f"proofs-{number}"))
    if summary:
        result += [_profile(summary, methods, key) for key in ("evaluations", "seconds")]
    return result


def _series(rows: Rows, method: str, x: str, y: str) -> tuple[list[float], list[float]]:
    pairs = [(float(row[x]), float(row[y])) for row in rows if row["method"] == method]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _best_so_far(values: list[float]) -> list[float]:
    best, result = float("inf"), []
    for value in values:
        best = min(best, value)
        result.append(max(best, 1e-12))
    return result


def _curves(rows: Rows, methods: list[str], task: str, key: str, label: str, name: str) -> Figure:
    figure, axes = canvas(title=task, x=label, y="relative gap", height=4.6)
    for method in methods:
        xs, ys = _series(rows, method, key, "gap")
        if xs:
            axes.plot(xs, _best_so_far(ys), label=method, **style_of(method, methods))
    axes.set_yscale("log")
    axes.set_ylim(3e-9, 10)
    if key == "seconds":
        axes.set_xscale("log")
        ticks_of_seconds(axes)
    legend_below(figure, axes)
    return Figure(name, f"{task}: true relative gap (best so far) against {label}.", figure)


def _proofs(rows: Rows, methods: list[str], task: str, name: str) -> Figure:
    """What is known without the reference: the certificate, and what the theorem promises."""
    figure, axes = canvas(title=task, x="gradient evaluations", y="relative gap", height=4.2)
    for method in methods:
        xs, certified = _series(rows, method, "evaluations", "certified")
        _, proven = _series(rows, method, "evaluations", "proven")
        finite = any(value < float("inf") for value in certified)
        promised = any(value == value for value in proven)
        if not xs or not (finite or promised):
            continue
        colour = style_of(method, methods)["color"]
        _, gaps = _series(rows, method, "evaluations", "gap")
        axes.plot(xs, _best_so_far(gaps), color=colour, label=method)
        if finite:
            axes.plot(xs, certified, color=colour, linestyle=":", linewidth=1.2)
        if promised:
            axes.plot(xs, proven, color=colour, linestyle="--", linewidth=1.0)
    axes.set_yscale("log")
    axes.set_ylim(3e-9, 1e3)
    axes.plot([], [], color="gray", linestyle=":", label="certificate")
    axes.plot([], [], color="gray", linestyle="--", label="proven rate")
    legend_below(figure, axes)
    caption = (
        f"{task}: true gap (solid), the certificate reported while running (dotted) and the curve the "
        "theorem promises (dashed). Neither of the latter may go below the first."
    )
    return Figure(name, caption, figure)


def _profile(summary: Rows, methods: list[str], key: str) -> Figure:
    costs: dict[str, dict[str, float]] = defaultdict(dict)
    for row in summary:
        problem = f"{row['task']} {row['tolerance']}"
        costs[row["method"]][problem] = float(row[key]) if row[key] else float("inf")
    curves = performance_profile(costs)
    figure, axes = canvas(
        title=f"performance profile, {key}",
        x=f"times the fewest {key}",
        y="share solved",
        height=4.4,
    )
    for method in methods:
        if method in curves:
            xs, ys = curves[method]
            axes.step(xs, ys, where="post", label=method, **style_of(method, methods))
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(0, 1.03)
    legend_below(figure, axes)
    caption = (
        "Share of tasks and tolerances a method solves within a multiple of the best method's cost "
        "(Dolan & Moré 2002); what a method did not reach, or cannot do, counts as unsolved."
    )
    return Figure(f"profile-{key}", caption, figure)
