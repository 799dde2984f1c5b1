"""The noise of measurements: one level for an image, or one for every measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from convexreg.adaptive import GivenInTurn, GivenInWindows
from convexreg.reconstruction.checks import check_positive
from convexreg.regularizer import Regularizer
from convexreg.solvers.batch import per_image
from convexreg.solvers.data_terms import DataTerm, WeightedLeastSquares
from convexreg.solvers.deepinv_rules import noise_level, noise_variance

_STRENGTH = 0.25
"""The regularizer is weighted by this power of the data's weights: it is made for one level, and where the
noise is weaker `R(x; sigma) / sigma^2` grows. On five photographs with noise four times as strong on one half
the powers 0, 1/4, 0.4 and 1/2 gave 26.42, 26.96, 27.09 and 27.07 dB (both halves apart: 27.07), with photon
noise (gain 0.05) 24.85, 24.80, 24.67 and 24.54."""
_ESTIMATES = 2
"""Rough reconstructions that say how strong noise is that depends on the image: what one leaves of it where
the image is bright shows in its variances."""
_DARK = 0.04
"""Photons that are added to the mean, so that where a reconstruction has none there is a variance."""


@dataclass(frozen=True)
class Noise:
    """Standard deviations of the noise.

    :ivar level: of every image, `(B,)` in float64: where it varies the root of the mean of the variances.
    :ivar levels: of every measurement, in the shape of the measurements, where it varies.
    """

    level: Tensor
    levels: Tensor | None = None

    def weighted(self, data: DataTerm) -> DataTerm:
        """`sum_i w_i (A x - y)_i^2 / 2` with `w_i = level^2 / levels_i^2`, where the noise varies."""
        weights = self._weights()
        if weights is None:
            return data
        return WeightedLeastSquares(data.operator, data.y, data.bounds, weights=weights)

    def adjusted(self, regularizer: Any, x: Tensor) -> Any:
        """The regularizer of images like `x`, stronger where the noise is weaker, if it is one of ours and
        there is a measurement at every pixel."""
        weights = self._weights()
        if weights is None or weights.ndim != 4:
            return regularizer
        if isinstance(regularizer, (GivenInTurn, GivenInWindows)):
            regularizer = regularizer.whole
        if not isinstance(regularizer, Regularizer):
            return regularizer
        if weights.shape[0] != x.shape[0] or weights.shape[2:] != x.shape[2:]:
            return regularizer
        regularizer = regularizer.of(x.shape[1])
        field = weights.mean(1, keepdim=True) ** _STRENGTH
        field = field.expand(-1, regularizer.network.terms, -1, -1)
        if x.shape[1] != regularizer.in_channels:
            field = field.repeat_interleave(x.shape[1], 0)
        return regularizer.with_weights(field, channels=x.shape[1])

    def _weights(self) -> Tensor | None:
        if self.levels is None:
            return None
        return per_image(self.level.square().to(self.levels), self.levels) / self.levels.square()


@torch.no_grad()
def measurement_noise(sigma: Tensor | float | None, physics: Any, y: Tensor) -> Noise:
    """The noise as it is given, or as the physics' noise model says.

    Of photon noise it is one level, from the measurements themselves; see `photon_noise`.

    :raises ValueError: not given and not said, or not positive and finite.
    """
    if sigma is None:
        sigma = noise_level(physics)
    if sigma is None:
        variance = noise_variance(physics, y)
        if variance is None:
            raise ValueError(_unsaid(physics))
        sigma = _overall(variance, y).sqrt()
    if isinstance(sigma, Tensor) and sigma.ndim > 1 and sigma.numel() not in (1, y.shape[0]):
        return _varying(sigma, y)
    return Noise(check_positive("sigma", sigma, y, allow_zero=False))


def depends_on_the_image(physics: Any, y: Tensor) -> bool:
    """Whether it is the physics' noise model that says so."""
    return noise_level(physics) is None and noise_variance(physics, y) is not None


def estimated_photon_noise(
    physics: Any, y: Tensor, noise: Noise, rough: Callable[[Tensor], Tensor]
) -> Noise:
    """The noise of the physics' noise model, from rough reconstructions with what is known before each.

    :param noise: what is known at first.
    :param rough: a reconstruction from noise levels as `reconstruct` takes them.
    """
    for _ in range(_ESTIMATES):
        noise = photon_noise(
            physics, rough(noise.level if noise.levels is None else noise.levels), y
        )
    return noise


@torch.no_grad()
def photon_noise(physics: Any, image: Tensor, y: Tensor) -> Noise:
    """The noise of the physics' noise model, of variance `gain A x + sigma^2`, for a reconstruction `x`."""
    variance = noise_variance(physics, physics.A(image), _DARK)
    assert variance is not None
    return _varying(variance.sqrt(), y)


def _unsaid(physics: Any) -> str:
    model = getattr(physics, "noise_model", None)
    has = "no noise model" if model is None else f"{type(model).__name__} as its noise model"
    return (
        "give sigma, the standard deviation of the noise (one number, one per image, or one per "
        f"measurement): the physics has {has}, and known are those of GaussianNoise, PoissonNoise "
        "(normalized) and PoissonGaussianNoise"
    )


def _varying(sigma: Tensor, y: Tensor) -> Noise:
    try:
        levels = torch.broadcast_to(sigma.detach().to(y), y.shape)
    except RuntimeError as error:
        raise ValueError(
            f"sigma must be one number, one per image ({y.shape[0]}), or one per measurement, in the shape "
            f"{tuple(y.shape)}; got {tuple(sigma.shape)}"
        ) from error
    if not bool(((levels > 0) & levels.isfinite()).all()):
        raise ValueError(
            f"sigma must be positive and finite at every pixel, got {levels.min().item():g} to "
            f"{levels.max().item():g}; where nothing was measured mask the physics"
        )
    level = _overall(levels.double().square(), y).sqrt()
    flat = levels.flatten(1)
    return Noise(level) if bool((flat == flat[:, :1]).all()) else Noise(level, levels)


def _overall(variance: Tensor, y: Tensor) -> Tensor:
    """The mean of every image, `(B,)` in float64; zeros are taken for places without a measurement."""
    there = (y != 0).double()
    there = torch.where(per_image(there.flatten(1).sum(1) > 0, y), there, 1.0)
    return (there * variance).flatten(1).sum(1) / there.flatten(1).sum(1)
