"""How strong the noise is at every pixel, from a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from torch import Tensor

from convexreg.pictures.files import PictureFile
from convexreg.pictures.photograph import ImageError, Photograph

_LEAST = 0.1
"""Of a step between two stored numbers: noise that is nowhere stronger is on another scale."""


@dataclass(frozen=True)
class NoiseMap:
    """Standard deviations of the noise.

    :ivar levels: positive, `(1, H, W)`, or one for each channel `(C, H, W)`, in float64 and in the numbers
        of the picture's file.
    :ivar path: of its file, for messages.
    """

    levels: Tensor
    path: Path

    def of(self, photograph: Photograph) -> Tensor:
        """The levels for a photograph, on its scale.

        :raises ImageError: of another size, other channels, or on another scale.
        """
        size, own = photograph.pixels.shape[1:], self.levels.shape[1:]
        if size != own:
            raise ImageError(
                f"the noise map {self.path} is {own[0]} x {own[1]} and the photograph {size[0]} x {size[1]}; "
                "they must be of one size"
            )
        channels, count = len(self.levels), len(photograph.pixels)
        if channels not in (1, count):
            raise ImageError(
                f"the noise map {self.path} has {channels} channels and the photograph {count}; give one "
                "for all channels, or one for each"
            )
        if photograph.dtype.kind != "f" and float(self.levels.max()) < _LEAST:
            raise ImageError(
                f"the levels in the noise map {self.path} end at {float(self.levels.max()):.3g}, far below "
                f"one step of the photograph's numbers, whose white is {photograph.largest:g}; they must be "
                f"on that scale, multiply fractions of white by {photograph.largest:g}"
            )
        return self.levels / photograph.largest


def read_noise_map(path: Path) -> NoiseMap:
    """A noise map from any picture or array.

    :raises ImageError: unreadable, several pictures, or levels that are not positive and finite.
    """
    with PictureFile(path) as file:
        if len(file) > 1:
            raise ImageError(
                f"the noise map {path} has {file.describe()}; save the one to use (channels of an array are "
                "its last axis)"
            )
        levels = file.numbers(1)
    if not numpy.isfinite(levels).all():
        raise ImageError(
            f"the noise map {path} holds NaN or infinite levels; give unknown pixels a large level"
        )
    if levels.min() <= 0:
        raise ImageError(
            f"the levels in the noise map {path} must be positive, they begin at {levels.min():g}; where "
            "the picture is exact give the level of its rounding, 0.3 of a step"
        )
    if (levels == levels[:1]).all():
        levels = levels[:1]
    return NoiseMap(torch.from_numpy(numpy.ascontiguousarray(levels)), path)
