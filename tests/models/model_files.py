"""Model files to try, whole and tampered with."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from convexreg import ModelConfig, save_model
from tests.tables import perturbed

CONFIG = ModelConfig("mgradnet-m", (1, 2, 4), (3, 3), sigma_min=0.01, sigma_max=0.3)
CARD = {"training_data": "none", "figures": {"25": 29.1}, "steps": 3}


def write(path: Path, config: ModelConfig = CONFIG) -> Path:
    regularizer = perturbed(config.build("mine"), 0.3).float()
    save_model(path, regularizer, config, CARD)
    return path


def tampered(path: Path, **metadata: str) -> Path:
    """The same tensors with other metadata."""
    original = metadata_of(path)
    save_file(load_file(path), path, metadata=original | metadata)
    return path


def metadata_of(path: Path) -> dict[str, str]:
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return header["__metadata__"]
