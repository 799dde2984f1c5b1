"""Small models to train, the objectives to train them with, and runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from convexreg import ModelConfig
from convexreg.models.config import Architecture
from convexreg.training.data import ImageFolder
from convexreg.training.objectives import Equilibrium, Score, TrainingObjective, Unrolled
from convexreg.training.run import TrainingRun
from convexreg.training.settings import TrainingSettings

OBJECTIVES: dict[str, Callable[[], TrainingObjective]] = {
    "score": Score,
    "unrolled": lambda: Unrolled(4),
    "equilibrium": Equilibrium,
}


def config(architecture: Architecture = "mgradnet-m") -> ModelConfig:
    return ModelConfig(architecture, (1, 2, 4), (3, 3), sigma_min=0.02, sigma_max=0.2)


SETTINGS = TrainingSettings(
    steps=7, batch_size=2, patch_size=12, checkpoint_every=3, validate_every=4, seed=5
)


def training(
    folder: Path,
    run: Path,
    *,
    objective: str = "unrolled",
    architecture: Architecture = "mgradnet-m",
    settings: TrainingSettings = SETTINGS,
    init: int = 0,
    filters: int = 4,
) -> TrainingRun:
    """A run that validates on what it trains on."""
    torch.manual_seed(init)
    settings_of_model = replace(config(architecture), channels=(1, 2, filters))
    return TrainingRun(
        settings_of_model.build(),
        settings_of_model,
        OBJECTIVES[objective](),
        ImageFolder(folder).images,
        run,
        settings,
        validation=ImageFolder(folder).images,
    )


def log(run: TrainingRun) -> list[dict]:
    """The log without the times."""
    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
