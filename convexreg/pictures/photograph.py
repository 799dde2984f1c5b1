"""A photograph in memory, and what goes wrong with files of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy
import torch
from torch import Tensor


class ImageError(ValueError):
    """An image that cannot be read or written; the message says why."""


class UnknownWhite(ImageError):
    """Pixels whose number of white is not known: floats on another scale than [0, 1], integers of 32 bits."""


@dataclass(frozen=True)
class Tags:
    """What a file says beside its pixels, kept for the file of the result.

    :ivar profile: the ICC colour profile.
    :ivar resolution: pixels per `unit`, along rows and along columns.
    :ivar unit: 1 (none, or as the description says), 2 (inch) or 3 (centimetre), as TIFF has it.
    :ivar description: of a TIFF, in words.
    :ivar imagej: ImageJ's metadata, with the pixel's unit and depth.
    :ivar ome: OME-XML.
    :ivar exif: what the camera says, without the orientation, see `pictures.exif`.
    """

    profile: bytes | None = None
    resolution: tuple[float, float] | None = None
    unit: int = 1
    description: str | None = None
    imagej: Mapping[str, Any] | None = None
    ome: str | None = None
    exif: bytes | None = None

    def turned(self) -> Tags:
        """Of the picture on its side."""
        return replace(self, resolution=self.resolution and self.resolution[::-1])

    def magnified(self, factor: int) -> Tags:
        """Of the same scene in smaller pixels; OME-XML says their size and is dropped."""
        resolution = self.resolution and (self.resolution[0] * factor, self.resolution[1] * factor)
        return replace(self, resolution=resolution, ome=None)

    def per_inch(self) -> tuple[float, float] | None:
        """Pixels per inch, where the unit is a length."""
        if self.resolution is None or self.unit not in (2, 3):
            return None
        scale = 1 if self.unit == 2 else 2.54
        return self.resolution[0] * scale, self.resolution[1] * scale


@dataclass(frozen=True)
class Photograph:
    """An image `(C, H, W)` in [0, 1] as float32, with what is needed to write it back.

    :ivar pixels: gray or colour, and behind it `bands` further channels, each a picture of its own (near
        infrared, a fluorescent dye); there may be nothing but bands.
    :ivar alpha: `(1, H, W)`, kept as it is, or `None`.
    :ivar bits: 8 or 16 for integer files, 32 for floating-point ones and integers of 32 and more.
    :ivar white: the number in the file that stands for 1, where the reader was told; otherwise the
        largest of an integer type, or 1.
    :ivar stored_as: the type of the file's numbers where `bits` does not say it, such as int16.
    :ivar premultiplied: whether the file holds colours times alpha. Here they are never.
    :ivar remarks: what the user should know of how the file was read.
    """

    pixels: Tensor
    alpha: Tensor | None
    bits: int
    white: float | None = None
    bands: int = 0
    stored_as: str | None = None
    premultiplied: bool = False
    tags: Tags = field(default_factory=Tags)
    remarks: tuple[str, ...] = ()

    @property
    def dtype(self) -> numpy.dtype[Any]:
        """Of the numbers in the file."""
        return numpy.dtype(self.stored_as or {8: "uint8", 16: "uint16", 32: "float32"}[self.bits])

    def gray(self) -> Tensor:
        """Luma `(1, H, W)` (ITU-R BT.601 weights for colour).

        :raises ImageError: neither gray nor colour.
        """
        if self.pixels.shape[0] == 1:
            return self.pixels
        if self.bands or self.pixels.shape[0] != 3:
            raise ImageError(
                f"an image of {self.pixels.shape[0]} channels is neither gray nor colour; save the one to "
                "use as a file of its own"
            )
        weights = torch.tensor([0.299, 0.587, 0.114])
        return torch.einsum("c,chw->hw", weights, self.pixels).unsqueeze(0)

    def parts(self, *, equal_is_gray: bool = True) -> list[Tensor]:
        """What is reconstructed alone, `(1, H, W)` or `(3, H, W)` each: gray or colour, and every band.

        :param equal_is_gray: take one channel of colour whose three channels are the same.
        """
        together = self.pixels.shape[0] - self.bands
        first = self.pixels[:together]
        bands = [plane.unsqueeze(0) for plane in self.pixels[together:]]
        if equal_is_gray and together == 3 and torch.equal(first[:1].expand_as(first), first):
            first = first[:1]
        return [first, *bands] if together else bands

    def with_parts(self, parts: Sequence[Tensor]) -> Photograph:
        """The same with other pixels in its `parts`."""
        planes = list(parts)
        if self.pixels.shape[0] - self.bands == 3 and planes[0].shape[0] == 1:
            planes[0] = planes[0].expand(3, -1, -1)
        return self.with_pixels(torch.cat(planes))

    @property
    def largest(self) -> float:
        """The number in the file that stands for 1."""
        if self.white is not None:
            return self.white
        return 1.0 if self.dtype.kind == "f" else float(numpy.iinfo(self.dtype).max)

    @property
    def step(self) -> float:
        """Between two numbers of an integer file, as a fraction of white; zero of floating-point ones."""
        return 0.0 if self.dtype.kind == "f" else 1 / self.largest

    def with_own_white(self) -> Photograph:
        """The same with its largest value for white.

        :raises ImageError: nothing is above zero.
        """
        brightest = float(self.pixels.max())
        if not brightest > 0:
            raise ImageError("nothing in the picture is above zero, so that there is no white")
        return replace(self, pixels=self.pixels / brightest, white=brightest * self.largest)

    @property
    def doubtful_white(self) -> bool:
        """Whether it looks like data of 12 bits or fewer in a file of 16 whose white was not named."""
        if self.bits != 16 or self.white is not None:
            return False
        return bool(self.pixels.max() * numpy.iinfo(self.dtype).max < 4096)

    def with_pixels(self, pixels: Tensor) -> Photograph:
        """The same alpha channel and depth with other pixels."""
        return replace(self, pixels=pixels)
