"""Noise that grows with the brightness: how strong it is, and whether a picture has it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy
from torch import Tensor

from convexreg.pictures.blocks import Blocks, NoNoise, Order, Plane, planes_of

_FEW = 20
"""Blocks in a class of brightness: the more classes, the better is a line."""
_BETTER, _STEEP = 0.6, 1.5
"""A curve is evident where it deviates so much less than a constant, and rises by that factor at least. Of 37
photographs with white noise of 25/255 no line is, of 5/255 two; with photon noise of 30 or 100 photons at
white nearly all."""


@dataclass(frozen=True)
class Fit:
    """How well a curve describes the variances of the classes of brightness.

    :ivar deviation: mean relative deviation of the classes from it, over their blocks.
    :ivar constant: the same from the best constant.
    :ivar rise: its largest value over its least one.
    """

    deviation: float
    constant: float
    rise: float

    @classmethod
    def best(cls, curves: Plane, variance: Plane, blocks: Order) -> tuple[int, Fit]:
        """That with the least deviation: its number, and how well it fits.

        :param curves: their values for every class, `(curves, classes)`.
        """
        deviation = numpy.abs(variance / curves - 1) @ blocks / blocks.sum()
        best = int(deviation.argmin())
        constants = numpy.abs(variance / variance[:, None].clip(1e-30) - 1) @ blocks / blocks.sum()
        rise = float(curves[best].max() / curves[best].min())
        return best, cls(float(deviation[best]), float(constants.min()), rise)

    @property
    def evident(self) -> bool:
        """Whether the noise clearly depends on the brightness: the curve deviates at most 0.6 times as much
        as a constant, and its largest value is 1.5 times its least one at least."""
        return self.deviation <= _BETTER * self.constant and self.rise >= _STEEP


@dataclass(frozen=True)
class PhotonNoise:
    """Noise of variance `gain x + floor` at brightness `x`, in the unit of the pixels.

    :ivar gain: nonnegative.
    :ivar floor: the variance at zero, negative where black is above zero.
    :ivar fit: how well that line describes it.
    """

    gain: float
    floor: float
    fit: Fit


def estimate_photon_noise(pixels: Tensor) -> PhotonNoise:
    """The noise of an image `(C, H, W)` as a line over its brightness.

    The line through the variances of all classes of brightness with the least mean relative deviation
    (what texture adds is an outlier), of all planes together.

    :raises NoNoise: nothing shows noise, or all of it is of one brightness.
    """
    x, variance, blocks = classes_of(pixels)
    one, two = numpy.triu_indices(len(x), 1)
    apart = numpy.abs(x[two] - x[one]) > 1e-3 * max(float(numpy.ptp(x)), 1e-12)
    one, two = one[apart], two[apart]
    if not len(one):
        raise NoNoise("the picture has too little of different brightness to tell photon noise")
    gain = ((variance[two] - variance[one]) / (x[two] - x[one])).clip(0)
    floor = variance[one] - gain * x[one]
    lines = (gain[:, None] * x + floor[:, None]).clip(0.1 * float(variance.min()))
    best, fit = Fit.best(lines, variance, blocks)
    return PhotonNoise(float(gain[best]), float(floor[best]), fit)


def classes_of(pixels: Tensor) -> tuple[Plane, Plane, Order]:
    """Brightness, variance of the noise and number of blocks of the classes of all planes."""
    classes = [Blocks.of(plane).classes(fewest=_FEW) for plane in planes_of(pixels)]
    mean, variance, blocks = zip(*((c.mean, c.variance, c.blocks) for c in classes), strict=True)
    return numpy.concatenate(mean), numpy.concatenate(variance), numpy.concatenate(blocks)
