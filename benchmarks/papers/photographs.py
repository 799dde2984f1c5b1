"""Photographs as sets of colours, and thumbnails of them under colour maps."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

PHOTOGRAPHS = {"source": "coffee", "target": "rocket", "unseen": "chelsea"}
"""Photographs that come with scikit-image; the unseen one shows the map on other colours."""

_TILE = (120, 180)

ColourMap = Callable[[Tensor], Tensor]
"""Colours `(N, 3)` in [0, 1] to colours, float64."""


def photograph(name: str) -> Tensor:
    """A photograph of scikit-image, `(H, W, 3)` in [0, 1], float64."""
    import skimage.data

    return torch.from_numpy(getattr(skimage.data, name)() / 255.0)


def dequantised(picture: Tensor, generator: torch.Generator) -> Tensor:
    """Pixels `(N, 3)`, spread evenly over their quantisation interval so that they have a density."""
    pixels = picture.flatten(0, 1)
    return pixels + (torch.rand(pixels.shape, generator=generator, dtype=pixels.dtype) - 0.5) / 255


def jpeg(pictures: Sequence[Tensor], transform: ColourMap | None = None) -> bytes:
    """Thumbnails of photographs below one another, their colours mapped, as a JPEG file."""
    from PIL import Image

    tiles = torch.cat([_tile(picture) for picture in pictures])
    if transform is not None:
        tiles = transform(tiles.flatten(0, 1)).unflatten(0, tiles.shape[:2])
    values = (tiles.clamp(0, 1) * 255).round().byte().numpy()
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _tile(picture: Tensor) -> Tensor:
    small = functional.interpolate(
        picture.movedim(2, 0).unsqueeze(0), _TILE, mode="bilinear", antialias=True
    )
    return small[0].movedim(0, 2).contiguous()
