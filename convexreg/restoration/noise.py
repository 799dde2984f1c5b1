"""The noise of a picture as it is given, or as it is found in it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from convexreg.networks.colour import in_planes
from convexreg.pictures.blocks import NoNoise, at_a_limit
from convexreg.pictures.noise import NoiseEstimate, estimate_noise
from convexreg.pictures.noise_curve import estimate_noise_curve
from convexreg.pictures.photon_noise import estimate_photon_noise
from convexreg.reconstruction.colour_noise import ColourNoise

_DIFFER = 2.0
"""Levels of luminance and colour differences this far apart are two: of white noise of 4 to 25/255 on twelve
photographs, some of them all texture, those that `_AGREE` were at most 1.4 times each other."""
_AGREE = 1.12
"""Root of the mean variance of the planes over that of the channels where both are noise."""
_APART = 12.0
"""The weaker one is taken to be that much weaker at most, so that a model's range reaches both."""


@dataclass(frozen=True)
class PictureNoise:
    """Of variance `level^2`, or `gain x + floor` at brightness `x`.

    :ivar level: standard deviation, one number or one per pixel `(C or 1, H, W)`; zero beside a `gain`.
    :ivar gain: of photon noise, zero where there is none.
    :ivar floor: variance at zero brightness, negative where black is above zero.
    :ivar estimate: what was estimated, if it was.
    :ivar notes: what has to be known, one sentence each.
    :ivar colour: levels of luminance and colour differences, where they are known; `level` is that of both.
    """

    level: Tensor | float
    gain: float = 0.0
    floor: float = 0.0
    estimate: NoiseEstimate | None = None
    notes: tuple[str, ...] = ()
    colour: ColourNoise | None = None

    @property
    def rms(self) -> float:
        """Of the level."""
        return float(torch.as_tensor(self.level).double().square().mean().sqrt())


def noise_of(
    pixels: Tensor,
    sigma: Tensor | ColourNoise | float | None,
    gain: float | Literal["auto"] | None = None,
    *,
    of_planes: bool = False,
    through_operator: bool = False,
) -> PictureNoise:
    """What is known of the noise of a picture, the rest estimated.

    Without a number it is noise of one level, unless it clearly grows or falls with the brightness
    (`Fit.evident`).

    :param pixels: `(C, H, W)`, floating point, in any unit.
    :param sigma: standard deviation in that unit, one number or one per pixel; beside a `gain` that at zero
        brightness.
    :param gain: see `PictureNoise`, or `"auto"` to estimate it and `sigma`; zero for noise of one level.
    :param of_planes: whether luminance and colour differences may have levels of their own.
    :param through_operator: whether the picture is what an operator has made blurred or small.
    :raises ValueError: numbers that make no sense.
    """
    if gain == "auto":
        if sigma is not None:
            raise ValueError('gain="auto" estimates sigma as well; give both of them or neither')
        found = estimate_photon_noise(pixels)
        if found.gain == 0:
            return PictureNoise(max(found.floor, 0.0) ** 0.5)
        return _of_photons(found.gain, found.floor)
    if gain:
        if isinstance(sigma, (Tensor, ColourNoise)):
            raise ValueError("a gain goes with one sigma, not with several")
        if isinstance(gain, str) or not 0 < gain < float("inf"):
            raise ValueError(f'gain must be a positive number or "auto", got {gain!r}')
        return _of_photons(gain, float(sigma or 0.0) ** 2)
    if sigma is None:
        return _estimated(pixels, gain is None, of_planes, through_operator)
    if isinstance(sigma, ColourNoise):
        return PictureNoise(sigma.level, colour=sigma)
    if not bool((torch.as_tensor(sigma) > 0).all()):
        raise ValueError(f"sigma must be positive, got {torch.as_tensor(sigma).min().item():g}")
    return PictureNoise(sigma)


def _of_photons(gain: float, floor: float) -> PictureNoise:
    read_out = max(floor, 0.0) ** 0.5
    note = f"photon noise of gain {gain:.4g} and read-out noise {read_out:.4g}"
    return PictureNoise(0.0, gain, floor, notes=(note,))


def _estimated(
    pixels: Tensor, may_vary: bool, of_planes: bool, through_operator: bool
) -> PictureNoise:
    try:
        noise = estimate_noise(pixels)
    except NoNoise:
        return PictureNoise(0.0)
    level = noise.advised_for_operators if through_operator else noise.advised
    doubts = (_doubt(noise, level),) if level > noise.sigma else ()
    varying = _varying(pixels, noise) if may_vary else None
    if varying is not None:
        return replace(varying, estimate=noise, notes=(*doubts, *varying.notes))
    colour = _of_colour(pixels, noise) if of_planes and len(pixels) == 3 and not doubts else None
    if colour is not None:
        said = f"noise of the luminance {colour.luminance:.3g}, of the colour {colour.chroma:.3g}"
        return PictureNoise(colour.level, estimate=noise, notes=(said,), colour=colour)
    return PictureNoise(level, estimate=noise, notes=doubts)


def _of_colour(pixels: Tensor, noise: NoiseEstimate) -> ColourNoise | None:
    """Noise that is clearly stronger in the luminance, or in the colour differences.

    Texture looks like noise of the luminance; unlike noise it is not as strong wherever one looks, and then
    the levels of the three channels and those of the planes contradict each other.
    """
    planes = in_planes(pixels[None].double())[0]
    planes[:, at_a_limit(pixels)] = float("nan")
    try:
        luminance, *others = estimate_noise(planes).levels
    except NoNoise:
        return None
    chroma = (sum(level**2 for level in others) / 2) ** 0.5
    found = ColourNoise(max(luminance, chroma / _APART), max(chroma, luminance / _APART))
    share = found.level / noise.sigma
    if not 1 / _AGREE <= share <= _AGREE or 1 / _DIFFER <= luminance / chroma <= _DIFFER:
        return None
    return found


def _varying(pixels: Tensor, noise: NoiseEstimate) -> PictureNoise | None:
    """Noise that clearly grows or falls with the brightness.

    Where neighbours share it the variance of photon noise is no longer that of counts.
    """
    with suppress(NoNoise):
        photons = estimate_photon_noise(pixels)
        if photons.fit.evident and noise.white:
            found = _of_photons(photons.gain, photons.floor)
            said = f"the noise grows with the brightness, it is taken for {found.notes[0]}"
            return replace(found, notes=(said,))
    with suppress(NoNoise):
        curve = estimate_noise_curve(pixels)
        if curve.fit.evident:
            levels = curve.levels(pixels) * (noise.advised / noise.sigma)
            low, high = float(levels.min()), float(levels.max())
            said = f"the noise is weaker where it is brighter, from {high:.3g} to {low:.3g}"
            return PictureNoise(levels, notes=(said,))
    return None


def _doubt(noise: NoiseEstimate, level: float) -> str:
    return (
        "neighbouring pixels share their noise, as in JPEG, enlarged or smoothed pictures: differences "
        f"between them say {noise.sigma:.3g}, those over four pixels {max(noise.coarse):.3g}; "
        f"{level:.3g} is taken, give sigma if too much or too little is removed"
    )
