"""Architectures and training objectives under one budget, all from one ridge model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.candidates import CANDIDATES, CHANNELS, inherit
from benchmarks.harness.datasets import NamedImages, open_images
from benchmarks.harness.drawing import canvas, legend_below, style_of
from benchmarks.harness.options import Options
from benchmarks.harness.records import keep_protocol, read_rows, write_rows
from benchmarks.harness.registry import Benchmark, Figure, Table, register, selected
from benchmarks.methods.summary import standard_error
from convexreg.adaptive import AdaptiveRegularizer
from convexreg.models.config import ModelConfig, parameter_count
from convexreg.models.files import open_model
from convexreg.regularizer import ConvexRegularizer
from convexreg.training.data import digest
from convexreg.training.objectives import Equilibrium, Score, TrainingObjective, Unrolled
from convexreg.training.run import Record, TrainingRun, TrainingSettings
from convexreg.training.validation import VALIDATION_SIGMAS, denoised_psnr

BASELINE = "crr"
# the noise level of the short table and of the figure, in 1/255
SHOWN = "25"
NOTE = (
    f"In brackets: paired difference to {BASELINE} with the same objective, with its standard error. Noise "
    "levels are multiples of 1/255."
)
Row = dict[str, str]


@dataclass(frozen=True)
class Stage:
    """An objective with as many steps as cost about the same as those of the others."""

    objective: type[TrainingObjective]
    steps: int
    learning_rate: float


OBJECTIVES: dict[str, Stage] = {
    "score": Stage(Score, 800, 1e-3),
    "unrolled": Stage(Unrolled, 90, 1e-3),
    "equilibrium": Stage(Equilibrium, 120, 1e-3),
}
START = Stage(Score, 600, 5e-3)
EMPHASIS, FLATNESS = 0.4, 2e-3
# the force of new groups, a logarithm, has few steps to grow in
CONDITIONING = 10
GAP = 1e-3


@register
class Study(Benchmark):
    """PSNR on held-out images of every architecture trained with every objective.

    Every cell of the table starts from the filters and the noise conditioning of one ridge model, which
    every architecture contains, exactly or nearly, and trains on the same patches. The ridge model is
    the first of `--models`, of 64 channels without groups; without it one is trained by score matching.
    `--images` to train on (with `--limit` and `--crop`), `--tuning-images` to validate on. Runs with other
    architectures (`--methods`) or objectives (`--problems`) add to the same file.
    """

    name = "study"
    description = "Architecture by training objective, one budget, validation PSNR"

    def run(self, options: Options, folder: Path) -> None:
        held_out = open_images(
            options.tuning_images or "tuning-photographs",
            limit=1 if options.tiny else options.tuning_limit,
            crop=24 if options.tiny else options.tuning_crop,
        )
        candidates = selected(CANDIDATES, options.methods, "architecture")
        objectives = selected(OBJECTIVES, options.problems, "objective")
        if options.tiny:
            candidates = dict(list(candidates.items())[:2])
            objectives = dict(list(objectives.items())[:2])
        source = options.images or "photographs"
        training = [
            image for _, image in open_images(source, limit=options.limit, crop=options.crop)
        ]
        ridges = _ridges(options)
        keep_protocol(
            folder,
            {
                "images": Path(source).name,
                "validation": [name for name, _ in held_out],
                "start": Path(options.models[0]).stem if options.models else "trained here",
                "seed": options.seed,
                "tiny": options.tiny,
                "digest": digest(
                    [*training, *(image for _, image in held_out), *ridges.state_dict().values()]
                ),
            },
        )
        rows: list[Mapping[str, object]] = [
            row
            for row in read_rows(folder / "scores.csv")
            if row["architecture"] not in candidates or row["objective"] not in objectives
        ]
        if not options.models:
            _train(ridges, START, training, options, "ridges to start from")
        for name, candidate in candidates.items():
            for objective, stage in objectives.items():
                torch.manual_seed(options.seed)
                model = candidate.build(name)
                inherit(model, ridges)
                trained = _train(model, stage, training, options, f"{name}, {objective}")
                cell = {
                    "architecture": name,
                    "objective": objective,
                    "parameters": parameter_count(model),
                    "steps": trained.step,
                    "seconds": f"{trained.seconds:.1f}",
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
                line[f"PSNR at {sigma}"] = _against_baseline(rows, name, objective, sigma)
            lines.append(line)
        return [Table(self.description, lines, NOTE)]

    def headline(self, folder: Path) -> list[Table]:
        rows = read_rows(folder / "scores.csv")
        if not rows:
            return []
        objectives = dict.fromkeys(row["objective"] for row in rows)
        lines = []
        for name in dict.fromkeys(row["architecture"] for row in rows):
            parameters = next(row["parameters"] for row in rows if row["architecture"] == name)
            cells = {key: _against_baseline(rows, name, key, SHOWN) for key in objectives}
            lines.append({"architecture": name, "parameters": parameters, **cells})
        count = len({row["image"] for row in rows})
        steps = dict.fromkeys(f"{row['objective']} {row['steps']}" for row in rows)
        minutes = [float(row["seconds"]) / 60 for row in rows]
        note = (
            f"Mean validation PSNR in dB at noise {SHOWN}/255 over {count} images. Every cell starts from "
            f"the same ridges and takes {min(minutes):.0f} to {max(minutes):.0f} minutes of training (steps: "
            f"{', '.join(steps)}). {NOTE}"
        )
        if any(line[key] == "-" for line in lines for key in objectives):
            note += " A dash: not run."
        return [Table("How far convexity goes", lines, note)]

    def figures(self, folder: Path) -> list[Figure]:
        rows = [row for row in read_rows(folder / "scores.csv") if row["sigma"] == SHOWN]
        names = list(dict.fromkeys(row["architecture"] for row in rows))
        objectives = list(dict.fromkeys(row["objective"] for row in rows))
        figure, axes = canvas(title=f"validation PSNR at {SHOWN}/255", x="", y="dB")
        for name in names:
            means = {key: _scores(rows, name, key, SHOWN).values() for key in objectives}
            found = {key: mean(scores) for key, scores in means.items() if scores}
            axes.plot(
                list(found), list(found.values()), marker="o", label=name, **style_of(name, names)
            )
        legend_below(figure, axes)
        return [Figure("study", "Mean PSNR of every architecture by objective.", figure)]


def _ridges(options: Options) -> ConvexRegularizer:
    """The model that all others start from: the user's, or a fresh one that is still to be trained.

    :raises ValueError: the user's model is not one of 64 ridges.
    """
    torch.manual_seed(options.seed)
    fresh = CANDIDATES["ridges"].build("ridges")
    if not options.models:
        return fresh
    given = open_model(options.models[0]).regularizer
    try:
        if isinstance(given, AdaptiveRegularizer):
            raise LookupError("adaptive")
        inherit(fresh, given)
    except (LookupError, RuntimeError) as error:
        raise ValueError(
            f"{options.models[0]} is not a ridge model of {CHANNELS} channels and 5 x 5 kernels to start "
            "from"
        ) from error
    return fresh


def _train(
    model: ConvexRegularizer,
    stage: Stage,
    images: Sequence[Tensor],
    options: Options,
    title: str,
) -> TrainingRun:
    """Train in place; returns the finished run."""
    settings = TrainingSettings(
        steps=2 if options.tiny else stage.steps,
        patch_size=16 if options.tiny else 64,
        batch_size=2 if options.tiny else 4,
        learning_rate=stage.learning_rate,
        conditioning_rate=CONDITIONING * stage.learning_rate,
        emphasis=EMPHASIS,
        flatness=FLATNESS,
        seed=options.seed,
    )
    bar = tqdm(desc=title, total=settings.steps, unit="step", disable=None, leave=False)
    with bar, TemporaryDirectory() as folder:
        run = TrainingRun(
            model, ModelConfig(), stage.objective(), images, folder, settings, device=options.device
        )

        def show(record: Record) -> None:
            bar.update()
            bar.set_postfix_str(f"loss {record.loss:.3f}")

        run.run(show)
    return run


def _validate(model: ConvexRegularizer, images: NamedImages) -> list[dict[str, str]]:
    device = next(model.parameters()).device
    return [
        {
            "image": name,
            "sigma": f"{255 * sigma:g}",
            "psnr": f"{float(denoised_psnr(model, image.to(device), sigma, number, gap_tol=GAP)):.4f}",
        }
        for sigma in VALIDATION_SIGMAS
        for number, (name, image) in enumerate(images, 1)
    ]


def _against_baseline(rows: list[Row], name: str, objective: str, sigma: str) -> str:
    """Mean PSNR of a cell, with its paired difference to the baseline's."""
    scores = _scores(rows, name, objective, sigma)
    if not scores:
        return "-"
    text = f"{mean(scores.values()):.2f}"
    reference = _scores(rows, BASELINE, objective, sigma)
    if name == BASELINE or not reference:
        return text
    paired = [scores[image] - value for image, value in reference.items()]
    return f"{text} ({mean(paired):+.3f} ± {standard_error(paired):.3f})"


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
