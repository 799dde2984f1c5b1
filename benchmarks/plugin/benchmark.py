"""The benchmark `deepinv`: what works, on which operators, at what cost."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median

from pandas import DataFrame, Series
from torch import Tensor

from benchmarks.harness.clock import Clock, summary
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
from benchmarks.plugin.overhead import comparisons, import_seconds
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
        return [table(rows) for name, table in _TABLES.items() if len(rows := _read(folder, name))]

    def headline(self, folder: Path) -> list[Table]:
        algorithms, learning = _read(folder, "algorithms"), _read(folder, "learning")
        if algorithms.empty:
            return []
        agreeing = algorithms[algorithms["result"] == "agrees"]
        rows = {
            f"algorithms that find the minimiser to {AGREEMENT:g}": f"{len(agreeing)} of {len(algorithms)}, "
            f"the worst to {agreeing['error'].astype(float).max():.1e}"
        }
        if len(operators := _read(folder, "operators")):
            monotone = (operators["monotone"] == "True").sum()
            key = "forward operators on which gradient descent is monotone"
            rows[key] = f"{monotone} of {len(operators)}"
        if len(overhead := _read(folder, "overhead")):
            table = _overhead_table(overhead).rows
            rows |= zip("overhead, " + table["work"], table["overhead"], strict=True)
        note = ""
        if len(learning):
            differing = learning[learning["result"] != "agrees"]
            key = "derivatives of trained models and means of samplers that are right"
            rows[key] = f"{len(learning) - len(differing)} of {len(learning)}"
            wrong = [
                f"{row['use']} ({row['deviation']}, allowed {row['allowed']})"
                for _, row in differing.iterrows()
            ]
            note = f"Not right: {', '.join(wrong)}." if wrong else ""
        if len(imports := _read(folder, "imports")):
            times = imports.set_index("import")["seconds"].astype(float)
            extra = times["torch and convexreg"] - times["torch"]
            rows["import convexreg after torch"] = f"{extra:.2f} s"
        table = DataFrame(rows.items(), columns=["in deepinv", "measured"])
        return [Table("At home in deepinv", table, note)]

    def figures(self, folder: Path) -> list[Figure]:
        rows = _read(folder, "algorithms")
        if rows.empty:
            return []
        figure, axes = canvas(
            title="distance to the minimiser, relative", x="", y="", height=0.8 + 0.2 * len(rows)
        )
        axes.plot(rows["error"].astype(float), rows["algorithm"], "o", color="#0072B2")
        axes.axvline(AGREEMENT, color="#D55E00", linestyle="--", linewidth=1)
        axes.set_xscale("log")
        axes.invert_yaxis()
        caption = f"Algorithms of deepinv with ConvexPrior; the dashed line is {AGREEMENT:g}."
        return [Figure("deepinv-algorithms", caption, figure)]


def _read(folder: Path, name: str) -> DataFrame:
    return read_rows(folder / f"{name}.csv")


def _algorithms_table(rows: DataFrame) -> Table:
    columns = {"error": "relative distance", "note": "remark"}
    table = rows[["algorithm", "uses", "error", "result", "note"]].rename(columns=columns)
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


def _operators_table(rows: DataFrame) -> Table:
    counts = {
        "operators": len(rows),
        "monotone": (rows["monotone"] == "True").sum(),
        "with a proven step": (rows["proven"] == "True").sum(),
    }
    note = (
        "Gradient descent (deepinv's GD) with step 1 / (|A|^2 + L) on every linear operator on real 2-D "
        "images that deepinv's own tests build. Without a proven bound |A|^2 is estimated, here only."
    )
    return Table("Forward operators of deepinv", DataFrame([counts]), note)


def _overhead_table(rows: DataFrame) -> Table:
    bare, plugged = (rows[rows["with"] == kind].set_index("work") for kind in ("bare", "deepinv"))
    table = DataFrame(
        {
            "bare, seconds": _spread(bare),
            "in deepinv, seconds": _spread(plugged),
            "overhead": (100 * (plugged["ratio"].astype(float) - 1)).map("{:+.1f} %".format),
        }
    )
    note = (
        f"The same steps on an image of {OVERHEAD_SIDE} x {OVERHEAD_SIDE}: median (least to most)."
    )
    return Table("Overhead of the plug-in", table.reset_index(), note)


def _imports_table(rows: DataFrame) -> Table:
    table = DataFrame({"import": rows["import"], "seconds": _spread(rows)})
    note = "Processor time of a fresh process: median (least to most)."
    return Table("Import times", table, note)


def _spread(rows: DataFrame) -> Series:
    return rows["seconds"] + " (" + rows["seconds_min"] + " to " + rows["seconds_max"] + ")"


_TABLES: dict[str, Callable[[DataFrame], Table]] = {
    "algorithms": _algorithms_table,
    "learning": lambda rows: Table("Training and sampling", rows),
    "operators": _operators_table,
    "overhead": _overhead_table,
    "imports": _imports_table,
}
