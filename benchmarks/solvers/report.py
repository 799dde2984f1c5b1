"""Tables and figures of the convergence benchmark, from its files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from pandas import DataFrame

from benchmarks.harness.drawing import canvas, legend_below, style_of, ticks_of_seconds
from benchmarks.harness.outcome import Outcome
from benchmarks.harness.records import read_rows
from benchmarks.harness.registry import Figure, Table
from benchmarks.solvers.recorder import MAX_EVALUATIONS

NUMBERS = ["evaluations", "certified_evaluations", "seconds", "seconds_min", "seconds_max"]


def _read(folder: Path, name: str, numbers: Sequence[str]) -> DataFrame:
    """A file, with the kind of its tasks without their image: `noise-25` of `noise-25 coins`."""
    rows = read_rows(folder / f"{name}.csv")
    if rows.empty:
        return rows
    kinds = rows["task"].str.replace(r" \S+", "", n=1, regex=True)
    return rows.astype(dict.fromkeys(numbers, float)).assign(kind=kinds)


def tables(folder: Path) -> list[Table]:
    """One table per kind of task, then the reference minima."""
    summary = _read(folder, "summary", NUMBERS)
    result = [_kind_table(str(kind), rows) for kind, rows in summary.groupby("kind", sort=False)]
    note = (
        "Computed in float64. The certificate is proven; without strong convexity or a box "
        "there is none, and the gradient's rms says how close it is."
    )
    return [*result, Table("Reference minima", read_rows(folder / "references.csv"), note)]


def _kind_table(kind: str, rows: DataFrame) -> Table:
    # the mean over images; none when one of them did not get there
    cells = rows.groupby(["method", "tolerance"], sort=False)
    means = cells[NUMBERS].agg(lambda values: values.mean(skipna=False))
    tolerances = rows["tolerance"].unique()
    chosen = "1e-6" if "1e-6" in tolerances else tolerances[0]
    lines = []
    for method in rows["method"].unique():
        its = means.loc[method]
        middle = its.loc[chosen]
        entries = rows[(rows["method"] == method) & (rows["tolerance"] == chosen)]
        outcomes = entries.groupby("outcome", sort=False).size()
        lines.append(
            {
                "method": method,
                **{f"evaluations to {t}": _number(its.loc[t, "evaluations"]) for t in tolerances},
                "certified": _number(middle["certified_evaluations"]),
                "seconds": "-"
                if math.isnan(middle["seconds"])
                else "{:.2f} ({:.2f} to {:.2f})".format(*middle[NUMBERS[2:]]),
                "outcome": ", ".join(f"{outcome} {count}" for outcome, count in outcomes.items()),
            }
        )
    note = (
        f"Mean over {rows['task'].nunique()} image(s). A gradient evaluation counts one, a value alone one "
        "half. Columns 'evaluations' are to a true relative gap, 'certified' is where the method itself "
        "proves 1e-6, 'seconds' are to a true gap of 1e-6 (median of the repetitions, with the least "
        f"and the most). A dash: not reached, within at most {MAX_EVALUATIONS} evaluations (iteration limit)."
    )
    if any(str(Outcome.STAGNATED) in line["outcome"] for line in lines):
        note += (
            " Stagnated: at the limits of float32, it could not lower the objective any further."
        )
    return Table(f"Convergence: {kind}", DataFrame(lines), note)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}".removesuffix(".0")


def figures(folder: Path) -> list[Figure]:
    """Gap against evaluations and seconds, certificates with the proven curves, profiles."""
    columns = ("evaluations", "seconds", "gap", "certified", "proven")
    traces, summary = _read(folder, "traces", columns), _read(folder, "summary", NUMBERS)
    methods = summary["method"].unique()
    result = []
    firsts = [] if traces.empty else traces.drop_duplicates("kind")["task"]
    for number, task in enumerate(firsts):
        rows = traces[traces["task"] == task]
        for key, label in (("evaluations", "gradient evaluations"), ("seconds", "seconds")):
            result.append(_curves(rows, methods, task, key, label, f"gap-{key}-{number}"))
        result.append(_proofs(rows, methods, task, f"proofs-{number}"))
    return result + [_profile(summary, methods, key) for key in ("evaluations", "seconds")]


def _curves(
    rows: DataFrame, methods: Iterable[object], task: str, key: str, label: str, name: str
) -> Figure:
    figure, axes = canvas(title=task, x=label, y="relative gap", height=4.6)
    for method, its in rows.groupby("method", sort=False):
        best = its["gap"].cummin().clip(lower=1e-12)
        axes.plot(its[key], best, label=method, **style_of(method, methods))
    axes.set_yscale("log")
    axes.set_ylim(3e-9, 10)
    if key == "seconds":
        axes.set_xscale("log")
        ticks_of_seconds(axes)
    legend_below(figure, axes)
    return Figure(name, f"{task}: true relative gap (best so far) against {label}.", figure)


def _proofs(rows: DataFrame, methods: Iterable[object], task: str, name: str) -> Figure:
    """What is known without the reference: the certificate, and what the theorem promises."""
    figure, axes = canvas(title=task, x="gradient evaluations", y="relative gap", height=4.2)
    for method, its in rows.groupby("method", sort=False):
        certified = bool((its["certified"] < math.inf).any())
        promised = bool(its["proven"].notna().any())
        if not (certified or promised):
            continue
        colour, xs = style_of(method, methods)["color"], its["evaluations"]
        axes.plot(xs, its["gap"].cummin().clip(lower=1e-12), color=colour, label=method)
        if certified:
            axes.plot(xs, its["certified"], color=colour, linestyle=":", linewidth=1.2)
        if promised:
            axes.plot(xs, its["proven"], color=colour, linestyle="--", linewidth=1.0)
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


def _profile(summary: DataFrame, methods: Iterable[object], key: str) -> Figure:
    curves = performance_profile(
        summary.pivot_table(key, ["task", "tolerance"], "method", dropna=False)
    )
    figure, axes = canvas(
        title=f"performance profile, {key}",
        x=f"times the fewest {key}",
        y="share solved",
        height=4.4,
    )
    for method in methods:
        xs, ys = curves[str(method)]
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


def performance_profile(costs: DataFrame) -> dict[str, tuple[list[float], list[float]]]:
    """Share of problems each method solves within `tau` times the best cost, as steps `(tau, share)`
    (Dolan & Moré 2002).

    :param costs: one row per problem, one column per method, NaN for unsolved.
    """
    ratios = costs.div(costs.min(axis=1), axis=0)
    last = 1.1 * ratios.max(axis=None) if ratios.notna().any(axis=None) else 1.1
    curves = {}
    for method in ratios:
        steps = ratios[method].dropna().sort_values().tolist()
        shares = [k / len(ratios) for k in range(len(steps) + 1)]
        curves[str(method)] = ([1.0, *steps, last], [*shares, shares[-1]])
    return curves
