"""The numbers in a file, as they are stored, and the photograph that they are of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy
import torch

from convexreg.pictures.photograph import ImageError, Photograph, Tags, UnknownWhite

# what noise can make of an image in [0, 1]
_LARGEST_FLOAT = 10.0


@dataclass(frozen=True)
class Samples:
    """What a decoder finds.

    :ivar array: `(H, W, C)` or `(H, W)`; gray, or red, green and blue, and then further channels.
    :ivar colour: whether the first three are red, green and blue.
    :ivar alpha: the channel that is transparency.
    :ivar premultiplied: whether colours were multiplied by alpha.
    :ivar white: of a packed depth, whose type could hold more.
    """

    array: numpy.ndarray
    colour: bool = False
    alpha: int | None = None
    premultiplied: bool = False
    white: int | None = None
    tags: Tags = field(default_factory=Tags)
    remarks: tuple[str, ...] = ()


def upright(samples: Samples, orientation: int) -> Samples:
    """Turned by tag 274 of TIFF and EXIF: mirrored, then rotated."""
    array, tags = samples.array, samples.tags
    if orientation in (2, 4, 5, 7):
        array = array[:, ::-1]
    turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return replace(
        samples,
        array=numpy.rot90(array, turns),
        tags=tags.turned() if turns % 2 else tags,
    )


def photograph_of(samples: Samples, path: Path, white: float | None) -> Photograph:
    """Scaled to [0, 1].

    :param white: the number that becomes 1, instead of the largest of an integer type, or 1.
    :raises UnknownWhite: numbers whose white can only be guessed.
    :raises ImageError: no image, or a white that the numbers cannot reach.
    """
    array, kind = samples.array, samples.array.dtype.kind
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape:
        raise ImageError(f"{path} has shape {array.shape}; an image is (H, W) or (H, W, C)")
    size = 8 * array.dtype.itemsize
    stored_as = None
    if kind == "b":
        bits, scale = 8, 1.0
    elif kind in "iu":
        bits, scale = min(size, 32), float(samples.white or numpy.iinfo(array.dtype).max)
        stored_as = None if kind == "u" and size < 32 else array.dtype.name
        if size >= 32 and white is None and samples.white is None:
            raise UnknownWhite(
                f"{path} holds {array.dtype.name} numbers up to {array.max()}, whose white is seldom the "
                "largest of their type. Name the value of white, such as 255"
            )
    elif kind == "f":
        bits, scale = 32, 1.0
    else:
        raise ImageError(f"{path} holds {array.dtype} numbers; use integers, or floats in [0, 1]")
    if bits < 32 and white is not None and white > scale:
        raise ImageError(
            f"{path} has {bits} bits, so that its white is at most {scale:g}; got {white:g}"
        )
    planes = torch.from_numpy(_scaled(numpy.moveaxis(array, -1, 0), white or scale))
    alpha, opacity = None, 1.0
    if samples.alpha is not None:
        index = samples.alpha
        alpha = torch.from_numpy(_scaled(array[None, ..., index], scale)).clamp(0, 1)
        planes = torch.cat([planes[:index], planes[index + 1 :]])
        opacity = torch.where(alpha > 0, alpha, 1.0) if samples.premultiplied else opacity
    planes = planes / opacity
    if not torch.isfinite(planes).all() or (alpha is not None and not torch.isfinite(alpha).all()):
        raise ImageError(f"{path} holds NaN or infinite pixels; replace them first")
    white = white or samples.white
    if kind == "f" and white is None and planes.abs().max() > _LARGEST_FLOAT:
        raise UnknownWhite(
            f"{path} holds floating-point pixels up to {planes.abs().max().item():g}; they should lie in "
            "[0, 1], up to noise. Name the value of white, such as 255"
        )
    return Photograph(
        planes,
        alpha,
        bits,
        white,
        bands=planes.shape[0] - (3 if samples.colour else 1 if planes.shape[0] == 1 else 0),
        stored_as=stored_as,
        premultiplied=samples.premultiplied,
        tags=samples.tags,
        remarks=samples.remarks,
    )


def _scaled(array: numpy.ndarray, white: float) -> numpy.ndarray:
    """In float32, divided in the precision of the numbers."""
    exact = numpy.float32 if array.dtype.itemsize <= 2 else numpy.float64
    with numpy.errstate(over="ignore"):  # what does not fit is refused as infinite
        return numpy.ascontiguousarray((array.astype(exact) / exact(white)).astype(numpy.float32))


def stored(photograph: Photograph, kind: numpy.dtype, *, premultiplied: bool) -> numpy.ndarray:
    """`(H, W)` or `(H, W, C)` in the type of a file: integers clipped to it and rounded, floats as they are.

    Values are on the scale of the photograph's `white`, if `kind` is its own type or floating-point.

    :param premultiplied: multiply the colours by alpha.
    :raises ImageError: pixels that are not finite.
    """
    pixels, alpha = photograph.pixels.detach().cpu().double(), photograph.alpha
    own = kind == photograph.dtype or kind.kind == "f"
    largest = 1.0 if kind.kind == "f" else float(numpy.iinfo(kind).max)
    white = (photograph.white or largest) if own else largest
    if alpha is not None:
        alpha = alpha.cpu().double()
        pixels = pixels * alpha if premultiplied else pixels
    if not torch.isfinite(pixels).all():
        raise ImageError("there are NaN or infinite pixels in the result; nothing was written")
    planes = pixels * white if alpha is None else torch.cat([pixels * white, alpha * largest])
    array = numpy.moveaxis(planes.numpy(), 0, -1)
    if kind.kind != "f":
        ends = numpy.full(array.shape[-1], largest)
        ends[: len(pixels)] = white  # alpha knows no other white
        lowest = float(numpy.iinfo(kind).min)
        array = numpy.round(array).clip(lowest, ends)
    array = array.astype(kind)
    return array[..., 0] if array.shape[-1] == 1 else array
