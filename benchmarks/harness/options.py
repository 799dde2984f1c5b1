"""How benchmarks are run: one field per option of the command line."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from convexreg.cli.parser import count, device, positive


def _option(default: Any, text: str, **how: Any) -> Any:
    if default not in (None, (), False):
        text += ", default: %(default)s"
    return field(default=default, metadata={"help": text, **how})


_SOURCE = {"metavar": "NAME or FOLDER"}
_NUMBER = {"type": count, "metavar": "N"}
_NAMES = {"type": lambda text: tuple(text.split(",")), "metavar": "A,B"}


@dataclass(frozen=True)
class Options:
    """How to run; a benchmark ignores what does not concern it, except `methods` and `problems`."""

    images: str | None = _option(None, "to test on (default: the benchmark's own)", **_SOURCE)
    tuning_images: str | None = _option(None, "to tune on, never the test images", **_SOURCE)
    limit: int | None = _option(None, "only the first N images", **_NUMBER)
    tuning_limit: int | None = _option(None, "only the first N tuning images", **_NUMBER)
    crop: int | None = _option(None, "only the central N x N pixels", **_NUMBER)
    tuning_crop: int = _option(128, "the same for tuning images, to save time", **_NUMBER)
    methods: tuple[str, ...] = _option((), "only these (study: architectures)", **_NAMES)
    problems: tuple[str, ...] = _option((), "only these (study: objectives)", **_NAMES)
    models: tuple[str, ...] = _option(
        (), "further model files (study: the one to start from)", **_NAMES
    )
    weights: str | None = _option(None, "published weights", metavar="FOLDER")
    repeats: int = _option(3, "timed repetitions of every method", **_NUMBER)
    time_limit: float = _option(
        600.0, "for one method on one image", type=positive, metavar="SECONDS"
    )
    seed: int = _option(
        0, "of what is random besides the measurements' noise, which follows the image", type=int
    )
    device: str = _option("cpu", "to compute on", type=device)
    tiny: bool = _option(False, "smallest input, to see that it runs", action="store_true")

    @classmethod
    def add_to(cls, parser: argparse.ArgumentParser) -> None:
        """Add an argument per field."""
        for each in fields(cls):
            name = "--" + each.name.replace("_", "-")
            parser.add_argument(name, default=each.default, **each.metadata)

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Options:
        """The options among parsed arguments."""
        return cls(**{each.name: getattr(arguments, each.name) for each in fields(cls)})

    def record(self) -> dict[str, Any]:
        """For `run.json`: folders and files by their names, for where they lie is nobody's business."""

        def name(path: str | None) -> str | None:
            return None if path is None else Path(path).name

        return {
            **asdict(self),
            "images": name(self.images),
            "tuning_images": name(self.tuning_images),
            "models": [name(path) for path in self.models],
            "weights": name(self.weights),
        }
