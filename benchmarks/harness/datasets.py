"""Test images: photographs that are installed anyway, deepinv's downloads, or any folder.

A new dataset is a row: `DATASETS["mine"] = lambda: [("name", tensor), ...]`, images `(1, H, W)`
in [0, 1], colour ones `(3, H, W)`, with their names, loaded when asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

NamedImages = list[tuple[str, Tensor]]


def _gray(array: Tensor) -> Tensor:
    """`(1, H, W)` from 8-bit `(H, W)` or `(H, W, 3)`, with the luma of ITU-R BT.601."""
    pixels = array.float() / 255
    if pixels.ndim == 3:
        pixels = pixels @ torch.tensor([0.299, 0.587, 0.114])
    return pixels.unsqueeze(0)


def _colour(array: Tensor) -> Tensor:
    """`(3, H, W)` from 8-bit `(H, W, 3)`."""
    return array.float().movedim(-1, 0) / 255


def _installed(
    *names: str, pixels: Callable[[Tensor], Tensor] = _gray
) -> Callable[[], NamedImages]:
    """Photographs inside the scikit-image package, at half their size (less noise, sharper)."""

    def load() -> NamedImages:
        import skimage.data

        images = []
        for name in names:
            array = getattr(skimage.data, name)()
            image = pixels(torch.from_numpy(array[0] if isinstance(array, tuple) else array))
            height, width = (side // 2 * 2 for side in image.shape[-2:])
            images.append((name, torch.nn.functional.avg_pool2d(image[..., :height, :width], 2)))
        return images

    return load


def _download(kind: str) -> Callable[[], NamedImages]:
    """A dataset class of deepinv, downloaded into its cache at first use."""

    def load() -> NamedImages:
        import deepinv
        import numpy

        images = getattr(deepinv.datasets, kind)(
            download=True,
            transform=lambda picture: _gray(torch.from_numpy(numpy.array(picture.convert("RGB")))),
            use_dict_output=True,
        )
        return [(f"{number:03d}", images[number]["x"]) for number in range(len(images))]

    return load


_TEST = ("camera", "astronaut", "chelsea", "coffee", "rocket", "coins")
_TUNING = ("stereo_motorcycle", "clock", "brick", "moon")

DATASETS: dict[str, Callable[[], NamedImages]] = {
    "photographs": _installed(*_TEST),
    "tuning-photographs": _installed(*_TUNING),
    "colour-photographs": _installed("astronaut", "chelsea", "coffee", "rocket", pixels=_colour),
    "colour-tuning-photographs": _installed("stereo_motorcycle", pixels=_colour),
    "set5": _download("Set5HR"),
    "set14": _download("Set14HR"),
    "kodak24": _download("Kodak24"),
    "urban100": _download("Urban100HR"),
}


def open_images(
    source: str, *, limit: int | None = None, crop: int | None = None, colour: bool = False
) -> NamedImages:
    """The images of a dataset or a folder, in order.

    :param limit: only the first so many.
    :param crop: only the central square of so many pixels a side (or the largest that fits).
    :param colour: colour files of a folder stay `(3, H, W)`; else they are made gray.
    :raises ValueError: neither a dataset nor a folder of images.
    """
    if source in DATASETS:
        images = DATASETS[source]()
    elif Path(source).is_dir():
        from convexreg.training.data import ImageFolder

        folder = ImageFolder(source, colour=colour)
        images = list(zip(folder.names, folder.images, strict=True))
    else:
        raise ValueError(
            f"{source!r} is neither a folder of images nor a dataset; the datasets are "
            f"{', '.join(DATASETS)}"
        )
    return [(name, centre(image, crop) if crop else image) for name, image in images[:limit]]


def centre(image: Tensor, size: int) -> Tensor:
    """The central square of at most `size` pixels a side."""
    height, width = image.shape[-2:]
    size = min(size, height, width)
    top, left = (height - size) // 2, (width - size) // 2
    return image[..., top : top + size, left : left + size]
