"""The front of cost against quality: convex models, and one of them with fewer and fewer filters."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pandas import DataFrame
from tqdm import tqdm

from benchmarks import rates
from benchmarks.harness.clock import alternating, one_thread, processor_seconds
from benchmarks.harness.datasets import open_images
from benchmarks.harness.drawing import canvas, labelled, ticks_of_seconds
from benchmarks.harness.options import Options
from benchmarks.harness.records import write_rows
from benchmarks.harness.registry import Benchmark, Figure, Table, register, selected
from benchmarks.methods.models import gradient_module
from benchmarks.problems.table import PROBLEMS, Measurement, problems
from benchmarks.pruning import pruned, strengths
from convexreg import Reconstruction, load_model, pretrained_names, reconstruct
from convexreg.regularizer import ConvexRegularizer

KEPT = (48, 32, 24, 16, 8)
CROP, SHOWN = 256, "noise-25"


@register
class Front(Benchmark):
    """Denoising at the default tolerance; all models alternate on every image, on one thread.

    The first model, or the first that `--methods` names, is also taken with its strongest groups only,
    without training. Which those are is seen on reconstructions of the tuning images at noise 25.
    """

    name = "front"
    description = "Processor seconds against PSNR of convex models, and of one with fewer filters"
    file = "solves.csv"
    numbers = ("pixels", "seconds", "evaluations", "psnr")
    adds_up = False

    def run(self, options: Options, folder: Path) -> None:
        limit, crop = (1, 24) if options.tiny else (options.limit, options.crop or CROP)
        images = open_images(options.images or "photographs", limit=limit, crop=crop)
        chosen = problems("denoising", options.problems)
        with one_thread():
            models = _models(options)
            sigma, repeats = PROBLEMS[SHOWN].sigma, options.repeats
            file = folder / "rates.csv"
            rates.measure(models, side=crop, sigma=sigma, repeats=repeats, file=file)
            rows: list[dict[str, object]] = []
            cases = [(problem, number) for problem in chosen for number in range(len(images))]
            for problem, number in tqdm(cases, disable=None):
                name, image = images[number]
                measured = _measure(problem.measure(image, number), models, repeats)
                rows += [{"problem": problem.name, "image": name, **row} for row in measured]
                write_rows(folder / self.file, rows)

    def tables(self, folder: Path) -> list[Table]:
        rows = self.rows(folder)
        evaluation = rates.read(folder / "rates.csv").set_index("what")
        shown, lines = _shown(rows), []
        for name, its in shown.groupby("model", sort=False):
            psnr = rows[rows["model"] == name].groupby("problem", sort=False)["psnr"].mean()
            lines.append(
                {
                    "model": name,
                    "filters": its["filters"].iloc[0],
                    "groups": its["groups"].iloc[0],
                    "ns per pixel and evaluation": f"{evaluation['nanoseconds'][name]:.1f}",
                    "evaluations": f"{its['evaluations'].mean():.1f}",
                    "seconds per megapixel": f"{_per_megapixel(its):.3g}",
                    **{f"PSNR, {problem}": f"{mean:.2f}" for problem, mean in psnr.items()},
                    "not converged": f"{(rows[rows['model'] == name]['converged'] != 'True').sum()}",
                }
            )
        note = (
            f"Means over {rows['image'].nunique()} images of {rows['pixels'].mean():.0f} pixels on average; "
            f"evaluations and seconds of a solve are those at {shown['problem'].iloc[0]}. Processor seconds "
            "on one thread, the least of alternating runs. A number behind a name: so many groups are left, "
            "untrained."
        )
        table = Table("Cost against quality", DataFrame(lines), note)
        return [table, rates.table(folder / "rates.csv")]

    def headline(self, folder: Path) -> list[Table]:
        return self.tables(folder)

    def figures(self, folder: Path) -> list[Figure]:
        rows = _shown(self.rows(folder))
        x, problem = "processor seconds per megapixel", rows["problem"].iloc[0]
        figure, axes = canvas(title=f"{problem}: quality against time", x=x, y="PSNR, dB")
        axes.set_xscale("log")
        ticks_of_seconds(axes)
        for name, its in rows.groupby("model", sort=False):
            labelled(axes, [_per_megapixel(its)], [its["psnr"].mean()], [str(name)])
        return [Figure("front", f"Mean PSNR of convex models against {x}: {problem}.", figure)]


def _shown(rows: DataFrame) -> DataFrame:
    """Those at noise 25, or at the first level that there is."""
    there = rows["problem"].unique()
    return rows[rows["problem"] == (SHOWN if SHOWN in there else there[0])]


def _per_megapixel(rows: DataFrame) -> float:
    return 1e6 * rows["seconds"].sum() / rows["pixels"].sum()


def _models(options: Options) -> dict[str, ConvexRegularizer]:
    """The convex models and the pruned ones.

    :raises ValueError: a file whose model is adaptive.
    """
    shipped = {name: load_model(name) for name in pretrained_names()}
    table = {name: model for name, model in shipped.items() if not model.config.adaptive}
    table |= {Path(path).stem: load_model(path) for path in options.models}
    table = selected(table, options.methods, "model")
    models: dict[str, ConvexRegularizer] = {}
    for name, model in table.items():
        if not isinstance(model.regularizer, ConvexRegularizer):
            raise ValueError(f"{name} is adaptive; the front is that of convex models")
        models[name] = model.regularizer
    first = (*options.methods, *table)[0]
    limit, crop = (1, 24) if options.tiny else (options.tuning_limit, options.tuning_crop)
    tuning = open_images(options.tuning_images or "tuning-photographs", limit=limit, crop=crop)
    measurements = [PROBLEMS[SHOWN].measure(image, i) for i, (_, image) in enumerate(tuning)]
    strength = strengths(models[first], measurements)
    for count in KEPT[-1:] if options.tiny else KEPT:
        if count < len(strength):
            models[f"{first}-{count}"] = pruned(table[first], strength, count)
    return models


def _measure(
    measurement: Measurement, models: dict[str, ConvexRegularizer], repeats: int
) -> list[dict[str, object]]:
    """A row per model."""
    m, results = measurement, dict[str, Reconstruction]()

    def run(name: str) -> None:
        results[name] = reconstruct(m.y, m.physics, sigma=m.sigma, regularizer=models[name])

    runs = {name: partial(processor_seconds, partial(run, name)) for name in models}
    times = alternating(runs, repeats)
    rows = []
    for name, result in results.items():
        module = gradient_module(models[name])
        filters, groups = ("", "") if module is None else (module[1].out_channels, module[0].terms)
        rows.append(
            {
                "model": name,
                "filters": filters,
                "groups": groups,
                "pixels": m.y[0, 0].numel(),
                "seconds": f"{min(times[name]):.4f}",
                "evaluations": f"{float(result.evaluations):g}",
                "psnr": f"{m.psnr(result.image):.3f}",
                "converged": result.converged,
            }
        )
    return rows
