"""What denoising a picture costs and how good it gets, beside methods without learning."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pandas import DataFrame
from tqdm import tqdm

from benchmarks import rates
from benchmarks.harness.clock import alternating, one_thread, processor_seconds
from benchmarks.harness.datasets import centre, open_images
from benchmarks.harness.drawing import canvas, labelled, ticks_of_seconds
from benchmarks.harness.options import Options
from benchmarks.harness.outcome import Outcome, Result, outcome_of
from benchmarks.harness.records import write_rows
from benchmarks.harness.registry import Benchmark, Figure, Table, register, selected
from benchmarks.methods import denoisers, total_variation, wavelets
from benchmarks.methods.models import Unavailable
from benchmarks.methods.tuning import coarse_to_fine
from benchmarks.problems.table import InverseProblem, Measurement, problems
from convexreg import load_model, pretrained_names, reconstruct
from convexreg.regularizer import ConvexRegularizer

Method = Callable[[Measurement, float], Result]
REFERENCE = "BM3D"
CLASSICAL: dict[str, Method] = {
    REFERENCE: denoisers.block_matching,
    "TV": total_variation.reconstruct,
    "non-local means": denoisers.nonlocal_means,
    "wavelets": wavelets.reconstruct,
}
TUNED = ("TV", "wavelets")
PROBLEMS, SIDE = ("noise-25",), 256


@register
class Times(Benchmark):
    """`reconstruct(y, physics, sigma=..., regularizer=NAME)` with everything else left alone.

    Every picture is denoised whole and its central 256 x 256 pixels, in gray or colour as the file is. Times
    are those of the processor, on one thread, the least of alternating runs. TV and wavelets are solved as
    in `denoising`, with weights tuned on gray images. `rates` has what an evaluation takes.
    """

    name = "times"
    description = (
        "Processor seconds and PSNR of denoising a picture, beside methods without learning"
    )
    file = "times.csv"
    numbers = ("pixels", "seconds", "evaluations", "psnr")
    adds_up = False

    def run(self, options: Options, folder: Path) -> None:
        paths = {Path(path).stem: path for path in (*pretrained_names(), *options.models)}
        learned = {name: partial(_learned, path) for name, path in paths.items()}
        methods = selected(CLASSICAL | learned, options.methods, "method")
        chosen = problems("denoising", options.problems or PROBLEMS)
        limit, largest, side = (1, 32, 24) if options.tiny else (options.limit, options.crop, SIDE)
        source = options.images or "photographs"
        images = open_images(source, limit=limit, crop=largest, colour=True)
        models = {name: load_model(paths[name]).regularizer for name in methods if name in paths}
        convex = {
            name: each for name, each in models.items() if isinstance(each, ConvexRegularizer)
        }
        rows: list[dict[str, object]] = []
        with one_thread():
            sigma, repeats, file = chosen[0].sigma, options.repeats, folder / "rates.csv"
            rates.measure(convex, side=side, sigma=sigma, repeats=repeats, file=file)
            for problem in chosen:
                weights = _weights(problem, methods, options)
                for number, (name, image) in enumerate(tqdm(images, disable=None)):
                    measured, crop = [], centre(image, side)
                    for size, picture in (("crop", crop), ("whole", image)):
                        if size == "crop" or picture.shape != crop.shape:
                            measurement = problem.measure(picture, number)
                            measured = _measure(measurement, methods, weights, repeats)
                        case = {"problem": problem.name, "image": name, "size": size}
                        rows += [{**case, **row} for row in measured]
                    write_rows(folder / self.file, rows)

    def tables(self, folder: Path) -> list[Table]:
        cells = self.rows(folder).groupby(["problem", "kind", "size"], sort=False)
        tables = [_table(", ".join(map(str, key)), its) for key, its in cells]
        return [*tables, rates.table(folder / "rates.csv")]

    def headline(self, folder: Path) -> list[Table]:
        return self.tables(folder)

    def figures(self, folder: Path) -> list[Figure]:
        rows = self.rows(folder)
        cells = rows[rows["size"] == "whole"].groupby(["problem", "kind"], sort=False)
        return [_figure("-".join(map(str, key)), its) for key, its in cells]


def _learned(model: str, measurement: Measurement, weight: float) -> Result:
    """As users call it, which includes opening the model's file; evaluations are those of all rounds."""
    m = measurement
    result = reconstruct(m.y, m.physics, sigma=m.sigma, regularizer=model)
    evaluations = sum(float(each.evaluations) for each in result.rounds)
    return Result(result.image, outcome_of(int(result.status)), evaluations)


def _weights(
    problem: InverseProblem, methods: dict[str, Method], options: Options
) -> dict[str, float]:
    """Of the methods that have one to tune: the best on the tuning images."""
    limit, crop = (1, 24) if options.tiny else (options.tuning_limit, options.tuning_crop)
    images = open_images(options.tuning_images or "tuning-photographs", limit=limit, crop=crop)
    measurements = [problem.measure(image, number) for number, (_, image) in enumerate(images)]

    def score(method: Method, weight: float) -> float:
        return math.fsum(m.psnr(method(m, weight).image) for m in measurements)

    scores = {name: partial(score, methods[name]) for name in TUNED if name in methods}
    return {name: coarse_to_fine(its, 1.0)[0].weight for name, its in scores.items()}


def _measure(
    measurement: Measurement, methods: dict[str, Method], weights: dict[str, float], repeats: int
) -> list[dict[str, object]]:
    """A row per method."""
    results: dict[str, Result] = {}

    def run(name: str) -> None:
        try:
            results[name] = methods[name](measurement, weights.get(name, 1.0))
        except Unavailable:
            results[name] = Result(measurement.y, Outcome.SKIPPED)

    runs = {name: partial(processor_seconds, partial(run, name)) for name in methods}
    times = alternating(runs, repeats)
    _, channels, height, width = measurement.y.shape
    rows = []
    for name, result in results.items():
        row = {"kind": "gray" if channels == 1 else "colour", "pixels": height * width}
        row |= {"method": name, "outcome": str(result.outcome)}
        if result.outcome is not Outcome.SKIPPED:
            row |= {
                "weight": f"{weights.get(name, 1.0):.4g}",
                "seconds": f"{min(times[name]):.4f}",
                "evaluations": f"{result.evaluations:g}",
                "psnr": f"{measurement.psnr(result.image):.3f}",
            }
        rows.append(row)
    return rows


def _table(title: str, rows: DataFrame) -> Table:
    reference = rows.loc[rows["method"] == REFERENCE, "seconds"].mean()
    lines = []
    for name, its in rows.groupby("method", sort=False):
        seconds, pixels = its["seconds"].mean(), its["pixels"].mean()
        line = {
            "seconds": f"{seconds:.3g}",
            f"of {REFERENCE}'s": f"{seconds / reference:.3g}",
            "seconds per megapixel": f"{1e6 * seconds / pixels:.3g}",
            "evaluations": f"{its['evaluations'].mean():.1f}",
            "PSNR": f"{its['psnr'].mean():.2f}",
        }
        line = {key: "-" if text == "nan" else text for key, text in line.items()}
        ends = its["outcome"].value_counts().items()
        outcome = ", ".join(f"{end} {count}" for end, count in ends)
        lines.append({"method": name, **line, "outcome": outcome})
    note = (
        f"Means over {rows['image'].nunique()} images of {rows['pixels'].mean():.0f} pixels on average; "
        "processor seconds on one thread, the least of alternating runs. TV is solved to high accuracy."
    )
    return Table(f"Denoising a picture: {title}", DataFrame(lines), note)


def _figure(name: str, rows: DataFrame) -> Figure:
    x = "processor seconds per megapixel"
    means = rows.groupby("method", sort=False)[["seconds", "pixels", "psnr"]].mean()
    means = means.dropna(subset=["seconds"])
    figure, axes = canvas(title=f"{name}: quality against time", x=x, y="PSNR, dB")
    axes.set_xscale("log")
    ticks_of_seconds(axes)
    labelled(axes, 1e6 * means["seconds"] / means["pixels"], means["psnr"], map(str, means.index))
    return Figure(f"times-{name}", f"Mean PSNR of whole images against {x}: {name}.", figure)
