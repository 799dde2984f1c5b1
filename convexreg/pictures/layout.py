"""Pictures in arrays and tensors as people have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy
import torch
from torch import Tensor

ChannelAxis = int | Literal["auto"] | None


@dataclass(frozen=True)
class Layout:
    """How pictures lie in an array or tensor.

    :ivar like: an array or tensor of no pixels, of the same kind, type and device.
    :ivar shape: of the whole.
    :ivar axis: of the channels, counted from the end; `None` where there are none.
    :ivar white: what the pixels are divided by.
    """

    like: Any
    shape: tuple[int, ...]
    axis: int | None
    white: float

    @classmethod
    def of(cls, image: Any, *, white: float | None, channel_axis: ChannelAxis) -> Layout:
        """:raises TypeError: neither an array nor a tensor of real numbers.
        :raises ValueError: of another shape than pictures have.
        """
        if isinstance(image, Tensor):
            real = image.dtype != torch.bool and not image.is_complex()
        elif isinstance(image, numpy.ndarray):
            real = image.dtype.kind in "uif"
        else:
            raise TypeError(
                f"the image must be a NumPy array or a tensor, got {type(image).__name__}"
            )
        if not real:
            raise TypeError(f"the pixels must be integers or floats, got {image.dtype}")
        shape = tuple(image.shape)
        if not 2 <= len(shape) <= 4 or 0 in shape:
            raise ValueError(
                f"an image is (H, W), has channels, or is a stack of such images, got {shape}"
            )
        axis = _channels(image, shape) if channel_axis == "auto" else channel_axis
        if axis is not None:
            if not -len(shape) <= axis < len(shape) or len(shape) == 2:
                raise ValueError(f"there is no channel axis {axis} in an image of shape {shape}")
            axis = axis % len(shape) - len(shape)
        elif len(shape) == 4:
            raise ValueError(f"an image of shape {shape} has channels; name their axis")
        if white is not None and not 0 < white < float("inf"):
            raise ValueError(f"white must be a positive number, got {white!r}")
        return cls(image[:0], shape, axis, _white(image) if white is None else float(white))

    @property
    def integers(self) -> bool:
        return not _floats(self.like)

    @property
    def step(self) -> float:
        """Between two numbers, as a fraction of white; zero for floats."""
        return 1 / self.white if self.integers else 0.0

    def pictures(self, image: Any) -> Tensor:
        """`(N, C, H, W)` of one or three channels in float32, divided by white.

        :raises ValueError: NaN or infinite pixels.
        """
        array = image.detach() if isinstance(image, Tensor) else _tensor(image)
        pixels = self._planes(array.to(torch.float64) / self.white).to(torch.float32)
        if not bool(pixels.isfinite().all()):
            raise ValueError("the image holds NaN or infinite pixels; replace them first")
        return pixels

    def levels(self, sigma: Any) -> list[Any]:
        """The noise level of every picture: `None`, a number, or `(C or 1, H, W)`.

        :raises ValueError: neither one number, nor one per picture, nor one per pixel.
        """
        count = len(self._planes(torch.empty(self.shape, device="meta")))
        if sigma is None or isinstance(sigma, (int, float)):
            return [sigma if sigma is None else float(sigma)] * count
        if isinstance(sigma, str):
            raise ValueError(f"sigma must be a number, or None to estimate it, got {sigma!r}")
        given = sigma.detach() if isinstance(sigma, Tensor) else _tensor(numpy.asarray(sigma))
        if given.numel() == 1:
            return [float(given)] * count
        if given.ndim == 1 and len(given) == count:
            return given.tolist()
        size = self._planes(torch.empty(self.shape, device="meta")).shape[2:]
        if given.shape == size:
            return [given[None]] * count
        if given.shape == self.shape:
            return list(self._planes(given))
        raise ValueError(
            f"sigma must be one number, one per picture ({count}), or one per pixel, {tuple(size)} or "
            f"{self.shape}; got {tuple(given.shape)}"
        )

    def back(self, pictures: Tensor) -> Any:
        """What `pictures` made `(N, C, H, W)`, as it was; integers are rounded and end with their type."""
        planes = pictures
        if self.axis is not None:
            channels = self.shape[self.axis]
            planes = planes.reshape(-1, channels, *planes.shape[2:])
            stack = len(self.shape) == 4
            planes = (planes if stack else planes[0]).movedim(1 if stack else 0, self.axis)
        planes = planes.reshape(self.shape).to(torch.float64) * self.white
        if self.integers:
            limits = _limits(self.like)
            planes = planes.round().clamp(limits[0], limits[1])
        if isinstance(self.like, Tensor):
            return planes.to(self.like.dtype)
        return planes.cpu().numpy().astype(self.like.dtype)

    def _planes(self, image: Tensor) -> Tensor:
        if self.axis is None:
            return image.reshape(-1, 1, *self.shape[-2:])
        stack = image if image.ndim == 4 else image.unsqueeze(0)
        planes = stack.movedim(self.axis, 1)
        bands = planes.shape[1] not in (1, 3)
        return planes.reshape(-1, 1, *planes.shape[2:]) if bands else planes


def _channels(image: Any, shape: tuple[int, ...]) -> int | None:
    """Last in arrays, before height and width in tensors."""
    if len(shape) == 2:
        return None
    if isinstance(image, Tensor):
        return -3 if len(shape) == 4 or shape[0] in (1, 3) else None
    return -1 if len(shape) == 4 or shape[-1] <= 4 else None


def _floats(image: Any) -> bool:
    return image.is_floating_point() if isinstance(image, Tensor) else image.dtype.kind == "f"


def _limits(image: Any) -> tuple[float, float]:
    info: Any = torch.iinfo(image.dtype) if isinstance(image, Tensor) else numpy.iinfo(image.dtype)
    return float(info.min), float(info.max)


def _white(image: Any) -> float:
    """The largest number of 8 and 16 bits; other pixels are their own unit."""
    wide = (
        _floats(image)
        or (image.element_size() if isinstance(image, Tensor) else image.itemsize) > 2
    )
    return 1.0 if wide else _limits(image)[1]


def _tensor(array: numpy.ndarray) -> Tensor:
    """Of the types that PyTorch lacks, and of foreign byte order, the same numbers in float64."""
    known = array.dtype.isnative and array.dtype.kind in "if" and array.dtype.itemsize <= 8
    return torch.from_numpy(
        numpy.ascontiguousarray(array if known else array.astype(numpy.float64))
    )
