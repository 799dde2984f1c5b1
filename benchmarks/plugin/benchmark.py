"""The benchmark `deepinv`: what works, on which operators, at what cost."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median

from torch import Tensor

from benchmarks.harness.clock import Clock
from benchmarks.harness.datasets import centre, open_images
from benchmarks.harness.drawing import canvas
from benchmarks.harness.options import Options
from benchmarks.harness.outcome import Outcome
from benchmarks.harness.records import read_rows, write_rows
from benchmarks.harness.registry import Benchmark, Figure, Table, register, selected
from benchmarks.methods.models import default_regularizer
from benchmarks.plugin.algorithms import ALGORITHMS, PluginProblem
from benchmarks.plugin.learning import USES
from benchmarks.plugin.operators import descend, operators
from benchmarks.plugin.overhead import comparisons, import_seconds, summary
from convexreg.regularizer import ConvexRegularizer

AGREEMENT = 1e-5
SIDE, OVERHEAD_SIDE = 32, 128


@register
class Deepinv(Benchmark):
    """Five tables: algorithms, learning, forward operators, overhead, imports.

    `--problems` chooses among them, `--methods` algorithms, `--crop` the image side for these,
    `--repeats` those of the timings.
    """

    name = "deepinv"
    description = "The regularizer in deepinv: every algorithm, every operator, overhead, imports"

    def run(self, options: Options, folder: Path) -> None:
        parts = selected(_PARTS, options.problems, "part")
        _, image = open_images(options.images or "photographs", limit=1)[0]
        regularizer = default_regularizer(options)
        if not isinstance(regularizer, ConvexRegularizer):
            raise ValueError(f"the model {regularizer.name} is not convex; choose another")
        for name, part in parts.items():
            write_rows(folder / f"{name}.csv", part(regularizer, image, options))

    def tables(self, folder: Path) -> list[Table]:
        tables = [
            _algorithms_table(read_rows(folder / "algorithms.csv")),
            Table("Training and sampling", read_rows(folder / "learning.csv")),
            _operators_table(read_rows(folder / "operators.csv")),
            _overhead_table(read_rows(folder / "overhead.csv")),
            _imports_table(read_rows(folder / "imports.csv")),
        ]
        return [table for table in tables if table.rows]

    def headline(self, folder: Path) -> list[Table]:
        algorithms = read_rows(folder / "algorithms.csv")
        if not algorithms:
            return []
        agreeing = [row for row in algorithms if row["result"] == "agrees"]
        learning = read_rows(folder / "learning.csv")
        (operator,) = _operators_table(read_rows(folder / "operators.csv")).rows
        rows = [
            {
                "in deepinv": f"algorithms that find the minimiser to {AGREEMENT:g}",
                "measured": f"{len(agreeing)} of {len(algorithms)}, the worst to "
                f"{max(float(row['error']) for row in agreeing):.1e}",
            },
            {
                "in deepinv": "forward operators on which gradient descent is monotone",
                "measured": f"{operator['monotone']} of {operator['operators']}",
            },
            *(
                {"in deepinv": f"overhead, {row['work']}", "measured": row["overhead"]}
                for row in _overhead_table(read_rows(folder / "overhead.csv")).rows
            ),
        ]
        if learning:
            agreed = sum(row["result"] == "agrees" for row in learning)
            rows.append(
                {
                    "in deepinv": "derivatives of trained models and means of samplers that are right",
                    "measured": f"{agreed} of {len(learning)}",
                }
            )
        times = {row["import"]: row["seconds"] for row in read_rows(folder / "imports.csv")}
        if times:
            extra = float(times["torch and convexreg"]) - float(times["torch"])
            rows.append(
                {"in deepinv": "import convexreg after torch", "measured": f"{extra:.2f} s"}
            )
        differing = [
            f"{row['use']} ({row['deviation']}, allowed {row['allowed']})"
            for row in learning
            if row["result"] != "agrees"
        ]
        note = f"Not right: {', '.join(differing)}." if differing else ""
        return [Table("At home in deepinv", rows, note)]

    def figures(self, folder: Path) -> list[Figure]:
        rows = read_rows(folder / "algorithms.csv")
        if not rows:
            return []
        figure, axes = canvas(
            title="distance to the minimiser, relative", x="", y="", height=0.8 + 0.2 * len(rows)
        )
        names = [row["algorithm"] for row in rows]
        axes.plot([float(row["error"]) for row in rows], names, "o", color="#0072B2")
        axes.axvline(AGREEMENT, color="#D55E00", linestyle="--", linewidth=1)
        axes.set_xscale("log")
        axes.invert_yaxis()
        caption = f"Algorithms of deepinv with ConvexPrior; the dashed line is {AGREEMENT:g}."
        return [Figure("deepinv-algorithms", caption, figure)]


def _algorithms_table(rows: list[dict[str, str]]) -> Table:
    table = [
        {
            "algorithm": row["algorithm"],
            "uses": row["uses"],
            "relative distance": row["error"],
            "result": row["result"],
            "remark": row["note"],
        }
        for row in rows
    ]
    note = (
        "Relative distance to the minimiser found by convexreg's own solver, in float64; where the "
        "algorithm minimises another function (remark), a proven bound on the distance to that "
        f"minimiser. Agrees: at most {AGREEMENT:g}."
    )
    return Table("Algorithms of deepinv with ConvexPrior", table, note)


Rows = list[dict[str, object]]


def _problem(regularizer: ConvexRegularizer, image: Tensor, options: Options) -> PluginProblem:
    clean = centre(image, options.crop or (10 if options.tiny else SIDE)).unsqueeze(0).double()
    return PluginProblem.build(copy.deepcopy(regularizer).double(), clean)


def _algorithms(regularizer: ConvexRegularizer, image: Tensor, options: Options) -> Rows:
    problem = _problem(regularizer, image, options)
    minimiser, rows = problem.minimiser(), []
    chosen = list(selected(ALGORITHMS, options.methods, "algorithm").items())
    for name, algorithm in chosen[: 4 if options.tiny else None]:
        clock = Clock("cpu")
        try:
            error = algorithm.error(problem, algorithm.run(problem), minimiser)
            result = "agrees" if error <= AGREEMENT else "differs"
        except Exception as failure:  # a row of its own, as every method's
            error, result = float("nan"), f"{Outcome.FAILED}: {failure}"
        rows.append(
            {
                "algorithm": name,
                "uses": algorithm.uses,
                "error": f"{error:.1e}",
                "result": result,
                "seconds": f"{clock.seconds:.2f}",
                "note": algorithm.note,
            }
        )
    return rows


def _learning(regularizer: ConvexRegularizer, image: Tensor, options: Options) -> Rows:
    problem = _problem(regularizer, image, options)
    rows: Rows = []
    for name, use in list(USES.items())[: 2 if options.tiny else None]:
        deviation = use.deviation(problem)
        result = "agrees" if deviation <= use.allowed else "differs"
        measured = {"measured": use.measured, "deviation": f"{deviation:.1e}"}
        rows.append({"use": name, **measured, "allowed": f"{use.allowed:g}", "result": result})
    return rows


def _operators(regularizer: ConvexRegularizer, image: Tensor, options: Options) -> Rows:
    chosen = list(operators())[: 3 if options.tiny else None]
    steps = 2 if options.tiny else 20
    return [asdict(descend(regularizer, *row, steps=steps)) for row in chosen]


def _overhead(regularizer: ConvexRegularizer, image: Tensor, options: Options) -> Rows:
    clean = centre(image, 16 if options.tiny else OVERHEAD_SIDE).unsqueeze(0)
    rows: Rows = []
    for comparison in comparisons(regularizer, clean, 2 if options.tiny else 10):
        bare, plugged = comparison.seconds(options.repeats)
        ratio = median(b / a for a, b in zip(bare, plugged, strict=True))
        rows.append({"work": comparison.name, "with": "bare", **summary(bare)})
        row = {"work": comparison.name, "with": "deepinv", **summary(plugged)}
        rows.append({**row, "ratio": f"{ratio:.4f}"})
    return rows


def _imports(regularizer: ConvexRegularizer, image: Tensor, options: Options) -> Rows:
    del regularizer, image
    if options.tiny:
        return []
    times = import_seconds(options.repeats)
    return [{"import": name, **summary(values)} for name, values in times.items()]


_PARTS: dict[str, Callable[[ConvexRegularizer, Tensor, Options], Rows]] = {
    "algorithms": _algorithms,
    "learning": _learning,
    "operators": _operators,
    "overhead": _overhead,
    "imports": _imports,
}


def _operators_table(rows: list[dict[str, str]]) -> Table:
    counts = {
        "operators": len(rows),
        "monotone": sum(row["monotone"] == "True" for row in rows),
        "with a proven step": sum(row["proven"] == "True" for row in rows),
    }
    note = (
        "Gradient descent (deepinv's GD) with step 1 / (|A|^2 + L) on every linear operator on real 2-D "
        "images that deepinv's own tests build. Without a proven bound |A|^2 is estimated, here only."
    )
    return Table("Forward operators of deepinv", [counts], note)


def _overhead_table(rows: list[dict[str, str]]) -> Table:
    table = []
    for bare, plugged in zip(rows[::2], rows[1::2], strict=True):
        table.append(
            {
                "work": bare["work"],
                "bare, seconds": _spread(bare),
                "in deepinv, seconds": _spread(plugged),
                "overhead": f"{100 * (float(plugged['ratio']) - 1):+.1f} %",
            }
        )
    note = (
        f"The same steps on an image of {OVERHEAD_SIDE} x {OVERHEAD_SIDE}: median (least to most)."
    )
    return Table("Overhead of the plug-in", table, note)


def _imports_table(rows: list[dict[str, str]]) -> Table:
    table = [{"import": row["import"], "seconds": _spread(row)} for row in rows]
    return Table(
        "Import times", table, "Processor time of a fresh process: median (least to most)."
    )


def _spread(row: dict[str, str]) -> str:
    return f"{row['seconds']} ({row['seconds_min']} to {row['seconds_max']})"
