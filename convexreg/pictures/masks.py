"""Which pixels of a picture are missing."""

from __future__ import annotations

from pathlib import Path

import numpy
import torch
from torch import Tensor

from convexreg.pictures.files import PictureFile
from convexreg.pictures.photograph import ImageError


def read_missing(path: Path) -> Tensor:
    """`(1, H, W)`, true where the picture of a mask is bright: more than half of its brightest number.

    :raises ImageError: unreadable, or no pixel or every pixel is marked.
    """
    with PictureFile(path) as file:
        if len(file) > 1:
            raise ImageError(f"the mask {path} has {file.describe()}; save the one to use")
        bright = file.numbers(1).max(0)
    if not bright.max() > 0:
        raise ImageError(f"the mask {path} is black; white marks what is missing")
    missing = bright > bright.max() / 2
    if missing.all():
        raise ImageError(f"the mask {path} marks every pixel; white marks what is missing")
    return torch.from_numpy(numpy.ascontiguousarray(missing)).unsqueeze(0)
