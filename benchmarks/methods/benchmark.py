"""Image quality: every method on every problem and image, from the same measurements."""

from __future__ import annotations

import sys
from collections.abc import Container
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.harness.clock import Clock
from benchmarks.harness.datasets import NamedImages, centre, open_images
from benchmarks.harness.options import Options
from benchmarks.harness.outcome import Outcome, Result
from benchmarks.harness.records import keep_protocol, read_rows, replace_rows
from benchmarks.harness.registry import Benchmark, Figure, Table, register
from benchmarks.methods import report
from benchmarks.methods.models import Unavailable
from benchmarks.methods.summary import summarise
from benchmarks.methods.table import Method, methods
from benchmarks.methods.tuning import coarse_to_fine
from benchmarks.problems.table import InverseProblem, Measurement, problems
from convexreg.pictures.files import Photograph, write_image


def _protocol(options: Options, crop: int | None, default: tuple[str, str]) -> dict[str, Any]:
    """What has to agree for two runs to be compared, defaults filled in; folders by their names."""
    tiny = options.tiny
    return {
        "images": Path(options.images or default[0]).name,
        "tuning_images": Path(options.tuning_images or default[1]).name,
        "limit": 1 if tiny else options.limit,
        "tuning_limit": 1 if tiny else options.tuning_limit,
        "crop": options.crop or (32 if tiny else crop),
        "tuning_crop": 32 if tiny else options.tuning_crop,
    }


class ReconstructionBenchmark(Benchmark):
    """The benchmark of one family of problems.

    `images.csv` has a row per problem, method and image, `tuning.csv` one per weight tried,
    `summary.csv` one per problem and method: all that tables and figures of it need. Runs with other
    methods or problems add to the same files, as long as the protocol is the same; to a summary without
    its `images.csv`, as the committed ones are, along with the method that differences are taken to.
    """

    file = "summary.csv"
    family: ClassVar[str]
    crop: ClassVar[int | None] = None
    colour: ClassVar[bool] = False
    problems: ClassVar[tuple[str, ...]] = ()
    defaults: ClassVar[tuple[str, str]] = ("photographs", "tuning-photographs")

    def run(self, options: Options, folder: Path) -> None:
        protocol = _protocol(options, self.crop, self.defaults)
        images, tuning_images = (
            open_images(
                source,
                limit=protocol[f"{use}limit"],
                crop=protocol[f"{use}crop"],
                colour=self.colour,
            )
            for source, use in (
                (options.images or self.defaults[0], ""),
                (options.tuning_images or self.defaults[1], "tuning_"),
            )
        )
        table = methods(options, self.family)
        if self.colour and any(image.shape[0] != 3 for _, image in images):
            raise ValueError(f"{self.name} is for folders of colour images: give --images FOLDER")
        chosen = problems(self.family, options.problems or self.problems)
        chosen = chosen[: 1 if options.tiny else None]
        keep_protocol(folder, protocol)
        _check_baselines(folder, {problem.name for problem in chosen}, table)
        for problem in chosen:
            weights, tried = _tune(problem, table, tuning_images, options)
            measured = _measure(problem, table, weights, images, options, folder)
            replace_rows(folder / "tuning.csv", tried, "problem", "method")
            replace_rows(folder / "images.csv", measured, "problem", "method")
            summary = summarise(read_rows(folder / "images.csv"))
            replace_rows(folder / "summary.csv", summary, "problem", "method")

    def tables(self, folder: Path) -> list[Table]:
        return report.tables(folder, self.name)

    def headline(self, folder: Path) -> list[Table]:
        return report.headline(folder, self.name)

    def figures(self, folder: Path) -> list[Figure]:
        return report.figures(folder, self.name)


@register
class Denoising(ReconstructionBenchmark):
    name = "denoising"
    family = "denoising"
    description = "PSNR of denoising at noise levels 5, 15, 25 and 50 of 255"


class ColourDenoising(Denoising):
    """The same with colour files, whose three channels have independent noise of the same level."""

    colour = True
    defaults = ("colour-photographs", "colour-tuning-photographs")


for _images in ("CBSD68", "Kodak24", "McMaster"):
    register(
        type(
            _images,
            (ColourDenoising,),
            {
                "name": f"colour-{_images.lower()}",
                "description": f"PSNR of denoising in colour, for the images of {_images} (--images FOLDER)",
            },
        )
    )


@register
class Deblurring(ReconstructionBenchmark):
    name = "deblurring"
    family = "deblurring"
    description = "PSNR of deblurring: three kernels, two noise levels, two boundaries"


@register
class Physics(ReconstructionBenchmark):
    name = "physics"
    family = "physics"
    crop = 128
    description = "PSNR of inpainting, super-resolution, MRI and tomography"


@register
class ColourDeblurring(Deblurring):
    name = "colour-deblurring"
    colour = True
    defaults = ColourDenoising.defaults
    description = "PSNR of deblurring in colour, every channel by the same kernel"


@register
class ColourInpainting(Physics):
    name = "colour-inpainting"
    colour = True
    defaults = ColourDenoising.defaults
    problems = ("inpainting",)
    description = "PSNR of inpainting in colour, all channels of a pixel missing"


def _check_baselines(folder: Path, chosen: Container[str], table: Container[str]) -> None:
    """Differences pair image by image, which a summary alone does not allow.

    :raises ValueError: rows would be kept beside new ones that cannot be compared with their baseline.
    """
    scored = read_rows(folder / "images.csv")
    present = set() if scored.empty else set(zip(scored["problem"], scored["method"], strict=True))
    for _, row in (
        read_rows(folder / "summary.csv")
        .astype(object)
        .where(lambda cell: cell.notna(), "")
        .iterrows()
    ):
        problem, baseline = row["problem"], row["baseline"]
        known = (name in table or (problem, name) in present for name in (row["method"], baseline))
        if problem in chosen and not any(known):
            raise ValueError(
                f"{folder} has a summary of {problem}, but not the scores of {baseline or 'single images'} "
                "behind it: add that to --methods, or choose another --results folder"
            )


def _tune(
    problem: InverseProblem, table: dict[str, Method], images: NamedImages, options: Options
) -> tuple[dict[str, float], list[dict[str, object]]]:
    """The best weight of every method on the tuning images, and all that was tried."""
    weights, rows = {}, []
    bar = tqdm(desc=f"tuning on {problem.name}", unit="image", disable=None, leave=False)
    for name, method in table.items():
        if method.weight is None or problem.family not in method.tuned:
            weights[name] = 1.0
            continue
        bar.set_postfix_str(name)

        def score(weight: float, method: Method = method) -> float:
            total = 0.0
            for number, (_, image) in enumerate(images):
                bar.update()
                measurement = problem.measure(image, number, device=options.device)
                result, _, _ = _attempt(method, measurement, weight, options)
                if result is None:
                    return float("-inf")
                total += measurement.psnr(result.image)
            return total / len(images)

        budget = 2 if options.tiny else 24
        trials = coarse_to_fine(score, method.weight, budget=budget)
        weights[name] = trials[0].weight
        rows += [
            {
                "problem": problem.name,
                "method": name,
                "weight": f"{trial.weight:.4g}",
                "psnr": f"{trial.score:.3f}",
                "chosen": trial is trials[0],
            }
            for trial in trials
        ]
    bar.close()
    return weights, rows


def _measure(
    problem: InverseProblem,
    table: dict[str, Method],
    weights: dict[str, float],
    images: NamedImages,
    options: Options,
    folder: Path,
) -> list[dict[str, object]]:
    """All methods on all images, one image after the other."""
    rows = []
    bar = tqdm(images, problem.name, unit="image", disable=None, leave=False)
    for number, (image_name, image) in enumerate(bar):
        measurement = problem.measure(image, number, device=options.device)
        if number == 0:
            _save_example(folder, problem, "clean", measurement.clean)
        for name, method in table.items():
            result, seconds, failure = _attempt(method, measurement, weights[name], options)
            if number == 0 and failure[0] is Outcome.SKIPPED:
                print(f"{problem.name}: {name} skipped: {failure[1]}", file=sys.stderr)
            row: dict[str, object] = {
                "problem": problem.name,
                "method": name,
                "image": image_name,
                "outcome": str(failure[0] if result is None else result.outcome),
                "message": failure[1],
                "psnr": "",
                "weight": f"{weights[name]:.4g}",
                "evaluations": "",
                "certified": "",
                "seconds": f"{seconds:.3f}",
            }
            if result is not None:
                row["psnr"] = f"{measurement.psnr(result.image):.4f}"
                row["evaluations"] = f"{result.evaluations:g}"
                row["certified"] = f"{result.certified:.2e}"
                row["weight"] = f"{weights[name] if result.weight is None else result.weight:.4g}"
                if number == 0:
                    _save_example(folder, problem, name, result.image)
            rows.append(row)
    return rows


def _attempt(
    method: Method, measurement: Measurement, weight: float, options: Options
) -> tuple[Result | None, float, tuple[Outcome, str]]:
    """The result and its time; without a result, why. A method's exception is its failure."""
    clock = Clock(options.device)
    try:
        with torch.no_grad():
            answer = method.reconstruct(measurement, weight)
    except Unavailable as reason:
        return None, clock.seconds, (Outcome.SKIPPED, str(reason))
    except Exception as error:
        return None, clock.seconds, (Outcome.FAILED, f"{type(error).__name__}: {error}")
    seconds = clock.seconds
    result = answer if isinstance(answer, Result) else Result(answer)
    if result.image.shape != measurement.clean.shape:
        shape = tuple(result.image.shape)
        return None, seconds, (Outcome.FAILED, f"returned an image of shape {shape}")
    if not bool(torch.isfinite(result.image).all()):
        return None, seconds, (Outcome.FAILED, "returned NaN or infinite pixels")
    if seconds > options.time_limit:
        result = Result(result.image, Outcome.TIME_LIMIT, result.evaluations, result.certified)
    return result, seconds, (Outcome.FINISHED, "")


def _save_example(folder: Path, problem: InverseProblem, name: str, image: Tensor) -> None:
    """The middle of the first image, to look at."""
    examples = folder / "examples"
    examples.mkdir(exist_ok=True)
    pixels = centre(image[0].cpu(), 128).float()
    path = examples / f"{problem.name}.{name.replace('/', '-')}.png"
    write_image(path, Photograph(pixels, None, 8))
