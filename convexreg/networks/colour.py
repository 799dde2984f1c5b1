"""Colour images as three gray planes: luminance and two opponent colours, by an orthonormal transform.

Opponent colours vary less than luminance: a regularizer of gray images is right for them with more weight.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import torch
from torch import Tensor

from convexreg.networks.base import Sigma
from convexreg.solvers.batch import mixed
from convexreg.solvers.curvature import Curvature

PLANE_WEIGHTS = (1.0, 1.4, 1.5)
"""Of the regularizer on luminance and the two opponent colours: the best of 1, 1.15, 1.3, 1.5, ... on twelve
photographs held out from training, reduced by two, are 1.5 and 1.5 at noise 15/255, 1.3 and 1.5 at 50/255."""

LARGE = 2**20
"""Pixels of an image whose planes are treated in turn: what is kept of one is in memory at a time."""


@functools.cache
def colour_transform(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Orthonormal `(3, 3)` from red, green and blue to luminance and two opponent colours."""
    with torch.inference_mode(False):  # the cached tensor must serve differentiated calls as well
        rows = torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float64, device="cpu")
        return (rows / rows.norm(dim=1, keepdim=True)).to(device, dtype)


def in_planes(x: Tensor) -> Tensor:
    """Red, green and blue `(B, 3, H, W)` to luminance and two opponent colours, in the same shape."""
    return mixed(colour_transform(x.dtype, x.device), x)


def in_colour(planes: Tensor) -> Tensor:
    """The inverse of `in_planes`, which is its adjoint."""
    return mixed(colour_transform(planes.dtype, planes.device).mT, planes)


def planes(x: Tensor) -> Tensor:
    """`(B, 3, H, W)` to `(3 B, 1, H, W)`, three planes in a row for every image."""
    return in_planes(x).flatten(0, 1).unsqueeze(1)


def from_planes(z: Tensor) -> Tensor:
    """The inverse of `planes`, which is its adjoint."""
    return in_colour(z.squeeze(1).unflatten(0, (-1, 3)))


def weighted(z: Tensor) -> Tensor:
    """Numbers of planes, `(3 B, ...)`, times the weights of their planes."""
    weights = z.new_tensor(PLANE_WEIGHTS)
    return (z.unflatten(0, (-1, 3)) * weights.reshape(3, *[1] * (z.ndim - 1))).flatten(0, 1)


def total(values: Tensor) -> Tensor:
    """The weighted sum over the planes of every image, `(3 B,)` to `(B,)`."""
    return weighted(values).reshape(-1, 3).sum(1)


def largest(bounds: Tensor) -> Tensor:
    """The largest of a bound on the planes, each times its weight: 0-dim to 0-dim, `(3 B,)` to `(B,)`."""
    if bounds.ndim == 0:
        return max(PLANE_WEIGHTS) * bounds
    return weighted(bounds).reshape(-1, 3).amax(1)


def curvature(model: Curvature) -> Curvature:
    """The model for colour images from that of their planes: every plane keeps its own."""
    symbol, diagonal = (
        weighted(item).squeeze(1).unflatten(0, (-1, 3)) for item in (model.symbol, model.diagonal)
    )
    basis = colour_transform(symbol.dtype, symbol.device)
    return replace(model, symbol=symbol, diagonal=diagonal, basis=basis)


def per_plane(sigma: Sigma) -> Sigma:
    """The noise levels of the three planes of every colour image."""
    if isinstance(sigma, Tensor) and sigma.numel() > 1:
        return sigma.reshape(-1).repeat_interleave(3)
    return sigma
