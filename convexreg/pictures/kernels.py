"""Blur kernels: from files, as they are measured or computed, and by a number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from torch import Tensor

from convexreg.pictures.arrays import mapped
from convexreg.pictures.photograph import ImageError

_ROUNDING = 1e-5
"""Of the largest entry: what an inverse FFT in single precision leaves where there is nothing."""
_LARGEST = 200.0
"""Pixels of a blur that is computed: the kernels of larger ones take minutes, and all memory in the end."""
_POINTS = 4096
"""Of a motion that are looked at together."""
_LEAST_MEASURED = 9
"""Sides of a kernel that may be a picture with a background; smaller ones are written by hand."""


@dataclass(frozen=True)
class Kernel:
    """A blur kernel of odd size, each channel with sum one.

    :ivar filter: `(1, C, k, k)`, one kernel for all channels of a picture or one for each.
    :ivar remarks: what was assumed of it, one sentence each.
    :ivar sums: of every channel, before they were divided by them.
    """

    filter: Tensor
    remarks: tuple[str, ...] = ()
    sums: tuple[float, ...] = (1.0,)

    @property
    def said(self) -> tuple[str, ...]:
        """The remarks, and that it was normalised if it was."""
        if max(abs(total - 1) for total in self.sums) <= 1e-5:
            return self.remarks
        sums = " / ".join(f"{total:.6g}" for total in self.sums)
        return (f"the kernel sums to {sums}; normalised to one", *self.remarks)


def read_kernel(path: Path) -> Kernel:
    """A kernel from an image or NPY file, of any type of numbers; see `kernel_of`.

    :raises ImageError: unreadable, or no kernel.
    """
    if path.suffix.lower() != ".npy" or not path.is_file():
        from convexreg.pictures.files import PictureFile  # loads decoders that arrays do not need

        with PictureFile(path) as file:
            if len(file) > 1:
                raise ImageError(f"the kernel {path} has {file.describe()}; save the one to use")
            return kernel_of(file.numbers(1), f"the kernel {path}")
    try:
        array = mapped(path)
    except (ValueError, EOFError, OSError) as error:
        raise ImageError(f"{path} cannot be read; it is damaged ({error})") from error
    return kernel_of(channels_first(array), f"the kernel {path}")


def kernel_of(array: numpy.ndarray, name: str = "the kernel") -> Kernel:
    """A kernel from numbers, `(k, k)`, or one for each colour, `(3, k, k)`.

    A background that lies under the whole kernel, as in a picture of a point of light, is subtracted.
    Entries of rounding size below zero become zero. Even sides get a row or column of zeros at the end,
    which makes the middle the entry that `numpy.fft.fftshift` takes for it.

    :param array: of any real type; batches of one are taken as well, as PyTorch has them.
    :param name: what messages call it.
    :raises ImageError: of another shape or type, not finite, negative or zero.
    """
    array, remarks = _checked(array, name), []
    if not numpy.isfinite(array).all():
        raise ImageError(f"{name} holds NaN or infinite entries; replace them first")
    if array.max() <= 0 and array.min() >= 0:
        raise ImageError(f"{name} sums to zero; it would remove the image")
    if (array == array[:1]).all():
        array = array[:1]
    planes = []
    for plane in array:
        cleaned, remark = _without_background(plane)
        remarks += [remark] if remark and remark not in remarks else []
        if cleaned.min() < -_ROUNDING * cleaned.max():
            raise ImageError(
                f"{name} has negative entries, down to {cleaned.min():.3g} where the largest is "
                f"{cleaned.max():.3g}; a blur has none: subtract its background and set what is left of "
                "the noise to zero"
            )
        planes.append(cleaned.clip(0))
    array = numpy.stack(planes)
    totals = array.sum((1, 2))
    if totals.min() <= 0:
        raise ImageError(f"{name} sums to zero; it would remove the image")
    height, width = array.shape[1:]
    if height % 2 == 0 or width % 2 == 0:
        remarks.append(
            f"the kernel is {height} x {width}; its centre is taken at row {height // 2}, column "
            f"{width // 2}, counted from zero, as fftshift has it"
        )
        array = numpy.pad(array, ((0, 0), (0, 1 - height % 2), (0, 1 - width % 2)))
    normalised = torch.from_numpy(array / totals[:, None, None]).float().unsqueeze(0)
    return Kernel(normalised, tuple(remarks), tuple(totals.tolist()))


def channels_first(array: numpy.ndarray) -> numpy.ndarray:
    """`(k, k, 3)` as `(3, k, k)`, others as they are."""
    last = array.ndim == 3 and array.shape[0] != 1 and array.shape[-1] in (1, 3)
    return numpy.moveaxis(array, -1, 0) if last else array


def _checked(array: numpy.ndarray, name: str) -> numpy.ndarray:
    """`(C, H, W)` in float64."""
    shape = array.shape
    while array.ndim > 3 and array.shape[0] == 1:  # (1, 1, k, k) of PyTorch
        array = array[0]
    array = array[None] if array.ndim == 2 else array
    if 0 in shape:
        raise ImageError(f"{name} has shape {shape}; it is empty")
    if array.ndim != 3 or array.shape[0] not in (1, 3) or array.dtype.kind not in "biuf":
        raise ImageError(
            f"{name} has shape {shape} and {array.dtype} entries; a kernel is (k, k), or (k, k, 3) with one "
            "for each colour, of real numbers"
        )
    return array.astype(numpy.float64)


def _without_background(kernel: numpy.ndarray) -> tuple[numpy.ndarray, str | None]:
    """What stands out of a level, with noise, that the whole border shares, and a remark.

    The tails of a kernel follow its shape and are smooth; a background varies from entry to entry only.
    """
    if min(kernel.shape) < _LEAST_MEASURED:
        return kernel, None
    sides = (kernel[0], kernel[-1], kernel[:, 0], kernel[:, -1])
    border = numpy.concatenate(sides)
    steps = numpy.concatenate([numpy.diff(side) for side in sides])
    level = float(numpy.median(border))
    noise = float(numpy.median(abs(steps))) / (0.6745 * math.sqrt(2))  # Gaussian of this median
    low, high = numpy.percentile(border, [5, 95])
    middles, corners = (
        float(numpy.median(numpy.concatenate([_third(side, of) for side in sides])))
        for of in ("middle", "ends")
    )
    peak = float(kernel.max()) - level
    flat = (
        high - low <= max(5 * noise, 0.02 * level)
        and abs(middles - corners) <= max(1.5 * noise, 0.02 * level)
        and peak > 20 * noise
    )
    negligible = _ROUNDING * peak
    negative = -negligible > kernel.min() >= level - 6 * noise
    if not flat or peak <= 0 or not (level > negligible or negative):
        return kernel, None
    raised = kernel - level
    kept = numpy.where(raised > 3 * noise, raised, 0.0)
    return kept, (
        f"the kernel has a background of {level:.3g}, {100 * level / kernel.max():.2g} % of its largest "
        "entry; it is subtracted, and what does not exceed its noise is set to zero"
    )


def _third(side: numpy.ndarray, of: str) -> numpy.ndarray:
    third = len(side) // 3
    middle = side[third:-third]
    return middle if of == "middle" else numpy.concatenate([side[:third], side[-third:]])


def gaussian(std: float) -> Kernel:
    """A round Gaussian with a standard deviation in pixels, to beyond three of them.

    :raises ValueError: more than 200.
    """
    import deepinv

    _check_length("standard deviation of the Gaussian", std)
    return Kernel(deepinv.physics.functional.gaussian_blur(sigma=(std, std)))


def disc(radius: float, *, samples: int = 32) -> Kernel:
    """What a point out of focus becomes: a disc with a radius in pixels.

    Entries are the shares of the pixels within it.

    :param samples: along a side of a pixel, to find its share.
    :raises ValueError: a radius of more than 200.
    """
    _check_length("radius of the disc", radius)
    reach = math.ceil(radius - 0.5) if radius > 0.5 else 0
    fine = (torch.arange((2 * reach + 1) * samples, dtype=torch.float64) + 0.5) / samples
    square = (fine - reach - 0.5).square()
    shares = torch.empty(2 * reach + 1, 2 * reach + 1, dtype=torch.float64)
    for place, row in enumerate(square.split(samples)):  # all of them would fill the memory
        inside = (row[:, None] + square <= radius**2).double()[None, None]
        shares[place] = torch.nn.functional.avg_pool2d(inside, samples)[0, 0, 0]
    return _normalised(shares[None, None])


def motion(length: float, angle: float, *, samples: int = 64) -> Kernel:
    """What a point becomes that moves on a straight line at constant speed.

    :param length: of the way, in pixels.
    :param angle: in degrees, from the right counterclockwise.
    :param samples: points on a pixel of the way; each is shared by the four pixels around it.
    :raises ValueError: no length, one of more than 200, or no angle.
    """
    _check_length("length of the motion", length)
    if not math.isfinite(angle):
        raise ValueError(f"the angle of the motion must be a number of degrees, got {angle:g}")
    count = max(2, math.ceil(length * samples))
    along = ((torch.arange(count, dtype=torch.float64) + 0.5) / count - 0.5) * length
    rows = -along * math.sin(math.radians(angle))
    columns = along * math.cos(math.radians(angle))
    reach = math.ceil(length / 2) + 1
    grid = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = torch.zeros(len(grid), len(grid), dtype=torch.float64)
    for places in zip(rows.split(_POINTS), columns.split(_POINTS), strict=True):
        down, right = ((1 - (grid[:, None] - place).abs()).clamp_min(0) for place in places)
        kernel += down @ right.T
    used = kernel > 1e-12
    margin = [min(int(used.any(1 - axis).nonzero()[0]), reach) for axis in (0, 1)]
    tall, wide = (slice(m, 2 * reach + 1 - m) for m in margin)
    return _normalised(kernel[tall, wide][None, None])


def _check_length(name: str, pixels: float) -> None:
    if not 0 < pixels <= _LARGEST:
        raise ValueError(
            f"the {name} must be positive and at most {_LARGEST:g} pixels, got {pixels:g}; give "
            "a larger kernel as a file"
        )


def _normalised(kernel: Tensor) -> Kernel:
    return Kernel((kernel / kernel.sum()).float())


def antialiasing(factor: int) -> Tensor:
    """What blurs before every `factor`-th pixel is kept, `(1, 1, k, k)`: a cubic (Keys 1981) of their width.

    Its middle is that of the `factor` x `factor` pixels that become one, so that nothing moves; that of
    deepinv's filters is half a pixel off the first one, which fits a factor of two only.
    """
    reach = (5 * factor - 1) // 2
    distance = (torch.arange(-reach, reach + 1, dtype=torch.float64) + (factor - 1) / 2) / factor
    t = distance.abs()
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    taps = torch.where(t <= 1, near, torch.where(t < 2, far, 0.0))
    taps = taps / taps.sum()
    return (taps[:, None] * taps).float()[None, None]
