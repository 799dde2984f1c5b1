"""Arithmetic on batches, image by image."""

from __future__ import annotations

import torch
from torch import Tensor

_PIECE = 2**16
"""Entries of an image whose products are summed at a time on the CPU: they stay in the cache."""


def per_image(value: Tensor, x: Tensor) -> Tensor:
    """Shape a 0-dim or `(B,)` tensor to broadcast against `x`, `(B, ...)`."""
    return value if value.ndim == 0 else value.reshape(-1, *[1] * (x.ndim - 1))


def of_images(value: Tensor, index: Tensor) -> Tensor:
    """Those of some images of a tensor of one number, or of one entry per image `(B, ...)`."""
    return value if value.ndim == 0 or value.shape[0] == 1 else value[index.to(value.device)]


def rms(x: Tensor) -> Tensor:
    """Root mean square of each image, accumulated in float64, `(B,)`."""
    return norm(x) / max(x.flatten(1).shape[1], 1) ** 0.5


def norm(x: Tensor) -> Tensor:
    """2-norm of each image, accumulated in float64, `(B,)`."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1, dtype=torch.float64)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """`<a, b>` of each image, accumulated in float64, `(B,)`."""
    a, b = a.flatten(1), b.flatten(1)
    length = _PIECE if a.device.type == "cpu" else max(a.shape[1], 1)
    pairs = zip(a.split(length, 1), b.split(length, 1), strict=True)
    first, *others = ((one * two).sum(1, dtype=torch.float64) for one, two in pairs)
    return sum(others, first)


def mixed(matrix: Tensor, x: Tensor) -> Tensor:
    """`matrix` `(C, C)` applied to the channels of `x` `(B, C, H, W)`, in arithmetic that autocast leaves
    alone."""
    columns = zip(matrix.unbind(1), x.unbind(1), strict=True)
    parts = [column.reshape(1, -1, 1, 1) * channel.unsqueeze(1) for column, channel in columns]
    return sum(parts[1:], parts[0])
