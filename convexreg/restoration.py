"""Pictures denoised and deblurred: their noise estimated, their scale chosen, arrays in, arrays out.

The command line and `convexreg.denoise`, `convexreg.deblur` do the same: each picture goes through
`denoised` or `deblurred`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy
import torch
from torch import Tensor

from convexreg.models.files import DEFAULT_MODEL
from convexreg.pictures.layout import ChannelAxis, Layout
from convexreg.pictures.noise import NoiseEstimate, NoNoise, estimate_noise, estimate_photon_noise
from convexreg.reconstruction.defaults import Accuracy
from convexreg.reconstruction.from_measurements import reconstruct
from convexreg.reconstruction.result import Reconstruction

Image = TypeVar("Image", numpy.ndarray, Tensor)

_USUAL = (0.25, 2.0)
"""Pictures whose brightest pixels are in between are taken as they are; others are scaled to one."""
_BRIGHTEST = 0.999
_ROUNDING, _NOTHING = 0.35, 1e-4
"""Noise below that share of a step between two stored numbers (whose rounding alone is 0.29), or of the
brightest pixels, is next to nothing."""


@dataclass(frozen=True)
class Restoration:
    """A restored picture.

    :ivar image: `(C, H, W)`, in the unit of what was given.
    :ivar sigma: standard deviation of the noise in that unit; where it varies the root of the mean square.
    :ivar noise: what was estimated of it, if it was.
    :ivar result: the reconstruction of the picture times `scale`, with its certificate; `None` where the
        noise is next to nothing, and the image a copy.
    :ivar notes: what has to be known, one sentence each.
    """

    image: Tensor
    sigma: float
    noise: NoiseEstimate | None = None
    result: Reconstruction | None = None
    scale: float = 1.0
    notes: tuple[str, ...] = ()


def denoise(
    image: Image,
    sigma: Any = None,
    *,
    gain: float | Literal["auto"] | None = None,
    white: float | None = None,
    model: Any = DEFAULT_MODEL,
    accuracy: Accuracy = "default",
    channel_axis: ChannelAxis = "auto",
) -> Image:
    """Remove the noise of a picture or a stack of pictures; the result is of the same kind.

    :param image: a NumPy array `(H, W)`, `(H, W, C)`, or a stack `(N, H, W)`, `(N, H, W, C)` (a last axis of
        at most four is channels), or a tensor `(H, W)`, `(C, H, W)`, `(B, C, H, W)`; integers or floats.
        Three channels are colour, two and more than three are bands, each a gray picture of its own.
    :param sigma: standard deviation of the noise; estimated for each picture by default. As on the command
        line it is a fraction of white for integers of 8 and 16 bits (25/255), else in the unit of the
        pixels. One number, one per picture of a stack, or one per pixel, `(H, W)` or in the image's shape.
    :param gain: of photon noise, whose variance at brightness `x` is `gain x + sigma^2` (`sigma` is zero by
        default then), or `"auto"` to estimate both.
    :param white: what stands for white; `sigma` and `gain` are of the picture divided by it.
    :param model: see `reconstruct`.
    :param accuracy: see `reconstruct`.
    :param channel_axis: where the channels are, `None` where there are none.
    :raises ValueError: pixels or numbers that make no sense, or noise that cannot be estimated.
    :raises TypeError: neither an array nor a tensor of numbers.
    """

    def one(pixels: Tensor, level: Any, step: float) -> Restoration:
        return denoised(pixels, level, gain=gain, step=step, regularizer=model, accuracy=accuracy)

    return _each(image, sigma, white, channel_axis, one)


def deblur(
    image: Image,
    kernel: Any,
    sigma: Any = None,
    *,
    lam: float | Literal["auto", "discrepancy", "sure"] = "auto",
    boundary: Literal["valid", "circular", "replicate", "reflect"] = "valid",
    white: float | None = None,
    model: Any = DEFAULT_MODEL,
    accuracy: Accuracy = "default",
    channel_axis: ChannelAxis = "auto",
) -> Image:
    """Undo a known blur of a picture or a stack of pictures; the result is of the same kind.

    :param image, sigma, white, model, accuracy, channel_axis: see `denoise`.
    :param kernel: what a point of light becomes, `(k, k)` of odd size, array or tensor; it is normalised.
    :param lam: weight of the regularizer, see `reconstruct`.
    :param boundary: what the scene does beyond the picture; by default nothing is known of it.
    :raises ValueError: see `denoise`; or a kernel that is none.
    """
    blur = torch.as_tensor(numpy.asarray(kernel) if not isinstance(kernel, Tensor) else kernel)
    blur = blur.detach().to(torch.float64)
    if blur.ndim != 2 or not bool(blur.isfinite().all()) or float(blur.sum()) <= 0:
        raise ValueError(
            f"the kernel must be a finite array (k, k) with a positive sum, got {tuple(blur.shape)} with sum "
            f"{float(blur.sum()):g}"
        )
    if blur.shape[0] % 2 == 0 or blur.shape[1] % 2 == 0:
        raise ValueError(
            f"the kernel is {blur.shape[0]} x {blur.shape[1]}; its sides must be odd so that it has a centre"
        )
    weights = (blur / blur.sum()).float()[None, None]

    def one(pixels: Tensor, level: Any, step: float) -> Restoration:
        return deblurred(
            pixels, weights, level, boundary=boundary, lam=lam, regularizer=model, accuracy=accuracy
        )

    return _each(image, sigma, white, channel_axis, one)


def denoised(
    pixels: Tensor,
    sigma: Tensor | float | None = None,
    *,
    gain: float | Literal["auto"] | None = None,
    step: float = 0.0,
    **options: Any,
) -> Restoration:
    """One picture without its noise.

    :param pixels: `(C, H, W)`, floating point, in any unit.
    :param sigma: standard deviation of the noise in that unit, a number or one per pixel; estimated by
        default.
    :param gain: see `denoise`.
    :param step: between two numbers that are stored, zero for floats.
    :param options: of `reconstruct`.
    """
    import deepinv

    if gain is not None:
        return _without_photon_noise(pixels, sigma, gain, **options)
    level, noise, notes = _level(pixels, sigma)
    rms, brightest = _rms(level), _brightest(pixels)
    if rms < max(_ROUNDING * step, _NOTHING * brightest):
        notes = (*notes, f"the noise ({rms:.2g}) is next to nothing, the picture is copied")
        return Restoration(pixels, rms, noise, None, 1.0, notes)
    scale = _scale(brightest, rms)
    result = reconstruct(
        scale * pixels[None],
        deepinv.physics.Denoising(),
        sigma=_of_images(scale * level, pixels),
        **options,
    )
    return Restoration(result.image[0] / scale, rms, noise, result, scale, notes)


def _without_photon_noise(
    pixels: Tensor, sigma: Any, gain: float | Literal["auto"], **options: Any
) -> Restoration:
    """Of variance `gain x + sigma^2`, which is also `gain (x - black) + rest` where it is zero at black."""
    from deepinv.physics import Denoising, PoissonGaussianNoise

    if gain == "auto":
        if sigma is not None:
            raise ValueError('gain="auto" estimates sigma as well; give both of them or neither')
        gain, floor = estimate_photon_noise(pixels)
        if gain == 0:
            return denoised(pixels, max(floor, 0.0) ** 0.5, **options)
    else:
        floor = float(sigma or 0.0) ** 2
        if not 0 < gain < float("inf"):
            raise ValueError(f'gain must be a positive number or "auto", got {gain!r}')
    scale = _scale(_brightest(pixels), 0.0)
    black, rest = max(-floor / gain, 0.0), max(floor, 0.0)
    physics = Denoising(PoissonGaussianNoise(gain=scale * gain, sigma=scale * rest**0.5))
    physics = physics.to(pixels.device)
    result = reconstruct(scale * (pixels[None] - black), physics, **options)
    image = result.image[0] / scale + black
    notes = (f"photon noise of gain {gain:.4g} and read-out noise {rest**0.5:.4g}",)
    return Restoration(image, float(result.sigma[0]) / scale, None, result, scale, notes)


def deblurred(
    pixels: Tensor,
    kernel: Tensor,
    sigma: Tensor | float | None = None,
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
    sigma: Tensor | float | None = None,
    *,
    x0: Tensor | None = None,
    **options: Any,
) -> Restoration:
    """What a linear operator shows as one picture.

    :param pixels, sigma: see `denoised`.
    :param physics: linear, of deepinv, of one image.
    :param x0: starting image `(C, H, W)` in the unit of the pixels instead of the usual one.
    """
    level, noise, notes = _level(pixels, sigma)
    # an estimate of nothing is rounding at least
    level = level if sigma is not None else max(level, _NOTHING * _brightest(pixels))
    scale = _scale(_brightest(pixels), _rms(level))
    result = reconstruct(
        scale * pixels[None],
        physics,
        sigma=_of_images(scale * level, pixels),
        x0=None if x0 is None else scale * x0[None],
        **options,
    )
    return Restoration(result.image[0] / scale, _rms(level), noise, result, scale, notes)


def _rms(level: Tensor | float) -> float:
    return float(torch.as_tensor(level).double().square().mean().sqrt())


def _of_images(level: Any, pixels: Tensor) -> Any:
    """One number, or one for every pixel of a batch of one."""
    return level.to(pixels).expand_as(pixels)[None] if isinstance(level, Tensor) else level


def _level(
    pixels: Tensor, sigma: Tensor | float | None
) -> tuple[Any, NoiseEstimate | None, tuple[str, ...]]:
    """The noise level as it is given, or estimated; with what there is to say about it."""
    if sigma is not None:
        if not bool((torch.as_tensor(sigma) > 0).all()):
            raise ValueError(f"sigma must be positive, got {torch.as_tensor(sigma).min().item():g}")
        return sigma, None, ()
    try:
        noise = estimate_noise(pixels)
    except NoNoise:
        return 0.0, None, ()
    if noise.white:
        return noise.sigma, noise, ()
    doubt = (
        f"the noise level is doubtful: differences of neighbouring pixels say {noise.sigma:.3g}, those over "
        f"two pixels {max(noise.coarse):.3g}, as in JPEG, enlarged or smoothed pictures, or where all is "
        f"texture; {noise.advised:.3g} is taken, give sigma if too much or too little is removed"
    )
    return noise.advised, noise, (doubt,)


def _brightest(pixels: Tensor) -> float:
    """What all but a few pixels stay below."""
    flat = pixels.detach().abs().flatten().double().cpu().numpy()
    return float(numpy.quantile(flat, _BRIGHTEST)) or float(flat.max()) or 1.0


def _scale(brightest: float, level: float) -> float:
    """What takes the picture to [0, 1], where it is far from that; one where noise that strong cannot be."""
    low, high = _USUAL
    return 1.0 if low <= brightest <= high or level > brightest else 1 / brightest


def _each(
    image: Any,
    sigma: Any,
    white: float | None,
    channel_axis: ChannelAxis,
    restore: Callable[[Tensor, Any, float], Restoration],
) -> Any:
    """Every picture of an array or tensor restored, in the same layout; notes are warnings.

    Colour whose channels are the same is restored as gray.
    """
    layout = Layout.of(image, white=white, channel_axis=channel_axis)
    pictures = layout.pictures(image)
    found = []
    for picture, level in zip(pictures, layout.levels(sigma), strict=True):
        of_planes = isinstance(level, Tensor) and len(level) > 1
        gray = not of_planes and torch.equal(picture[:1].expand_as(picture), picture)
        restored = restore(picture[:1] if gray else picture, level, layout.step)
        for note in restored.notes:
            if restored.result is None or restored.noise is not None:
                warnings.warn(note, stacklevel=3)
        found.append(restored.image.expand_as(picture))
    return layout.back(torch.stack(found))
