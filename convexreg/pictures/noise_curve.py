"""Noise that is weaker where a picture is brighter, as in photographs after a tone curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from convexreg.pictures.blocks import NoNoise
from convexreg.pictures.photon_noise import Fit, classes_of

_WINDOW = 7
"""Side in pixels of the mean that is taken for the brightness of a place."""


@dataclass(frozen=True)
class NoiseCurve:
    """Noise of variance `exp(start - fall x)` at brightness `x`.

    :ivar fall: positive.
    :ivar range: brightness from where to where noise was seen; beyond it is what it is at the ends.
    :ivar fit: how well that describes it.
    """

    start: float
    fall: float
    range: tuple[float, float]
    fit: Fit

    def levels(self, pixels: Tensor) -> Tensor:
        """Standard deviation at every pixel of an image `(C, H, W)`."""
        margin = (_WINDOW // 2,) * 4
        padded = torch.nn.functional.pad(pixels[None].double(), margin, mode="replicate")
        brightness = torch.nn.functional.avg_pool2d(padded, _WINDOW, stride=1)[0]
        return ((self.start - self.fall * brightness.clamp(*self.range)) / 2).exp()


def estimate_noise_curve(pixels: Tensor) -> NoiseCurve:
    """The noise of an image `(C, H, W)` as a falling exponential over its brightness.

    The one with the least mean relative deviation from the classes of brightness, as for photon noise.

    :raises NoNoise: nothing shows noise, or nowhere less of it where it is brighter.
    """
    x, variance, blocks = classes_of(pixels)
    logarithm = numpy.log(variance.clip(1e-30))
    one, two = numpy.triu_indices(len(x), 1)
    apart = numpy.abs(x[two] - x[one]) > 1e-3 * max(float(numpy.ptp(x)), 1e-12)
    one, two = one[apart], two[apart]
    fall = -(logarithm[two] - logarithm[one]) / (x[two] - x[one])
    one, fall = one[fall > 0], fall[fall > 0]
    if not len(one):
        raise NoNoise("the picture shows nowhere less noise where it is brighter")
    start = logarithm[one] + fall * x[one]
    best, fit = Fit.best(numpy.exp(start[:, None] - fall[:, None] * x), variance, blocks)
    return NoiseCurve(float(start[best]), float(fall[best]), (float(x.min()), float(x.max())), fit)
