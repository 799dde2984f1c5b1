"""The pixels of TIFF files, whatever way they are stored."""

from __future__ import annotations

from pathlib import Path

import numpy
import tifffile
from tifffile import COMPRESSION, PHOTOMETRIC, PLANARCONFIG

from convexreg.pictures.photograph import ImageError

_KNOWN = (
    PHOTOMETRIC.MINISWHITE,
    PHOTOMETRIC.MINISBLACK,
    PHOTOMETRIC.RGB,
    PHOTOMETRIC.PALETTE,
    PHOTOMETRIC.SEPARATED,
    PHOTOMETRIC.YCBCR,
)
_LOSSLESS = (
    COMPRESSION.NONE,
    COMPRESSION.LZW,
    COMPRESSION.PACKBITS,
    COMPRESSION.DEFLATE,
    COMPRESSION.ADOBE_DEFLATE,
)


def read_tiff(path: Path) -> tuple[numpy.ndarray, int | None]:
    """The first page as `(H, W)` or `(H, W, C)`, upright, and its white where that is not the type's largest.

    tifffile with imagecodecs decodes every compression, predictor, byte order and packed depth, so that
    pixels do not depend on them.

    :raises ImageError: several pages of one size, or a colour space or compression that is not supported.
    """
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        alike = [other for other in file.pages if other.shape == page.shape]
        if len(alike) > 1:
            raise ImageError(
                f"{path} has {len(alike)} pages of the same size; save the one to use as a file of its own"
            )
        if page.compression not in tifffile.TIFF.DECOMPRESSORS:
            raise ImageError(
                f"{path} is compressed with {COMPRESSION(page.compression).name}, which the installed "
                "imagecodecs cannot decode; update it, or save the file without compression"
            )
        # decoding JPEG turns YCbCr into RGB; plain chroma of full resolution is converted below
        encoded = page.photometric == PHOTOMETRIC.YCBCR and page.compression != COMPRESSION.JPEG
        plain = page.compression in _LOSSLESS and page.dtype == numpy.uint8
        if page.photometric not in _KNOWN or (encoded and not plain):
            raise ImageError(
                f"{path} has the colour space {PHOTOMETRIC(page.photometric).name}; save it as RGB or gray"
            )
        if encoded and page.subsampling not in (None, (1, 1)):
            raise ImageError(f"{path} has chroma of a lower resolution; save it as RGB")
        array = page.asarray()
        if array.ndim == 3 and page.planarconfig == PLANARCONFIG.SEPARATE:
            array = numpy.moveaxis(array, 0, -1)
        if page.photometric == PHOTOMETRIC.PALETTE:
            array, largest = _looked_up(array, page.colormap), 255
        else:
            array, largest = _of_whole_bytes(array, page.bitspersample)
        if page.photometric == PHOTOMETRIC.MINISWHITE:
            array = _inverted(array, largest)
        elif page.photometric == PHOTOMETRIC.SEPARATED:
            array = _without_black(array, largest)
        elif encoded:
            array = _from_luma(array)
        orientation = int(page.tags.valueof("Orientation", default=1))
    packed = array.dtype.kind == "u" and largest != numpy.iinfo(array.dtype).max
    return upright(array, orientation), largest if packed else None


def upright(array: numpy.ndarray, orientation: int) -> numpy.ndarray:
    """`(H, W)` or `(H, W, C)` turned by tag 274 of TIFF and EXIF: mirrored, then rotated."""
    if orientation in (2, 4, 5, 7):
        array = array[:, ::-1]
    turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return numpy.rot90(array, turns)


def _of_whole_bytes(array: numpy.ndarray, bits: int | tuple[int, ...]) -> tuple[numpy.ndarray, int]:
    """Numbers and the one that stands for white; depths below eight bits are spread over eight."""
    if array.dtype.kind != "u":
        return array, 1
    largest = 2 ** (max(bits) if isinstance(bits, tuple) else bits) - 1
    if largest >= 255:
        return array, largest
    return numpy.round(array * (255 / largest)).astype(numpy.uint8), 255


def _looked_up(indices: numpy.ndarray, colours: numpy.ndarray) -> numpy.ndarray:
    """Colours of a map of 16 bits, or of 8 as some programs write it (libtiff tells them apart so)."""
    shift = 8 if colours.max() > 255 else 0
    return numpy.moveaxis(colours[:, indices] >> shift, 0, -1).astype(numpy.uint8)


def _inverted(array: numpy.ndarray, largest: int) -> numpy.ndarray:
    """Gray where zero was white; a further channel stays."""
    if array.ndim == 2:
        return ~array if array.dtype.kind == "b" else largest - array
    return numpy.concatenate([largest - array[..., :1], array[..., 1:]], -1)


def _without_black(array: numpy.ndarray, largest: int) -> numpy.ndarray:
    """Red, green and blue from cyan, magenta, yellow and black, without a profile; alpha stays."""
    inks = array[..., :4].astype(numpy.float64) / largest
    colours = (1 - inks[..., :3]) * (1 - inks[..., 3:]) * largest
    colours = numpy.round(colours) if array.dtype.kind == "u" else colours
    return numpy.concatenate([colours.astype(array.dtype), array[..., 4:]], -1)


def _from_luma(array: numpy.ndarray) -> numpy.ndarray:
    """Red, green and blue from luma and chroma of 8 bits (ITU-R BT.601, as JPEG does it)."""
    luma, blue, red = numpy.moveaxis(array[..., :3].astype(numpy.float64), -1, 0)
    blue, red = blue - 128, red - 128
    colours = (luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue)
    return numpy.round(numpy.stack(colours, -1)).clip(0, 255).astype(numpy.uint8)
