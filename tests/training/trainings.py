"""Small models to train, and the objectives to train them with."""

from __future__ import annotations

from collections.abc import Callable

from convexreg import ModelConfig
from convexreg.models.config import Architecture
from convexreg.training.objectives import Equilibrium, Score, TrainingObjective, Unrolled

OBJECTIVES: dict[str, Callable[[], TrainingObjective]] = {
    "score": Score,
    "unrolled": lambda: Unrolled(4),
    "equilibrium": Equilibrium,
}


def config(architecture: Architecture = "mgradnet-m") -> ModelConfig:
    return ModelConfig(architecture, (1, 2, 4), (3, 3), sigma_min=0.02, sigma_max=0.2)
