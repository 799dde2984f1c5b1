"""Checkpoints: everything that an interrupted training run needs to go on, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from convexreg.files import write_atomically

Identity = Mapping[str, Mapping[str, Any]]
"""What a run is: names and values of everything that its result depends on, as JSON takes it."""
_MAY_DIFFER = ("steps", "checkpoint_every", "validate_every")
"""Of a run and of the one that resumes it: how long it goes on, and what is written meanwhile."""


def write_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    *,
    step: int,
    seconds: float,
    identity: Identity,
) -> None:
    """Write the state of a run, all or nothing."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(v) for key, v in state.items()}
    tensors["generator"] = generator.get_state()
    metadata = {"step": str(step), "seconds": str(seconds), "settings": json.dumps(identity)}
    contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    write_atomically(path, save(contiguous, metadata))


def read_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    *,
    identity: Identity,
) -> tuple[int, float]:
    """Put model, optimizer and generator in the state of the checkpoint; steps taken and their seconds.

    :raises ValueError: there is none, it is damaged, or it belongs to a run of another identity.
    """
    if not path.is_file():
        raise ValueError(f"there is no checkpoint {path} to resume from")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise ValueError(f"the checkpoint {path} is damaged ({error})") from error
    differing = _differences(metadata.get("settings", "{}"), json.dumps(identity))
    if differing:
        raise ValueError(
            f"{path} belongs to a run with other settings ({', '.join(differing)}); "
            "resume with the same ones, or begin another run from the trained model, in another folder"
        )
    model.load_state_dict(
        {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    )
    state = optimizer.state_dict()
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state["state"].setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(state)
    generator.set_state(tensors["generator"])
    return int(metadata["step"]), float(metadata["seconds"])


def _differences(one: str, other: str) -> list[str]:
    """Names of the settings that differ between two identities of runs."""
    flat = [
        {name: value for part in json.loads(text).values() for name, value in part.items()}
        for text in (one, other)
    ]
    names = (name for name in {**flat[0], **flat[1]} if name not in _MAY_DIFFER)
    return [name for name in names if flat[0].get(name) != flat[1].get(name)]
