"""A photograph in memory, and what goes wrong with files of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


class ImageError(ValueError):
    """An image that cannot be read or written; the message says why."""


class UnknownWhite(ImageError):
    """Floating-point pixels on another scale than [0, 1]; the white has to be named."""


@dataclass(frozen=True)
class Photograph:
    """An image `(C, H, W)` in [0, 1] as float32, with what is needed to write it back.

    :ivar pixels: gray (C = 1) or colour (C = 3).
    :ivar alpha: `(1, H, W)`, kept as it is, or `None`.
    :ivar bits: 8 or 16 for integer files, 32 for floating-point ones.
    :ivar white: the number in the file that stands for 1, where the reader was told; otherwise the
        largest of an integer type, or 1.
    """

    pixels: Tensor
    alpha: Tensor | None
    bits: int
    white: float | None = None

    def gray(self) -> Tensor:
        """Luma `(1, H, W)` (ITU-R BT.601 weights for colour)."""
        if self.pixels.shape[0] == 1:
            return self.pixels
        weights = torch.tensor([0.299, 0.587, 0.114])
        return torch.einsum("c,chw->hw", weights, self.pixels).unsqueeze(0)

    @property
    def largest(self) -> float:
        """The number in the file that stands for 1."""
        if self.white is not None:
            return self.white
        return 1.0 if self.bits == 32 else 2.0**self.bits - 1

    @property
    def step(self) -> float:
        """Between two numbers of an integer file, as a fraction of white; zero of floating-point ones."""
        return 0.0 if self.bits == 32 else 1 / self.largest

    @property
    def doubtful_white(self) -> bool:
        """Whether it looks like data of 12 bits or fewer in a file of 16 whose white was not named."""
        return self.bits == 16 and self.white is None and bool(self.pixels.max() < 4096 / 65535)

    def with_pixels(self, pixels: Tensor) -> Photograph:
        """The same alpha channel and depth with other pixels."""
        return replace(self, pixels=pixels)
