"""One picture restored, in any unit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy
import torch
from torch import Tensor

from convexreg.models.files import DEFAULT_MODEL, regularizer_of
from convexreg.reconstruction.colour_noise import ColourNoise
from convexreg.reconstruction.from_measurements import reconstruct
from convexreg.restoration.noise import PictureNoise, noise_of
from convexreg.restoration.result import Restoration

_USUAL = (0.25, 2.0)
"""Pictures whose brightest pixels are in between are taken as they are; others are scaled to one."""
_BRIGHTEST = 0.999
_ROUNDING, _NOTHING = 0.35, 1e-4
"""Noise below that share of a step between two stored numbers (whose rounding alone is 0.29), or of the
brightest pixels, is next to nothing."""


def denoised(
    pixels: Tensor,
    sigma: Tensor | ColourNoise | float | None = None,
    *,
    gain: float | Literal["auto"] | None = None,
    step: float = 0.0,
    **options: Any,
) -> Restoration:
    """One picture without its noise.

    :param pixels: `(C, H, W)`, floating point, in any unit.
    :param sigma, gain: see `noise_of`.
    :param step: between two numbers that are stored, zero for floats.
    :param options: of `reconstruct`.
    """
    import deepinv

    options["regularizer"] = model = regularizer_of(options.get("regularizer", DEFAULT_MODEL))
    noise = noise_of(pixels, sigma, gain, of_planes=ColourNoise.suits(model))
    physics = deepinv.physics.Denoising()
    if noise.gain > 0:
        return _solved(pixels, physics, noise, **options)
    if noise.rms < max(_ROUNDING * step, _NOTHING * _brightest(pixels)):
        return Restoration(pixels, noise)
    return _solved(pixels, physics, noise, **options)


def deblurred(
    pixels: Tensor,
    kernel: Tensor,
    sigma: Tensor | ColourNoise | float | None = None,
    *,
    boundary: str = "valid",
    **options: Any,
) -> Restoration:
    """One picture without a known blur, at the size of the picture.

    :param pixels, sigma: see `denoised`.
    :param kernel: `(1, 1 or C, k, k)` of odd sides that sums to one.
    :param boundary: padding of deepinv's `Blur`.
    :raises ValueError: a kernel larger than the picture.
    """
    import deepinv

    if any(k > n for k, n in zip(kernel.shape[-2:], pixels.shape[-2:], strict=True)):
        raise ValueError(
            f"the kernel, {kernel.shape[-2]} x {kernel.shape[-1]}, is larger than the photograph, "
            f"{pixels.shape[-2]} x {pixels.shape[-1]}"
        )
    physics = deepinv.physics.Blur(kernel, padding=boundary, device=pixels.device)
    if boundary != "valid":
        return reconstructed(pixels, physics, sigma, x0=pixels, **options)
    rows, columns = kernel.shape[-2] // 2, kernel.shape[-1] // 2
    start = torch.nn.functional.pad(pixels, (columns, columns, rows, rows), mode="replicate")
    restored = reconstructed(pixels, physics, sigma, x0=start, **options)
    return replace(
        restored, image=restored.image[:, rows : -rows or None, columns : -columns or None]
    )


def reconstructed(
    pixels: Tensor,
    physics: Any,
    sigma: Tensor | ColourNoise | float | None = None,
    *,
    x0: Tensor | None = None,
    shown: Tensor | None = None,
    **options: Any,
) -> Restoration:
    """What a linear operator shows as one picture.

    :param pixels, sigma: see `denoised`; noise that is estimated is of one level.
    :param physics: linear, of deepinv, of one image.
    :param x0: starting image `(C, H, W)` in the unit of the pixels instead of the usual one.
    :param shown: what the noise is estimated from instead of the pixels, NaN where they show none.
    """
    noise = noise_of(pixels if shown is None else shown, sigma, gain=0, through_operator=True)
    if sigma is None:  # an estimate of nothing is rounding at least
        noise = replace(noise, level=max(noise.rms, _NOTHING * _brightest(pixels)))
    return _solved(pixels, physics, noise, x0=x0, **options)


def _solved(
    pixels: Tensor, physics: Any, noise: PictureNoise, *, x0: Tensor | None = None, **options: Any
) -> Restoration:
    """Scaled to the range of the models and back.

    Noise of variance `gain x + floor` is also `gain (x - black)` where it is zero at black.
    """
    from deepinv.physics import PoissonGaussianNoise

    scale, black, sigma = _scale(_brightest(pixels), noise.rms), 0.0, None
    if noise.gain > 0:
        black, read_out = max(-noise.floor / noise.gain, 0.0), max(noise.floor, 0.0) ** 0.5
        physics.noise_model = PoissonGaussianNoise(
            gain=scale * noise.gain, sigma=scale * read_out
        ).to(pixels.device)
    elif noise.colour is not None:
        sigma = ColourNoise(scale * noise.colour.luminance, scale * noise.colour.chroma)
    elif isinstance(noise.level, Tensor):
        sigma = scale * noise.level.to(pixels).expand_as(pixels)[None]
    else:
        sigma = scale * noise.level
    result = reconstruct(
        scale * (pixels[None] - black),
        physics,
        sigma=sigma,
        x0=None if x0 is None else scale * (x0[None] - black),
        **options,
    )
    return Restoration(result.image[0] / scale + black, noise, result, scale)


def _brightest(pixels: Tensor) -> float:
    """What all but a few pixels stay below."""
    flat = pixels.detach().abs().flatten().double().cpu().numpy()
    return float(numpy.quantile(flat, _BRIGHTEST)) or float(flat.max()) or 1.0


def _scale(brightest: float, level: float) -> float:
    """What takes the picture to [0, 1], where it is far from that; one where noise that strong cannot be."""
    low, high = _USUAL
    return 1.0 if low <= brightest <= high or level > brightest else 1 / brightest
