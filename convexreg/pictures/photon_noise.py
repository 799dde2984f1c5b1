"""Noise that grows with the brightness: how strong it is, and whether a picture has it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy
from torch import Tensor

from convexreg.pictures.blocks import Blocks, NoNoise, planes_of

_FEW = 20
"""Blocks in a class of brightness: the more classes, the better is a line."""
_BETTER, _STEEP = 0.6, 1.5
"""A line is evident where it deviates so much less than a constant, and rises by that factor at least."""


@dataclass(frozen=True)
class PhotonNoise:
    """Noise of variance `gain x + floor` at brightness `x`, in the unit of the pixels.

    :ivar gain: nonnegative.
    :ivar floor: the variance at zero, negative where black is above zero.
    :ivar deviation: mean relative deviation of the classes of brightness from that line, over their blocks.
    :ivar constant: the same from the best constant.
    :ivar rise: the variance of the brightest class over that of the darkest one, on the line.
    """

    gain: float
    floor: float
    deviation: float
    constant: float
    rise: float

    @property
    def evident(self) -> bool:
        """Whether the noise clearly grows with the brightness: the line deviates at most 0.6 times as much as
        a constant, and rises by half at least."""
        return self.deviation <= _BETTER * self.constant and self.rise >= _STEEP


def estimate_photon_noise(pixels: Tensor) -> PhotonNoise:
    """The noise of an image `(C, H, W)` as a line over its brightness.

    The line through the variances of all classes of brightness with the least mean relative deviation
    (what texture adds is an outlier), of all planes together.

    :raises NoNoise: nothing shows noise, or all of it is of one brightness.
    """
    classes = [Blocks.of(plane).classes(fewest=_FEW) for plane in planes_of(pixels)]
    x, variance, blocks = (
        numpy.concatenate(column)
        for column in zip(*((c.mean, c.variance, c.blocks) for c in classes), strict=True)
    )
    one, two = numpy.triu_indices(len(x), 1)
    apart = numpy.abs(x[two] - x[one]) > 1e-3 * max(float(numpy.ptp(x)), 1e-12)
    one, two = one[apart], two[apart]
    if not len(one):
        raise NoNoise("the picture has too little of different brightness to tell photon noise")
    gain = ((variance[two] - variance[one]) / (x[two] - x[one])).clip(0)
    floor = variance[one] - gain * x[one]
    line = (gain[:, None] * x + floor[:, None]).clip(0.1 * float(variance.min()))
    deviation = numpy.abs(variance / line - 1) @ blocks / blocks.sum()
    best = int(deviation.argmin())
    constant = float((numpy.abs(variance / variance[:, None] - 1) @ blocks).min() / blocks.sum())
    rise = float(line[best].max() / line[best].min())
    return PhotonNoise(
        float(gain[best]), float(floor[best]), float(deviation[best]), constant, rise
    )
