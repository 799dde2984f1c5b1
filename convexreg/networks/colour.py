"""Colour images as three gray planes: luminance and two opponent colours, by an orthonormal transform."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from convexreg.networks.base import Sigma


@functools.cache
def colour_transform(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Orthonormal `(3, 3)` from red, green and blue to luminance and two opponent colours."""
    with torch.inference_mode(False):  # the cached tensor must serve differentiated calls as well
        rows = torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float64, device="cpu")
        return (rows / rows.norm(dim=1, keepdim=True)).to(device, dtype)


def planes(x: Tensor) -> Tensor:
    """`(B, 3, H, W)` to `(3 B, 1, H, W)`, three planes in a row for every image."""
    return _mixed(colour_transform(x.dtype, x.device), x).flatten(0, 1).unsqueeze(1)


def from_planes(z: Tensor) -> Tensor:
    """The inverse of `planes`, which is its adjoint."""
    images = z.squeeze(1).unflatten(0, (-1, 3))
    return _mixed(colour_transform(z.dtype, z.device).mT, images)


def per_plane(sigma: Sigma) -> Sigma:
    """The noise levels of the three planes of every colour image."""
    if isinstance(sigma, Tensor) and sigma.numel() > 1:
        return sigma.reshape(-1).repeat_interleave(3)
    return sigma


def _mixed(matrix: Tensor, x: Tensor) -> Tensor:
    """`matrix` applied to the three channels of `x`, in arithmetic that autocast leaves alone."""
    red, green, blue = (channel.unsqueeze(1) for channel in x.unbind(1))
    a, b, c = (column.reshape(1, 3, 1, 1) for column in matrix.unbind(1))
    return a * red + b * green + c * blue
