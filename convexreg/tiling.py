"""Evaluating a network on an image tile by tile, with the same result.

The filter responses of an image take as many times its memory as there are filters. Tiles bound
that, and keep the working set small enough to stay in the caches and the allocator's pools, which
makes evaluation faster on the CPU as well.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from convexreg.network import GradientNetwork, Sigma
from convexreg.operators import Reach

_SIDE = {"cpu": 256, "cuda": 2048}
"""Side of a tile. On the CPU the responses of 64 float32 filters then take 16 MiB."""


def value_and_grad(
    network: GradientNetwork, x: Tensor, sigma: Sigma, *, value: bool = True, grad: bool = True
) -> tuple[Tensor | None, Tensor | None]:
    """Potential `(B,)` and gradient of `network` at `x` `(B, C, H, W)`, those asked for.

    Every tile is cut out with a margin of the network's reach. What the padding at the cut changes
    stays within the margin, so the rest equals the evaluation in one piece, to rounding. Networks
    that see everything, small images, and evaluations that are differentiated are not cut.
    """
    reach = network.reach()
    side = _SIDE["cpu" if x.device.type == "cpu" else "cuda"]
    if reach is None or _differentiated(network, x) or x[:, 0].numel() <= side**2:
        return _evaluate(network, x, sigma, value, grad)
    total = x.new_zeros(x.shape[0], dtype=torch.float64) if value else None
    gradient = torch.empty_like(x) if grad else None
    levels = sigma.reshape(-1) if isinstance(sigma, Tensor) else sigma
    for image in range(x.shape[0]):
        level = levels[image] if isinstance(levels, Tensor) and levels.numel() > 1 else levels
        for rows in _intervals(x.shape[2], side):
            for columns in _intervals(x.shape[3], side):
                tile = (slice(image, image + 1), slice(None), slice(*rows), slice(*columns))
                (i, j), core = _margins(x, rows, columns, reach)
                piece = x[image : image + 1].index_select(2, i).index_select(3, j)
                there = network.window(image, i, j)
                if value and grad:
                    density, piece_grad = there.density_and_grad(piece, level)
                elif value:
                    density, piece_grad = there.density(piece, level), None
                else:
                    density, piece_grad = None, there(piece, level)
                if total is not None and density is not None:
                    total[image] += density[(slice(None), *core)].sum(dtype=torch.float64)
                if gradient is not None and piece_grad is not None:
                    gradient[tile] = piece_grad[(slice(None), slice(None), *core)]
    return total, gradient


def _differentiated(network: GradientNetwork, x: Tensor) -> bool:
    tensors = (x, *network.parameters(), *network.buffers())
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _evaluate(
    network: GradientNetwork, x: Tensor, sigma: Sigma, value: bool, grad: bool
) -> tuple[Tensor | None, Tensor | None]:
    if value and grad:
        return network.value_and_grad(x, sigma)
    if value:
        return network.potential(x, sigma), None
    return None, network(x, sigma)


def _intervals(length: int, side: int) -> Iterator[tuple[int, int]]:
    """Split `length` into nearly equal parts of at most `side`."""
    parts = -(-length // side)
    for part in range(parts):
        yield part * length // parts, (part + 1) * length // parts


def _margins(
    x: Tensor, rows: tuple[int, int], columns: tuple[int, int], reach: Reach
) -> tuple[tuple[Tensor, Tensor], tuple[slice, slice]]:
    """Rows and columns of the tile with its margin, and where the tile lies in it.

    At the border of the image there is no margin with zero padding, whose zeros belong there, and a
    wrapped one with circular padding.
    """
    index, core, radius = [], [], reach.radius
    for (start, stop), length in ((rows, x.shape[2]), (columns, x.shape[3])):
        if reach.circular:
            positions = torch.arange(start - radius, stop + radius, device=x.device) % length
            index.append(positions)
            core.append(slice(radius, radius + stop - start))
        else:
            first, last = max(0, start - radius), min(length, stop + radius)
            index.append(torch.arange(first, last, device=x.device))
            core.append(slice(start - first, stop - first))
    return (index[0], index[1]), (core[0], core[1])
