"""`convexreg.denoise` and `convexreg.deblur`: arrays and tensors in, the same kind out.

They do what the command line does: each picture goes through `restoration.picture`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import numpy
import torch
from torch import Tensor

from convexreg.models.files import DEFAULT_MODEL
from convexreg.pictures.kernels import Kernel, channels_first, kernel_of
from convexreg.pictures.layout import ChannelAxis, Layout
from convexreg.reconstruction.defaults import Accuracy
from convexreg.restoration.picture import deblurred, denoised
from convexreg.restoration.result import Restoration

Image = TypeVar("Image", numpy.ndarray, Tensor)


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
        default then), or `"auto"` to estimate both. By default noise that clearly grows with the brightness
        is recognised (`pictures.photon_noise`); zero takes it for noise of one level.
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
    :param kernel: what a point of light becomes, `(k, k)`, or one for each colour, an array `(k, k, 3)` or a
        tensor `(3, k, k)`. It is normalised, a background is subtracted; the centre of even sides is at
        `k // 2`, see `pictures.kernels.kernel_of`.
    :param lam: weight of the regularizer, see `reconstruct`.
    :param boundary: what the scene does beyond the picture; by default nothing is known of it.
    :raises ValueError: see `denoise`; or a kernel that is none.
    """
    blur = _kernel(kernel)
    for remark in blur.remarks:
        warnings.warn(remark, stacklevel=2)
    channels = blur.filter.shape[1]

    def one(pixels: Tensor, level: Any, step: float) -> Restoration:
        if channels not in (1, len(pixels)):
            raise ValueError(
                f"the kernel has {channels} channels and the picture {len(pixels)}; give one kernel for all "
                "channels, or one for each"
            )
        return deblurred(
            pixels,
            blur.filter,
            level,
            boundary=boundary,
            lam=lam,
            regularizer=model,
            accuracy=accuracy,
        )

    return _each(image, sigma, white, channel_axis, one, equal_is_gray=channels == 1)


def _kernel(kernel: Any) -> Kernel:
    if isinstance(kernel, Tensor):
        return kernel_of(kernel.detach().cpu().numpy())
    return kernel_of(channels_first(numpy.asarray(kernel)))


def _each(
    image: Any,
    sigma: Any,
    white: float | None,
    channel_axis: ChannelAxis,
    restore: Callable[[Tensor, Any, float], Restoration],
    *,
    equal_is_gray: bool = True,
) -> Any:
    """Every picture of an array or tensor restored, in the same layout; notes are warnings.

    :param equal_is_gray: restore one channel of colour whose channels are the same.
    """
    layout = Layout.of(image, white=white, channel_axis=channel_axis)
    pictures = layout.pictures(image)
    found = []
    for picture, level in zip(pictures, layout.levels(sigma), strict=True):
        of_planes = isinstance(level, Tensor) and len(level) > 1
        gray = (
            equal_is_gray and not of_planes and torch.equal(picture[:1].expand_as(picture), picture)
        )
        restored = restore(picture[:1] if gray else picture, level, layout.step)
        for note in restored.notes:
            if restored.result is None or restored.noise.estimate is not None:
                warnings.warn(note, stacklevel=3)
        found.append(restored.image.expand_as(picture))
    return layout.back(torch.stack(found))
