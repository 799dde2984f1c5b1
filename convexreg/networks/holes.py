"""Pixels of which nothing is known, from those around them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def filled(image: Tensor, seen: Tensor) -> Tensor:
    """Unseen pixels from the seen ones around them, coarse to fine: means of 2 x 2 pixels, interpolated.

    Means of all where there is nothing to halve.

    :param image: `(B, C, H, W)`, or of any shape behind the first dimension.
    :param seen: which pixels are known, of the same shape.
    """
    if bool(seen.all()):
        return image
    known = torch.where(seen, image, 0.0)
    if image.ndim != 4 or max(image.shape[2:]) == 1:
        every = tuple(range(1, image.ndim))
        count = seen.sum(every, keepdim=True).clamp_min(1)
        return torch.where(seen, image, known.sum(every, keepdim=True) / count)
    share, total = (
        functional.avg_pool2d(plane, 2, ceil_mode=True) for plane in (seen.to(image), known)
    )
    coarse = filled(total / torch.where(share > 0, share, 1.0), share > 0)
    size = (image.shape[2], image.shape[3])
    around = functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    return torch.where(seen, image, around)
