"""Small blocks of a picture, and what they say of its noise.

Of small blocks the energy of a high-pass filter that no plane and no paraboloid passes is the variance of
the noise where the picture is smooth, and more elsewhere. Where it is smooth is seen by the gradient of the
smoothed picture, which has little of the noise; the calm ones of those blocks say how strong it is. What
that is on white noise alone decides the scale, so that there it has no bias.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

Plane = NDArray[numpy.float64]
Order = NDArray[numpy.int_]

_SIDE, _STRIDE = 8, 4
_BINS, _MANY = 12, 40
"""Classes of brightness, and blocks in each at least."""
_WIDE = 1 / 8
"""Share of the range of brightness that a class covers at most, if it has blocks enough to be halved."""
_BLUR = 1.5
"""Standard deviation in pixels of the smoothing before the gradient."""
_SMOOTH, _FEWEST, _CALM = 0.3, 40, 0.2
"""The share of the blocks of a class with the least structure, of which there are so many at least, and the
quantile of their energy that stands for the noise. On 17 photographs these had the least errors of many
choices: with noise of 5, 10 and 25/255 the rms error of the level is 13, 4.5 and 3.3 %, a part of which is
noise of their own. A tenth of all blocks, whatever their structure: 18, 7.4 and 3.9 %."""
COARSE = (2, 4)
"""Distances in pixels at which noise that neighbours share is seen better than at one."""
_CLIPPED = 0.02
"""Share of pixels at a limit up to which a block is used."""
_ROWS = 256
"""Rows that are filtered at a time."""
_PILED, _LEAST = 5.0, 2e-3
"""Values so many times as frequent as those beside them, in that share of all pixels, are no noise."""


class PictureTooSmall(ValueError):
    """The noise of a picture of so few pixels cannot be estimated."""


class NoNoise(ValueError):
    """There is no place in the picture that shows noise."""


@dataclass(frozen=True)
class Classes:
    """Classes of brightness.

    :ivar mean: brightness of their smooth blocks.
    :ivar variance: that of the noise there.
    :ivar blocks: how many they have.
    """

    mean: Plane
    variance: Plane
    blocks: Order


@dataclass(frozen=True)
class Blocks:
    """What the usable blocks of a plane say: mean brightness, structure, and high-pass energy at three
    distances."""

    mean: Plane
    structure: Plane
    energy: dict[int, Plane]
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
        places = (slice(_STRIDE, None, _STRIDE),) * 2
        # of large pictures every plane counts: none is kept that is not needed
        constant = _high_pass(plane, 1) == 0
        constant &= _mean(constant, 5) > 0.999
        lacking = _mean(constant)[places]
        shares = _mean(_piled(plane) | ~finite, _SIDE + 4)[places]
        inner = numpy.zeros(plane.shape, bool)
        inner[4:-4, 4:-4] = True
        there = inner[places] & (lacking < 0.25)
        if there.any():  # strong noise reaches the limits everywhere
            there &= shares <= max(_CLIPPED, min(float(numpy.quantile(shares[there], 0.2)), 0.2))
        if there.sum() < 4:
            raise NoNoise("the picture shows no noise that could be measured")
        mean = _mean(plane)[places][there]
        energy = {
            distance: _mean(_high_pass(plane, distance) ** 2)[places][there]
            for distance in (1, *COARSE)
        }
        structure = _mean(_gradient_energy(plane), _SIDE + 4)[places][there]
        return cls(mean, structure, energy, float(there.mean()))

    def classes(self, distance: int = 1, fewest: int = _MANY) -> Classes:
        """Of the brightness: of as many blocks each, those that cover too much of it are halved.

        :param fewest: blocks in each at least.
        """
        count = int(min(max(len(self.mean) // fewest, 1), _BINS))
        order = numpy.argsort(self.mean, kind="stable")
        width = _WIDE * float(numpy.ptp(self.mean))
        parts = [
            half
            for part in numpy.array_split(order, count)
            for half in self._halves(part, width, fewest)
        ]
        energy = self.energy[distance]
        scale = _white_quantile(distance)
        smooth = [part[numpy.argsort(self.structure[part], kind="stable")] for part in parts]
        smooth = [part[: max(int(_SMOOTH * len(part)), _FEWEST)] for part in smooth]
        variance = [float(numpy.quantile(energy[part], _CALM)) / scale for part in smooth]
        mean = [float(self.mean[part].mean()) for part in smooth]
        return Classes(
            numpy.array(mean), numpy.array(variance), numpy.array([len(part) for part in parts])
        )

    def _halves(self, part: Order, width: float, fewest: int) -> list[Order]:
        low, high = float(self.mean[part[0]]), float(self.mean[part[-1]])
        place = int(numpy.searchsorted(self.mean[part], (low + high) / 2))
        if high - low <= width or min(place, len(part) - place) < fewest:
            return [part]
        return [
            *self._halves(part[:place], width, fewest),
            *self._halves(part[place:], width, fewest),
        ]

    def variance(self, distance: int = 1) -> float:
        """That of the noise: of the class of the median block, in the order of the variances."""
        its = self.classes(distance)
        order = numpy.argsort(its.variance, kind="stable")
        until = its.blocks[order].cumsum()
        return float(its.variance[order[numpy.searchsorted(until, until[-1] / 2)]])

    def ratios(self, distance: int) -> Plane:
        """The levels at a distance over those at one pixel's, of every class."""
        fine, coarse = (self.classes(d).variance for d in (1, distance))
        return numpy.sqrt(coarse / fine.clip(1e-30))


def planes_of(pixels: Tensor) -> list[Plane]:
    """Of an image `(C, H, W)`, in float64."""
    return list(pixels.detach().cpu().double().numpy())


def at_a_limit(pixels: Tensor) -> Tensor:
    """Where a plane of `(C, H, W)` is saturated or black, `(H, W)`."""
    limited = [_piled(plane) for plane in planes_of(pixels)]
    return torch.from_numpy(numpy.logical_or.reduce(limited)).to(pixels.device)


def _high_pass(plane: Plane, distance: int) -> Plane:
    """Second differences along rows and columns, of unit gain for white noise; zero on the border."""
    result, d = numpy.zeros_like(plane), distance
    for first in range(d, len(plane) - d, _ROWS):  # the differences of all rows take several planes
        part = plane[first - d : min(first + _ROWS, len(plane) - d) + d]
        rows = part[2 * d :] - part[d:-d] - (part[d:-d] - part[: -2 * d])
        across = rows[:, 2 * d :] - rows[:, d:-d] - (rows[:, d:-d] - rows[:, : -2 * d])
        result[first : first + len(rows), d:-d] = across / 6
    return result


def _gradient_energy(plane: Plane) -> Plane:
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(plane, _BLUR)
    energy = numpy.asarray(numpy.gradient(smooth, axis=0))
    energy *= energy
    energy += numpy.asarray(numpy.gradient(smooth, axis=1)) ** 2
    return energy


def _mean(values: NDArray[Any], side: int = _SIDE) -> Plane:
    from scipy.ndimage import uniform_filter

    return uniform_filter(values, side, output=numpy.float64, mode="nearest")


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
