"""Evaluating a network on an image tile by tile, with the same result.

The filter responses of an image take as many times its memory as there are filters. Tiles bound
that, and keep the working set small enough to stay in the caches and the allocator's pools, which
makes evaluation faster on the CPU as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convexreg.networks.base import GradientNetwork, Sigma
from convexreg.networks.operators import Reach
from convexreg.networks.weight_network import ChromaWeights, ColourWeights, WeightNetwork
from convexreg.solvers.precision import without_autocast

_SIDE = {"cpu": 256, "cuda": 2048}
"""Side of a tile. On the CPU the responses of 64 float32 filters then take 16 MiB."""


def value_and_grad(
    network: GradientNetwork, x: Tensor, sigma: Sigma, *, value: bool = True, grad: bool = True
) -> tuple[Tensor | None, Tensor | None]:
    """Potential `(B,)` and gradient of `network` at `x` `(B, C, H, W)`, those asked for.

    Every tile is cut out with a margin of the network's reach. What the padding at the cut changes
    stays within the margin, so the rest equals the evaluation in one piece, to rounding. Networks
    that see everything and small images are not cut.
    """
    if _whole(network, x):
        return whole(network, x, sigma, value, grad)
    total = x.new_zeros(x.shape[0], dtype=torch.float64) if value else None
    gradient = torch.empty_like(x) if grad else None
    for tile in _tiles(network, x, sigma, block=network.block):
        if value and grad:
            density, piece_grad = tile.network.density_and_grad(tile.piece, tile.sigma)
        elif value:
            density, piece_grad = tile.network.density(tile.piece, tile.sigma), None
        else:
            density, piece_grad = None, tile.network(tile.piece, tile.sigma)
        if total is not None and density is not None:
            total[tile.images] += density[(slice(None), *tile.core)].sum(dtype=torch.float64)
        if gradient is not None and piece_grad is not None:
            gradient[tile.place] = piece_grad[(slice(None), slice(None), *tile.core)]
    return total, gradient


@without_autocast
def weights(
    network: GradientNetwork,
    weigh: WeightNetwork | ColourWeights | ChromaWeights,
    x: Tensor,
    sigma: Sigma,
) -> Tensor:
    """`weigh` of the network's magnitudes at `x`, `(B, terms, H, W)`, tile by tile as well."""
    reach = network.reach()
    if (
        reach is None
        or reach.circular  # the weight network itself pads by zeros
        or differentiated(network, x)
        or differentiated(weigh, x)
        or _whole(network, x)
    ):
        return weigh(network.magnitudes(x, sigma), sigma)
    shape = (x.shape[0], weigh.terms, *x.shape[2:])
    # terms are the fastest dimension where strips read them
    field = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    block = math.lcm(network.block, weigh.block)
    margin = -(-weigh.radius // block) * block
    side = 3 * _side(x) // 2  # their margins are wide
    for tile in _tiles(network, x, sigma, side=side, margin=margin, block=block):
        piece = weigh(tile.network.magnitudes(tile.piece, tile.sigma), tile.sigma)
        field[tile.place] = piece[(slice(None), slice(None), *tile.core)]
    return field


@dataclass(frozen=True)
class _Tile:
    """A part of a batch with its margin.

    :ivar piece: pixels, margin included; `core` says where the tile lies in them.
    :ivar place: where the tile lies in the batch.
    """

    network: GradientNetwork
    piece: Tensor
    sigma: Sigma
    images: slice
    place: tuple[slice, ...]
    core: tuple[slice, slice]


def _side(x: Tensor) -> int:
    return _SIDE["cpu" if x.device.type == "cpu" else "cuda"]


def _whole(network: GradientNetwork, x: Tensor) -> bool:
    return network.reach() is None or x[:, 0].numel() <= _side(x) ** 2


def _tiles(
    network: GradientNetwork,
    x: Tensor,
    sigma: Sigma,
    *,
    side: int | None = None,
    margin: int = 0,
    block: int = 1,
) -> Iterator[_Tile]:
    """The batch in one piece if it is small, or every image tile by tile.

    They are cut with a margin that is wider by a multiple of `block`, and so that the pieces begin at
    multiples of it.
    """
    reach = network.reach()
    everything = slice(None)
    if reach is None or _whole(network, x):
        yield _Tile(network, x, sigma, everything, (everything,) * 4, (everything, everything))
        return
    reach = Reach(-(-reach.radius // block) * block + margin, reach.circular)
    side = side or _side(x)
    levels = sigma.reshape(-1) if isinstance(sigma, Tensor) else sigma
    for image in range(x.shape[0]):
        level = levels[image] if isinstance(levels, Tensor) and levels.numel() > 1 else levels
        images = slice(image, image + 1)
        for rows in intervals(x.shape[2], side, block):
            for columns in intervals(x.shape[3], side, block):
                (i, j), core = _margins(x, rows, columns, reach)
                piece = x[images].index_select(2, i).index_select(3, j)
                there = network.part(torch.tensor([image], device=x.device), i, j)
                place = (images, everything, slice(*rows), slice(*columns))
                yield _Tile(there, piece, level, images, place, core)


def differentiated(network: nn.Module, x: Tensor) -> bool:
    """Whether an evaluation of the network at `x` is being differentiated."""
    tensors = (x, *network.parameters(), *network.buffers())
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def whole(
    network: GradientNetwork, x: Tensor, sigma: Sigma, value: bool, grad: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Potential and gradient, those asked for, in one piece."""
    if value and grad:
        return network.value_and_grad(x, sigma)
    if value:
        return network.potential(x, sigma), None
    return None, network(x, sigma)


def intervals(length: int, side: int, block: int = 1) -> Iterator[tuple[int, int]]:
    """Split `length` into nearly equal parts of at most about `side`, which begin at multiples of `block`."""
    parts, blocks = -(-length // side), -(-length // block)
    for part in range(parts):
        start, stop = (end * blocks // parts * block for end in (part, part + 1))
        yield start, min(stop, length)


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
