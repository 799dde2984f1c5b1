"""Architectures and training objectives under one budget, all from one ridge model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas
import torch
from pandas import DataFrame, Series
from torch import Tensor
from tqdm import tqdm

from benchmarks.candidates import CANDIDATES, CHANNELS, inherit
from benchmarks.harness.datasets import NamedImages, open_images
from benchmarks.harness.drawing import canvas, legend_below, style_of
from benchmarks.harness.options import Options
from benchmarks.harness.records import keep_protocol, replace_rows
from benchmarks.harness.registry import Benchmark, Figure, Table, register, selected
from benchmarks.methods.summary import mean_with_error
from convexreg.adaptive import AdaptiveRegularizer
from convexreg.models.config import ModelConfig, parameter_count
from convexreg.models.files import load_model
from convexreg.regularizer import ConvexRegularizer
from convexreg.training.data import digest
from convexreg.training.log import Record
from convexreg.training.objectives import Equilibrium, Score, TrainingObjective, Unrolled
from convexreg.training.run import TrainingRun
from convexreg.training.settings import TrainingSettings
from convexreg.training.validation import VALIDATION_SIGMAS, denoised_psnr

BASELINE = "crr"
# the noise level of the short table and of the figure, in 1/255
SHOWN = "25"
NOTE = (
    f"In brackets: paired difference to {BASELINE} with the same objective, with its standard error. Noise "
    "levels are multiples of 1/255."
)


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
    file = "scores.csv"
    numbers = ("psnr", "lipschitz_at_25", "seconds")

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
                rows = [{**cell, **scores} for scores in _validate(model, held_out)]
                replace_rows(folder / self.file, rows, "architecture", "objective")

    def tables(self, folder: Path) -> list[Table]:
        rows = self.rows(folder)
        cells = _against_baseline(rows)
        lines = [
            {
                "architecture": name,
                "objective": objective,
                "parameters": its["parameters"].iloc[0],
                "L at 25": f"{its['lipschitz_at_25'].iloc[0]:.0f}",
                "s": f"{its['seconds'].iloc[0]:.0f}",
                **{
                    f"PSNR at {s}": str(cells.to_dict()[name, objective, s])
                    for s in its["sigma"].unique()
                },
            }
            for (name, objective), its in rows.groupby(["architecture", "objective"], sort=False)
        ]
        return [Table(self.description, DataFrame(lines), NOTE)]

    def headline(self, folder: Path) -> list[Table]:
        rows = self.rows(folder)
        cells = _against_baseline(rows).xs(SHOWN, level="sigma").unstack("objective")
        parameters = rows.drop_duplicates("architecture").set_index("architecture")["parameters"]
        objectives = rows["objective"].unique()
        table = cells.loc[parameters.index, objectives].where(lambda cell: cell.notna(), "-")
        table.insert(0, "parameters", parameters)
        steps = (rows["objective"] + " " + rows["steps"]).unique()
        minutes = rows["seconds"] / 60
        note = (
            f"Mean validation PSNR in dB at noise {SHOWN}/255 over {rows['image'].nunique()} images. Every "
            "cell starts from the same ridges and takes "
            f"{minutes.min():.0f} to {minutes.max():.0f} minutes of "
            "training (steps: "
            f"{', '.join(steps)}). {NOTE}"
        )
        if (table == "-").any(axis=None):
            note += " A dash: not run."
        return [Table("How far convexity goes", table.reset_index(), note)]

    def figures(self, folder: Path) -> list[Figure]:
        rows = self.rows(folder)
        rows = rows[rows["sigma"] == SHOWN]
        names, objectives = rows["architecture"].unique(), rows["objective"].unique()
        figure, axes = canvas(title=f"validation PSNR at {SHOWN}/255", x="", y="dB")
        means = rows.pivot_table("psnr", "objective", "architecture").loc[objectives]
        for name in names:
            found = means[name].dropna()
            axes.plot(found.index, found, marker="o", label=name, **style_of(name, names))
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
    given = load_model(options.models[0]).regularizer
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


def _against_baseline(rows: DataFrame) -> Series:
    """Mean PSNR by architecture, objective and noise level, with its paired difference to the baseline's."""
    scores = rows.pivot_table("psnr", ["objective", "sigma", "image"], "architecture", sort=False)
    cells = {}
    for key, its in rows.groupby(["architecture", "objective", "sigma"], sort=False):
        name, objective, sigma = key
        cells[key] = f"{its['psnr'].mean():.2f}"
        if name != BASELINE and BASELINE in scores:
            pairs = scores.loc[(objective, sigma), [name, BASELINE]].dropna()
            if len(pairs):
                difference = pairs[name] - pairs[BASELINE]
                cells[key] += f" ({mean_with_error(difference, '.3f', sign=True)})"
    index = pandas.MultiIndex.from_tuples(cells, names=["architecture", "objective", "sigma"])
    return Series(cells.values(), index)
