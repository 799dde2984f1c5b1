"""How strong the noise of a picture is, estimated where there is noise (`pictures.blocks`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from convexreg.pictures.blocks import Blocks, planes_of

_WHITE = 1.55
"""By how much levels at one and at two pixels' distance differ where noise is white, at most: of twenty
photographs with noise of 10/255 all are below, of blurred noise (0.6 pixels) and JPEG of quality 50 none."""


@dataclass(frozen=True)
class NoiseEstimate:
    """The noise of a picture.

    :ivar levels: standard deviation in every plane, in the unit of the pixels.
    :ivar coarse: the same from differences over two pixels instead of one.
    :ivar contradiction: by what factor the two differ at least, wherever one looks: far above one where
        neighbouring pixels share their noise (JPEG, enlarged or smoothed pictures, raw colour filters).
    :ivar seen: the share of the picture that it was estimated from.
    """

    levels: tuple[float, ...]
    coarse: tuple[float, ...]
    contradiction: float
    seen: float

    @property
    def sigma(self) -> float:
        """One level for all planes: the root of their mean square."""
        return _rms(self.levels)

    @property
    def advised(self) -> float:
        """What to denoise with: `sigma`, and more where neighbouring pixels share their noise, of which
        differences between them see a part."""
        return self.sigma if self.white else self.contradiction * self.sigma

    @property
    def white(self) -> bool:
        """Whether the noise of neighbouring pixels seems independent."""
        return self.contradiction < _WHITE


def estimate_noise(pixels: Tensor) -> NoiseEstimate:
    """The noise of an image `(C, H, W)`, plane by plane.

    Left out are pixels at a limit (saturated, black) and those around them, constant regions and
    borders, everything that is not finite. Where the noise depends on the brightness the level is that of
    the median pixel.

    :raises NoNoise: nothing is left.
    :raises PictureTooSmall: a side of less than 16 pixels.
    """
    found = [Blocks.of(plane) for plane in planes_of(pixels)]
    levels = tuple(math.sqrt(blocks.variance()) for blocks in found)
    coarse = tuple(math.sqrt(blocks.variance(distance=2)) for blocks in found)
    ratio = min(blocks.contradiction() for blocks in found)
    return NoiseEstimate(levels, coarse, ratio, sum(blocks.seen for blocks in found) / len(found))


def estimate_sigma(pixels: Tensor) -> float:
    """Standard deviation of the noise of an image `(C, H, W)`, see `estimate_noise`."""
    return estimate_noise(pixels).sigma


def _rms(values: tuple[float, ...]) -> float:
    return math.sqrt(sum(value**2 for value in values) / len(values))
