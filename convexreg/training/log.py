"""The log of a training run: one line of JSON per step."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from convexreg.files import write_atomically


@dataclass(frozen=True)
class Record:
    """One line of the log."""

    step: int
    loss: float
    seconds: float
    diagnostics: dict[str, float]
    validation_psnr: dict[str, float] | None = None


def append(path: Path, record: Record) -> None:
    """Add a line."""
    with path.open("a") as file:
        file.write(json.dumps(asdict(record)) + "\n")


def cut(path: Path, steps: int) -> None:
    """Drop the steps that an interrupted run took after its checkpoint."""
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    write_atomically(path, "".join(lines[:steps]).encode())


def last_validation(path: Path) -> dict[str, float] | None:
    """The validation of the last step, `None` where there is none."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return json.loads(lines[-1])["validation_psnr"] if lines else None
