"""The training run: optimisation, validation, log, resumption."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from convexreg.adaptive import AdaptiveRegularizer
from convexreg.models.config import AnyRegularizer, ModelConfig
from convexreg.networks.colour_network import ColourNetwork
from convexreg.networks.operators import Convolution
from convexreg.networks.potentials import spline_roughness
from convexreg.networks.weight_network import ColourWeights, WeightNetwork
from convexreg.solvers.solution import SolverError
from convexreg.training import log
from convexreg.training.checkpoint import read_checkpoint, write_checkpoint
from convexreg.training.data import PatchSampler, digest
from convexreg.training.log import Record
from convexreg.training.objectives import TrainingObjective, trained
from convexreg.training.parallel import Loss, mean, place, share
from convexreg.training.settings import TrainingSettings
from convexreg.training.validation import validation_psnr


class TrainingRun:
    """Trains a regularizer; interrupted, it resumes from its last checkpoint to the same result.

    Among the processes of `torchrun` every batch is divided (`training.parallel`), with the result of one
    process to rounding; the first one writes and validates.

    :param images: to train on, in [0, 1], `(1, H, W)` each, or `(3, H, W)` for a model for colour images.
    :param folder: where `checkpoint.safetensors` and `log.jsonl` go.
    :param validation: images for the PSNR in the log; never trained on.
    :param started_from: what the regularizer is at the start, for the record.
    """

    def __init__(
        self,
        regularizer: AnyRegularizer,
        config: ModelConfig,
        objective: TrainingObjective,
        images: Sequence[Tensor],
        folder: str | Path,
        settings: TrainingSettings | None = None,
        *,
        validation: Sequence[Tensor] = (),
        started_from: str = "",
        device: torch.device | str = "cpu",
    ) -> None:
        self.settings = settings or TrainingSettings()
        self.device = torch.device(device)
        self.regularizer = regularizer.to(self.device)
        self.config, self.objective, self.validation = config, objective, validation
        self.identity = {
            "settings": asdict(self.settings),
            "config": asdict(config),
            "run": {
                "objective": type(objective).__name__,
                "images": digest(images),
                "started_from": started_from,
            },
            "objective": objective.settings,
        }
        self.folder = Path(folder)
        self.generator = torch.Generator().manual_seed(self.settings.seed)
        self.sampler = PatchSampler(
            images,
            batch_size=self.settings.batch_size,
            patch_size=self.settings.patch_size,
            sigma_range=regularizer.sigma_range or (config.sigma_min, config.sigma_max),
            generator=self.generator,
        )
        filters, others = [], []
        for name, parameter in regularizer.named_parameters():
            logarithmic = "kernels" not in name and "layers" not in name
            (others if logarithmic else filters).append(parameter)
        self.optimizer = torch.optim.Adam(
            [
                {"params": filters, "lr": self.settings.learning_rate},
                {"params": others, "lr": self.settings.conditioning_rate},
            ],
            betas=(0.9, 0.99),
        )
        self.step = 0
        self.seconds = 0.0
        self.schedule = self._half_cosine()

    @property
    def writes(self) -> bool:
        """Whether this process keeps log and checkpoints: the first one, or the only one."""
        return place()[0] == 0

    @property
    def checkpoint(self) -> Path:
        """Where the run's state is kept."""
        return self.folder / "checkpoint.safetensors"

    def check_folder(self) -> None:
        """Refuse to overwrite the checkpoint of another run.

        :raises ValueError: there is one, and this run does not continue it.
        """
        if self.step == 0 and self.checkpoint.exists():
            raise ValueError(
                f"{self.folder} holds a checkpoint of an earlier run; resume it, or give another "
                "folder"
            )

    def run(self, callback: Callable[[Record], None] | None = None) -> AnyRegularizer:
        """Train until `settings.steps`; returns the regularizer in evaluation mode.

        :raises ValueError: the folder holds another run that was not resumed.
        :raises FloatingPointError: the loss, its gradient or a solve became NaN or infinite.
        """
        if self.writes:
            self.check_folder()
            self.folder.mkdir(parents=True, exist_ok=True)
            log.cut(self.log, self.step)
        self.regularizer.train().requires_grad_(True)
        for part in self.regularizer.modules():
            if isinstance(part, AdaptiveRegularizer):
                part.first.requires_grad_(False)
            if isinstance(part, (ColourNetwork, ColourWeights)):
                part.luminance.requires_grad_(False)
        loss_of = Loss(self.regularizer, self._loss).shared()
        started = time.perf_counter() - self.seconds
        while self.step < self.settings.steps:
            loss = self._optimise(loss_of)
            self.step += 1
            self.seconds = time.perf_counter() - started
            validate = (
                len(self.validation) > 0
                and self.writes
                and (
                    self.step % self.settings.validate_every == 0
                    or self.step == self.settings.steps
                )
            )
            record = Record(
                self.step,
                loss,
                self.seconds,
                self.objective.diagnostics,
                self.validate() if validate else None,
            )
            if self.writes:
                log.append(self.log, record)
            if callback is not None:
                callback(record)
            if self.step % self.settings.checkpoint_every == 0 or self.step == self.settings.steps:
                self.save_checkpoint()
        return self.regularizer.eval().requires_grad_(False)

    def _optimise(self, loss_of: nn.Module) -> float:
        batch = [tensor.to(self.device) for tensor in self.sampler.sample()]
        level = batch[-1][0]
        self.optimizer.zero_grad(set_to_none=True)
        try:
            with self._bfloat16():
                loss = loss_of(*(share(tensor) for tensor in batch), level)
                loss.backward()
        except SolverError as error:
            raise self._diverged("the model cannot be solved with any more") from error
        self.objective.after_backward()
        gradients = [p.grad for p in self.regularizer.parameters() if p.grad is not None]
        if not torch.isfinite(loss + torch.nn.utils.get_total_norm(gradients)):
            raise self._diverged(f"the loss became {loss.item()} or its gradient not finite")
        self.optimizer.step()
        self.schedule.step()
        return mean(loss).item()

    @contextmanager
    def _bfloat16(self) -> Iterator[None]:
        """Within it the networks compute in bfloat16, if the settings say so."""
        parts = [
            part
            for part in self.regularizer.modules()
            if isinstance(part, (Convolution, WeightNetwork))
        ]
        try:
            for part in parts:
                part.in_bfloat16 = self.settings.bfloat16
            yield
        finally:
            for part in parts:
                part.in_bfloat16 = False

    def _diverged(self, what: str) -> FloatingPointError:
        kept = f". The last checkpoint is {self.checkpoint}" if self.checkpoint.exists() else ""
        return FloatingPointError(f"{what} at step {self.step + 1}; lower the learning rate{kept}")

    def _loss(self, clean: Tensor, noisy: Tensor, sigma: Tensor, level: Tensor) -> Tensor:
        """The objective's loss with what its settings add, 0-dim.

        :param level: noise level of the bound that flatness is about, 0-dim.
        """
        loss = self.objective.loss(
            self.regularizer, clean, noisy, sigma, emphasis=self.settings.emphasis
        )
        if self.settings.flatness > 0:
            model = self.regularizer
            last = model.second if isinstance(model, AdaptiveRegularizer) else model
            loss = loss + self.settings.flatness * trained(last).lipschitz(sigma=level).log()
        penalty = spline_roughness(self.regularizer)
        if penalty is not None:
            loss = loss + self.settings.tv2 * penalty
        return loss

    def _half_cosine(self) -> LambdaLR:
        """From the settings' rates to zero; a function of the step, so it resumes."""

        def factor(step: int) -> float:
            return (1 + math.cos(math.pi * step / self.settings.steps)) / 2

        return LambdaLR(self.optimizer, factor, last_epoch=self.step - 1)

    def validate(self) -> dict[str, float]:
        """Mean PSNR on the validation images now, see `validation_psnr`; empty without any."""
        training = self.regularizer.training
        self.regularizer.eval()
        images = [image.to(self.device) for image in self.validation]
        result = validation_psnr(self.regularizer, images) if images else {}
        self.regularizer.train(training)
        return result

    @property
    def final_psnr(self) -> dict[str, float]:
        """Mean PSNR on the validation images after the last step, from the log where it is there."""
        return log.last_validation(self.log) or self.validate()

    @property
    def log(self) -> Path:
        """Where the log is kept, a line of JSON per step, see `convexreg.training.log`."""
        return self.folder / "log.jsonl"

    def save_checkpoint(self) -> None:
        """Write everything a resumed run needs, all or nothing."""
        if not self.writes:
            return
        write_checkpoint(
            self.checkpoint,
            self.regularizer,
            self.optimizer,
            self.generator,
            step=self.step,
            seconds=self.seconds,
            identity=self.identity,
        )

    def resume(self) -> None:
        """Continue from the checkpoint in the folder.

        A run of more steps may continue one of fewer. Its learning rates are those of the longer run from
        there on, so that it ends near, and not at, what a run of as many steps from the start gives.

        :raises ValueError: there is none, it is damaged, or it belongs to a run with other settings or past
            the last step of this one.
        """
        self.step, self.seconds = read_checkpoint(
            self.checkpoint,
            self.regularizer,
            self.optimizer,
            self.generator,
            identity=self.identity,
        )
        if self.step > self.settings.steps:
            raise ValueError(
                f"{self.checkpoint} is of a run that has taken {self.step} steps; give as many or more"
            )
        self.schedule = self._half_cosine()
