"""Blur kernels from files."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from convexreg.pictures.files import read_image
from convexreg.pictures.photograph import ImageError


def read_kernel(path: Path) -> tuple[Tensor, float]:
    """A blur kernel `(1, 1, k, k)` of odd size from an image or NPY file, normalised, and what its
    entries summed to.

    :raises ImageError: unreadable, coloured, even-sized, negative or zero.
    """
    # a kernel is normalised, so that any white would do; floats need not lie in [0, 1]
    pixels = read_image(path, white=1.0).pixels.double()
    kernel = pixels[:1]
    if (pixels != kernel).any():
        raise ImageError(
            f"the kernel {path} is coloured; one kernel blurs all channels, save it as gray"
        )
    height, width = kernel.shape[-2:]
    if height % 2 == 0 or width % 2 == 0:
        raise ImageError(
            f"the kernel {path} is {height} x {width}; its sides must be odd so that it has a centre"
        )
    if kernel.min() < 0:
        raise ImageError(f"the kernel {path} has negative entries; a blur has none")
    if kernel.sum() <= 0:
        raise ImageError(f"the kernel {path} sums to zero; it would remove the image")
    total = float(kernel.sum())
    return (kernel / total).float().unsqueeze(0), total
