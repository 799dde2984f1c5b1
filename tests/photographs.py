"""Photographs to write and read."""

from __future__ import annotations

import numpy
import torch

from convexreg.pictures.files import Photograph

HEIGHT, WIDTH = 13, 17
MODES = {
    "gray": (1, False),
    "gray-alpha": (1, True),
    "colour": (3, False),
    "colour-alpha": (3, True),
}
DTYPES = {8: numpy.uint8, 16: numpy.uint16, 32: numpy.float32}


def photograph(channels: int, alpha: bool, bits: int) -> Photograph:
    """Random pixels that the depth represents exactly."""
    limit = 2**bits - 1 if bits < 32 else 1
    planes = torch.rand(channels + alpha, HEIGHT, WIDTH)
    if bits < 32:
        planes = (planes * limit).round() / limit
    return Photograph(planes[:channels], planes[channels:] if alpha else None, bits)


def array_of(picture: Photograph) -> numpy.ndarray:
    """`(H, W)` or `(H, W, C)` in the depth of the photograph."""
    planes = picture.pixels if picture.alpha is None else torch.cat([picture.pixels, picture.alpha])
    array = planes.movedim(0, -1).numpy()
    if picture.bits < 32:
        array = numpy.round(array * (2**picture.bits - 1)).astype(DTYPES[picture.bits])
    return array[..., 0] if array.shape[-1] == 1 else array


def assert_same(result: Photograph, expected: Photograph) -> None:
    assert result.bits == expected.bits
    torch.testing.assert_close(result.pixels, expected.pixels, rtol=0, atol=1e-7)
    assert (result.alpha is None) == (expected.alpha is None)
    if expected.alpha is not None:
        torch.testing.assert_close(result.alpha, expected.alpha, rtol=0, atol=1e-7)
