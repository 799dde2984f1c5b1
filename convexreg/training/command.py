"""What `convexreg train` does."""

from __future__ import annotations

import argparse
import datetime
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import torch
from tqdm import tqdm

from convexreg.images import ImageError
from convexreg.models import (
    AnyRegularizer,
    ModelConfig,
    open_model,
    parameter_count,
    save_model,
)
from convexreg.training.data import ImageFolder
from convexreg.training.objectives import Equilibrium, Score, TrainingObjective, Unrolled
from convexreg.training.run import Record, TrainingRun, TrainingSettings

OBJECTIVES: dict[str, type[TrainingObjective]] = {
    "unrolled": Unrolled,
    "score": Score,
    "equilibrium": Equilibrium,
}


def train(options: argparse.Namespace) -> None:
    """Train, write the model file with its card, and say where everything is.

    :raises ValueError: no images, a start of another architecture, or nothing to resume from.
    """
    if not options.output.parent.is_dir():
        raise ImageError(
            f"the output folder {options.output.parent} does not exist; create it first"
        )
    images = ImageFolder(options.images)
    validation = ImageFolder(options.validation) if options.validation else None
    torch.manual_seed(options.seed)
    config, regularizer = _initial(options)
    regularizer.name = options.output.stem
    settings = TrainingSettings(
        steps=options.steps,
        batch_size=options.batch_size,
        patch_size=options.patch_size,
        learning_rate=options.learning_rate,
        conditioning_rate=options.conditioning_rate or 5 * options.learning_rate,
        emphasis=options.emphasis,
        flatness=options.flatness,
        bfloat16=options.bfloat16,
        seed=options.seed,
    )
    folder = options.run_folder or options.output.with_suffix(".run")
    run = TrainingRun(
        regularizer,
        config,
        OBJECTIVES[options.objective](),
        images,
        folder,
        settings,
        validation=validation,
        device=options.device,
    )
    if options.resume:
        run.resume()
    elif run.checkpoint.exists():
        raise ValueError(
            f"{folder} holds a checkpoint of an earlier run; pass --resume to continue it, or another "
            "--run"
        )
    bar = tqdm(total=settings.steps, initial=run.step, disable=options.quiet or None, unit="step")

    with bar, _interrupt_between_steps() as interrupted:

        def show(record: Record) -> None:
            bar.update()
            bar.set_postfix_str(f"loss {record.loss:.3f}")
            if record.validation_psnr and not options.quiet:
                levels = ", ".join(f"{v:.3f} at {k}" for k, v in record.validation_psnr.items())
                bar.write(f"step {record.step}: validation PSNR {levels}")
            if interrupted.is_set():
                run.save_checkpoint()
                raise KeyboardInterrupt(f"after step {record.step}; continue with --resume")

        regularizer = run.run(show)
    card = model_card(options, regularizer, run, len(images.images))
    save_model(options.output, regularizer.cpu(), config, card)
    print(f"model: {options.output}\nlog: {folder / 'log.jsonl'}")


def _initial(options: argparse.Namespace) -> tuple[ModelConfig, AnyRegularizer]:
    """The model to train: fresh, or another one; an adaptive one can also start from a convex one.

    :raises ValueError: a start of another kind.
    """
    config = ModelConfig(architecture=options.architecture, adaptive=options.adaptive)
    start = None
    if options.start:
        start = open_model(options.start)
        config = replace(start.config, adaptive=options.adaptive)
        if config.architecture != options.architecture or start.config.adaptive > options.adaptive:
            kind = "n adaptive" if start.config.adaptive else ""
            flag = " --adaptive" if start.config.adaptive else ""
            raise ValueError(
                f"{options.start} is a{kind} {config.architecture}, which a {options.architecture} cannot "
                f"start from; give --architecture {config.architecture}{flag}"
            )
        if config == start.config:
            return config, start.regularizer
    if not config.adaptive:
        return config, config.build()
    if start is None:
        raise ValueError(
            "the first round of an adaptive model is not trained: give a trained model by --start"
        )
    adaptive = config.build_adaptive()
    for part in (adaptive.first, adaptive.second):
        part.load_state_dict(start.regularizer.state_dict())
    return config, adaptive


@contextmanager
def _interrupt_between_steps() -> Iterator[Event]:
    """Ctrl-C sets the event, so that no step is torn apart and the checkpoint is one to resume from."""
    asked = Event()
    previous = signal.signal(signal.SIGINT, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, previous)


def model_card(
    options: argparse.Namespace, regularizer: torch.nn.Module, run: TrainingRun, images: int
) -> dict[str, Any]:
    """Data, objective, settings, date, cost and validation PSNR of a training run."""
    return {
        "training_data": f"{images} images of the folder {Path(options.images).name}",
        "objective": options.objective,
        "started_from": str(options.start) if options.start else "random filters",
        "steps": run.settings.steps,
        "batch": f"{options.batch_size} patches {options.patch_size} x {options.patch_size}",
        "learning_rates": [run.settings.learning_rate, run.settings.conditioning_rate],
        "emphasis": run.settings.emphasis,
        "flatness": run.settings.flatness,
        "bfloat16": run.settings.bfloat16,
        "seed": options.seed,
        "date": datetime.date.today().isoformat(),
        "training_minutes": round(run.seconds / 60, 1),
        "parameters": parameter_count(regularizer),
        "validation_psnr": run.validate() if run.validation is not None else {},
    }
