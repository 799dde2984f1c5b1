"""How strong the noise of a picture is, estimated where there is noise.

Of small blocks the energy of a high-pass filter that no plane and no paraboloid passes is the variance of
the noise where the picture is smooth, and more elsewhere: the calm blocks say how strong it is. What that
is on white noise alone decides the scale, so that there it has no bias.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from torch import Tensor

Plane = NDArray[numpy.float64]

_SIDE, _STRIDE = 8, 4
_CALM = 0.1
"""The quantile of the blocks of one brightness that stands for the noise there."""
_BINS, _MANY = 12, 40
"""Classes of brightness at most, and blocks in each at least."""
_CLIPPED = 0.02
"""Share of pixels at a limit up to which a block is used."""
_PILED, _LEAST = 5.0, 2e-3
"""Values so many times as frequent as those beside them, in that share of all pixels, are no noise."""
_WHITE = 1.55
"""By how much levels at one and at two pixels' distance differ where noise is white, at most: of twenty
photographs with noise of 10/255 all are below, of blurred noise (0.6 pixels) and JPEG of quality 50 none."""


class PictureTooSmall(ValueError):
    """The noise of a picture of so few pixels cannot be estimated."""


class NoNoise(ValueError):
    """There is no place in the picture that shows noise."""


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


@dataclass(frozen=True)
class Blocks:
    """What the usable blocks of a plane say: mean brightness, and high-pass energy at two distances."""

    mean: Plane
    energy: tuple[Plane, Plane]
    seen: float

    @classmethod
    def of(cls, plane: Plane) -> Blocks:
        """:raises NoNoise: none is usable."""
        if min(plane.shape) < 2 * _SIDE:
            raise PictureTooSmall(
                f"the noise of a picture of {plane.shape[0]} x {plane.shape[1]} pixels cannot be estimated, "
                f"its sides must have at least {2 * _SIDE}"
            )
        finite = numpy.isfinite(plane)
        plane = numpy.where(finite, plane, 0.0)
        fine, coarse = (_high_pass(plane, distance) for distance in (1, 2))
        lacking = _mean(((fine == 0) & (_mean((fine == 0).astype(float), 5) > 0.999)).astype(float))
        limited = _mean((_piled(plane) | ~finite).astype(float), _SIDE + 4)
        inner = numpy.zeros(plane.shape, bool)
        inner[4:-4, 4:-4] = True
        places = (slice(_STRIDE, None, _STRIDE),) * 2
        there = inner[places] & (lacking[places] < 0.25)
        shares = limited[places]
        if there.any():  # strong noise reaches the limits everywhere
            there &= shares <= max(_CLIPPED, min(float(numpy.quantile(shares[there], 0.2)), 0.2))
        if there.sum() < 4:
            raise NoNoise("the picture shows no noise that could be measured")
        mean, one, two = (_mean(item)[places][there] for item in (plane, fine**2, coarse**2))
        return cls(mean, (one, two), float(there.mean()))

    def classes(self, distance: int = 1, blocks: int = _MANY) -> tuple[Plane, Plane]:
        """Mean brightness and variance of the noise of every class of brightness.

        :param blocks: in each at least.
        """
        count = int(min(max(len(self.mean) // blocks, 1), _BINS))
        parts = numpy.array_split(numpy.argsort(self.mean, kind="stable"), count)
        energy = self.energy[distance - 1]
        scale = _white_quantile(distance)
        variance = [float(numpy.quantile(energy[part], _CALM)) / scale for part in parts]
        mean = [float(self.mean[part].mean()) for part in parts]
        return numpy.array(mean), numpy.array(variance)

    def variance(self, distance: int = 1) -> float:
        """That of the noise: the median of the classes."""
        return float(numpy.median(self.classes(distance)[1]))

    def contradiction(self) -> float:
        """The least ratio of the levels at two pixels' distance and at one, over the classes."""
        fine, coarse = (self.classes(distance)[1] for distance in (1, 2))
        return math.sqrt(float((coarse / fine.clip(1e-30)).min()))


def planes_of(pixels: Tensor) -> list[Plane]:
    """Of an image `(C, H, W)`, in float64."""
    return list(pixels.detach().cpu().double().numpy())


def _high_pass(plane: Plane, distance: int) -> Plane:
    """Second differences along rows and columns, of unit gain for white noise; zero on the border."""
    result = numpy.zeros_like(plane)
    d = distance
    rows = plane[2 * d :] - plane[d:-d] - (plane[d:-d] - plane[: -2 * d])
    result[d:-d, d:-d] = rows[:, 2 * d :] - rows[:, d:-d] - (rows[:, d:-d] - rows[:, : -2 * d])
    return result / 6


def _mean(values: Plane, side: int = _SIDE) -> Plane:
    from scipy.ndimage import uniform_filter

    return uniform_filter(values, side, mode="nearest")


def _piled(plane: Plane) -> NDArray[numpy.bool_]:
    """Pixels at the least and the largest value, and at values that are far more frequent than others."""
    values, counts = numpy.unique(plane, return_counts=True)
    around = numpy.pad(counts, 3, mode="reflect") if len(counts) > 6 else None
    limits = {float(values[0]), float(values[-1])}
    if around is not None:
        usual = numpy.median(numpy.lib.stride_tricks.sliding_window_view(around, 7), axis=1)
        piled = (counts > _PILED * usual) & (counts > _LEAST * plane.size)
        limits |= set(values[piled].tolist())
    return numpy.isin(plane, list(limits))


@functools.cache
def _white_quantile(distance: int) -> float:
    """The quantile of the energy of blocks on white noise of variance one."""
    noise = numpy.random.default_rng(0).standard_normal((512, 512))
    energy = _mean(_high_pass(noise, distance) ** 2)[_SIDE:-_SIDE:_STRIDE, _SIDE:-_SIDE:_STRIDE]
    return float(numpy.quantile(energy, _CALM))


def _rms(values: tuple[float, ...]) -> float:
    return math.sqrt(sum(value**2 for value in values) / len(values))
