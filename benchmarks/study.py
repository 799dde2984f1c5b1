"""Architectures and training objectives under one budget, all from one ridge model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TypeVar

import torch

from benchmarks.datasets import NamedImages, open_images
from benchmarks.drawing import canvas, legend_below, style_of
from benchmarks.records import read_rows, write_rows
from benchmarks.registry import Benchmark, Figure, Options, Table, register
from benchmarks.summary import standard_error
from convexreg.models import ModelConfig, parameter_count
from convexreg.regularizer import ConvexRegularizer
from convexreg.training.data import ImageFolder
from convexreg.training.objectives import Equilibrium, Score, TrainingObjective, Unrolled
from convexreg.training.run import TrainingRun, TrainingSettings
from convexreg.training.validation import VALIDATION_SIGMAS, denoised_psnr

RIDGES = ModelConfig("mgradnet-m", group_size=1)
ARCHITECTURES: dict[str, ModelConfig] = {
    "crr": ModelConfig("crr"),
    "mgradnet-c": ModelConfig("mgradnet-c"),
    "mgradnet-m, ridges": RIDGES,
    "mgradnet-m, pairs": ModelConfig("mgradnet-m", group_size=2),
    "mgradnet-m, fours": ModelConfig("mgradnet-m", group_size=4),
    "mgradnet-m, mixing": ModelConfig("mgradnet-m", group_size=2, mixing=True),
}
BASELINE = "crr"
Row = dict[str, str]
T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """An objective with as many steps as cost about the same as those of the others."""

    objective: type[TrainingObjective]
    steps: int
    learning_rate: float


OBJECTIVES: dict[str, Stage] = {
    "score": Stage(Score, 1200, 2e-3),
    "unrolled": Stage(Unrolled, 100, 2e-3),
    "equilibrium": Stage(Equilibrium, 100, 2e-3),
}
START = Stage(Score, 600, 5e-3)


@register
class Study(Benchmark):
    """PSNR on held-out images of every architecture trained with every objective.

    A ridge model is trained by score matching; every cell of the table starts from its filters and noise
    conditioning and trains on the same patches. `--images FOLDER` to train on, `--tuning-images` to
    validate on.
    """

    name = "study"
    description = "Architecture by training objective, one budget, validation PSNR"

    def run(self, options: Options, folder: Path) -> None:
        held_out = open_images(
            options.tuning_images or "tuning-photographs",
            limit=1 if options.tiny else options.tuning_limit,
            crop=24 if options.tiny else options.tuning_crop,
        )
        training = _training_images(options)
        torch.manual_seed(options.seed)
        ridges = RIDGES.build()
        _train(ridges, RIDGES, START, training, options)
        rows = []
        for name, config in _chosen(ARCHITECTURES, options.methods, options.tiny).items():
            for objective, stage in _chosen(OBJECTIVES, options.problems, options.tiny).items():
                torch.manual_seed(options.seed)
                model = config.build(name)
                inherit(model, ridges)
                seconds = _train(model, config, stage, training, options)
                cell = {
                    "architecture": name,
                    "objective": objective,
                    "parameters": parameter_count(model),
                    "steps": stage.steps,
                    "seconds": f"{seconds:.1f}",
                    "lipschitz_at_25": f"{float(model.lipschitz(sigma=25 / 255)):.1f}",
                }
                rows += [{**cell, **scores} for scores in _validate(model, held_out)]
                write_rows(folder / "scores.csv", rows)

    def tables(self, folder: Path) -> list[Table]:
        rows = read_rows(folder / "scores.csv")
        lines = []
        for name, objective in dict.fromkeys((r["architecture"], r["objective"]) for r in rows):
            here = _select(rows, name, objective)
            line = {"architecture": name, "objective": objective, **_numbers(here)}
            for sigma in dict.fromkeys(row["sigma"] for row in here):
                scores = _scores(rows, name, objective, sigma)
                reference = _scores(rows, BASELINE, objective, sigma)
                line[f"PSNR at {sigma}"] = f"{mean(scores.values()):.2f}"
                if reference and name != BASELINE:
                    paired = [scores[image] - value for image, value in reference.items()]
                    line[f"PSNR at {sigma}"] += (
                        f" ({mean(paired):+.2f} ± {standard_error(paired):.2f})"
                    )
            lines.append(line)
        note = (
            f"In brackets: paired difference to {BASELINE} with the same objective, with its standard "
            "error. Noise levels are multiples of 1/255."
        )
        return [Table(self.description, lines, note)]

    def figures(self, folder: Path) -> list[Figure]:
        rows = [row for row in read_rows(folder / "scores.csv") if row["sigma"] == "25"]
        names = list(dict.fromkeys(row["architecture"] for row in rows))
        objectives = list(dict.fromkeys(row["objective"] for row in rows))
        figure, axes = canvas(title="validation PSNR at 25/255", x="", y="dB")
        for name in names:
            values = [
                mean(_scores(rows, name, objective, "25").values()) for objective in objectives
            ]
            axes.plot(objectives, values, marker="o", label=name, **style_of(name, names))
        legend_below(figure, axes)
        return [Figure("study", "Mean PSNR of every architecture by objective.", figure)]


def inherit(model: ConvexRegularizer, ridges: ConvexRegularizer) -> None:
    """Copy filters and noise conditioning of a ridge model; groups take the mean slope of theirs."""
    start = {_role(name): value for name, value in ridges.state_dict().items()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            value = start.get(_role(name))
            if value is None:
                continue
            if value.shape != parameter.shape:  # slopes of groups
                value = value.unflatten(1, (parameter.shape[1], -1)).logsumexp(2) - math.log(
                    value.shape[1] // parameter.shape[1]
                )
            parameter.copy_(value)


def _role(name: str) -> str:
    """What a parameter is, wherever in the network it sits."""
    for role in ("kernels.0", "kernels.1", "kernels.2", "log_threshold", "log_slope"):
        if name.endswith(role):
            return role
    return name


def _training_images(options: Options) -> ImageFolder:
    if options.images is not None:
        return ImageFolder(options.images)
    with TemporaryDirectory() as folder:
        from convexreg.images import Photograph, write_image

        for name, image in open_images("photographs"):
            write_image(Path(folder) / f"{name}.png", Photograph(image, None, 8))
        return ImageFolder(folder)


def _train(
    model: ConvexRegularizer,
    config: ModelConfig,
    stage: Stage,
    images: ImageFolder,
    options: Options,
) -> float:
    """Train in place; returns the seconds it took."""
    settings = TrainingSettings(
        steps=2 if options.tiny else stage.steps,
        patch_size=16 if options.tiny else 64,
        batch_size=2 if options.tiny else 8,
        learning_rate=stage.learning_rate,
        conditioning_rate=5 * stage.learning_rate,
        seed=options.seed,
    )
    started = perf_counter()
    with TemporaryDirectory() as folder:
        run = TrainingRun(
            model, config, stage.objective(), images, folder, settings, device=options.device
        )
        run.run()
    return perf_counter() - started


def _validate(model: ConvexRegularizer, images: NamedImages) -> list[dict[str, str]]:
    device = next(model.parameters()).device
    return [
        {
            "image": name,
            "sigma": f"{255 * sigma:g}",
            "psnr": f"{float(denoised_psnr(model, image.to(device), sigma, number)):.4f}",
        }
        for sigma in VALIDATION_SIGMAS
        for number, (name, image) in enumerate(images, 1)
    ]


def _select(rows: list[Row], name: str, objective: str) -> list[Row]:
    return [r for r in rows if (r["architecture"], r["objective"]) == (name, objective)]


def _numbers(rows: list[Row]) -> Row:
    return {
        "parameters": rows[0]["parameters"],
        "L at 25": f"{float(rows[0]['lipschitz_at_25']):.0f}",
        "s": f"{float(rows[0]['seconds']):.0f}",
    }


def _scores(rows: list[Row], name: str, objective: str, sigma: str) -> dict[str, float]:
    here = _select(rows, name, objective)
    return {row["image"]: float(row["psnr"]) for row in here if row["sigma"] == sigma}


def _chosen(table: dict[str, T], names: tuple[str, ...], tiny: bool) -> dict[str, T]:
    """The rows asked for, all by default, the first two on tiny input.

    :raises ValueError: one that does not exist.
    """
    unknown = set(names) - set(table)
    if unknown:
        raise ValueError(f"there is no {sorted(unknown)[0]!r}; there are {', '.join(table)}")
    chosen = {name: row for name, row in table.items() if not names or name in names}
    return dict(list(chosen.items())[:2]) if tiny else chosen
