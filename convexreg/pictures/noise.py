"""How strong the noise of a picture is, estimated where there is noise (`pictures.blocks`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy
from torch import Tensor

from convexreg.pictures.blocks import COARSE, Blocks, planes_of

_WHITE = 1.25
"""By how much levels at one and at two pixels' distance differ where noise is white, at most: of 20
photographs with noise of 5/255 all are below, of noise blurred by 0.5 pixels and JPEG of quality 75 none or
one."""
_BLURRED = 1.55
"""The same where the picture is smooth everywhere."""
_SURE = 0.1
"""Quantile of the classes of brightness: where there is texture levels over more pixels are larger."""


@dataclass(frozen=True)
class NoiseEstimate:
    """The noise of a picture.

    :ivar levels: standard deviation in every plane, in the unit of the pixels.
    :ivar coarse: the same from differences over four pixels instead of one.
    :ivar contradiction: by what factor levels from differences over two pixels are larger at least, wherever
        one looks: far above one where neighbouring pixels share their noise (JPEG, enlarged or smoothed
        pictures, raw colour filters).
    :ivar shared: by what factor those over two or four pixels are larger nearly everywhere.
    :ivar seen: the share of the picture that it was estimated from.
    """

    levels: tuple[float, ...]
    coarse: tuple[float, ...]
    contradiction: float
    shared: float
    seen: float

    @property
    def sigma(self) -> float:
        """One level for all planes: the root of their mean square."""
        return _rms(self.levels)

    @property
    def advised(self) -> float:
        """What to denoise with: `sigma`, and more where neighbouring pixels share their noise, of which
        differences between them see a part."""
        return self.sigma if self.white else self.shared * self.sigma

    @property
    def advised_for_operators(self) -> float:
        """The same for what is blurred or reduced, whose structure over four pixels looks like noise."""
        shared = self.contradiction if self.contradiction >= _BLURRED else 1.0
        return shared * self.sigma

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
    coarse = tuple(math.sqrt(blocks.variance(distance=COARSE[-1])) for blocks in found)
    ratios = [
        numpy.concatenate([blocks.ratios(distance) for blocks in found]) for distance in COARSE
    ]
    shared = max(float(numpy.quantile(each, _SURE)) for each in ratios)
    seen = sum(blocks.seen for blocks in found) / len(found)
    return NoiseEstimate(levels, coarse, float(ratios[0].min()), shared, seen)


def estimate_sigma(pixels: Tensor) -> float:
    """Standard deviation of the noise of an image `(C, H, W)`, see `estimate_noise`."""
    return estimate_noise(pixels).sigma


def _rms(values: tuple[float, ...]) -> float:
    return math.sqrt(sum(value**2 for value in values) / len(values))
