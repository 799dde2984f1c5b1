"""What `convexreg train` does."""

from __future__ import annotations

import argparse
import datetime
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import torch
from tqdm import tqdm

from convexreg.cli.initial_model import initial_model, origin
from convexreg.cli.log import LOG
from convexreg.models.config import parameter_count
from convexreg.models.files import save_model
from convexreg.pictures.files import ImageError
from convexreg.training.data import ImageFolder
from convexreg.training.log import Record
from convexreg.training.objectives import Equilibrium, Score, TrainingObjective, Unrolled
from convexreg.training.parallel import own_device, place, processes
from convexreg.training.run import TrainingRun
from convexreg.training.settings import TrainingSettings

OBJECTIVES: dict[str, type[TrainingObjective]] = {
    "unrolled": Unrolled,
    "score": Score,
    "equilibrium": Equilibrium,
}


def train(options: argparse.Namespace) -> None:
    """Train, write the model file with its card, and say where everything is.

    Among the processes of `torchrun` the first one does all but its share of the batches.

    :raises ValueError: no images, a start of another architecture, or nothing to resume from.
    """
    device = own_device(options.device)
    with processes(device):
        _train(options, device)


def _train(options: argparse.Namespace, device: torch.device) -> None:
    if place()[0] > 0:
        options.quiet, options.validation = True, None
    if not options.output.parent.is_dir():
        raise ImageError(
            f"the output folder {options.output.parent} does not exist; create it first"
        )
    if options.output.suffix != ".safetensors":
        raise ValueError(f"a model file is a .safetensors file; got {options.output}")
    if options.validation and options.validation.resolve() == options.images.resolve():
        raise ValueError(
            f"{options.validation} cannot be both trained on and validated on; give another folder"
        )
    images = _open(options, options.images)
    validation = _open(options, options.validation).images if options.validation else []
    torch.manual_seed(options.seed)
    config, regularizer = initial_model(options)
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
        validate_every=options.validate_every,
    )
    folder = options.run_folder or options.output.with_suffix(".run")
    run = TrainingRun(
        regularizer,
        config,
        OBJECTIVES[options.objective](),
        images.images,
        folder,
        settings,
        validation=validation,
        started_from=origin(options),
        device=device,
    )
    if options.resume:
        run.resume()
    if run.writes:
        try:
            run.check_folder()
        except ValueError as error:
            raise ValueError(f"{error} (--resume, --run FOLDER)") from error
    bar = tqdm(total=settings.steps, initial=run.step, disable=options.quiet or None, unit="step")

    def show_psnr(step: int, levels: dict[str, float]) -> None:
        text = ", ".join(f"{v:.3f} at {k}" for k, v in levels.items())
        bar.write(f"step {step}: validation PSNR {text}")

    # before interrupts wait for the end of a step: this can take long
    if run.step == 0 and options.start and validation and not options.quiet:
        bar.write(f"validating on {len(validation)} image(s) before the first step")
        show_psnr(0, run.validate())
    with bar, _interrupt_between_steps() as interrupted:

        def show(record: Record) -> None:
            bar.update()
            bar.set_postfix_str(f"loss {record.loss:.3f}")
            if record.validation_psnr and not options.quiet:
                show_psnr(record.step, record.validation_psnr)
            if bar.disable and not options.quiet and record.step % settings.checkpoint_every == 0:
                seconds = f"{record.seconds:.0f} s"  # no terminal: a line now and then for the log
                print(
                    f"step {record.step} of {settings.steps}: loss {record.loss:.3f}, {seconds}",
                    flush=True,
                )
            if interrupted.is_set():
                run.save_checkpoint()
                raise KeyboardInterrupt(f"after step {record.step}; continue with --resume")

        regularizer = run.run(show)
    if not run.writes:
        return
    card = model_card(options, regularizer, run, len(images.images))
    save_model(options.output, regularizer.cpu(), config, card)
    print(f"model: {options.output}\nlog: {folder / 'log.jsonl'}")


def _open(options: argparse.Namespace, folder: Path) -> ImageFolder:
    """The images, with a note on standard error if their white is probably not the default one."""
    images = ImageFolder(folder, white=options.white, colour=options.colour, reduce=options.reduce)
    if options.colour:  # gray pictures are colour images too
        images.images = [image.expand(3, -1, -1) for image in images.images]
    if images.doubtful:
        LOG.info(
            f"{len(images.doubtful)} images of {folder} have 16 bits, but no value above 4095; if 4095 is "
            "white, give --white 4095"
        )
    return images


@contextmanager
def _interrupt_between_steps() -> Iterator[Event]:
    """Ctrl-C sets the event, so that no step is torn apart and the checkpoint is one to resume from.

    A second one does not wait.
    """
    asked = Event()

    def interrupt(*_: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt("within a step; --resume continues from the last checkpoint")
        asked.set()
        print("convexreg: stopping after this step; again to stop at once", file=sys.stderr)

    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, previous)


def model_card(
    options: argparse.Namespace, regularizer: torch.nn.Module, run: TrainingRun, images: int
) -> dict[str, Any]:
    """Data, objective, settings, date, cost and validation PSNR of a training run."""
    card = {
        "training_data": f"{images} images of the folder {Path(options.images).name}"
        + (f", reduced by {options.reduce}" if options.reduce > 1 else ""),
        "objective": options.objective,
        "started_from": run.identity["run"]["started_from"],
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
    }
    levels = run.final_psnr
    return {**card, "validation_psnr": levels} if levels else card
