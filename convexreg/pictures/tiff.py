"""The pixels of TIFF files, whatever way they are stored."""

from __future__ import annotations

from pathlib import Path

import numpy
import tifffile
from tifffile import PHOTOMETRIC

from convexreg.pictures.photograph import ImageError

_KNOWN = (
    PHOTOMETRIC.MINISWHITE,
    PHOTOMETRIC.MINISBLACK,
    PHOTOMETRIC.RGB,
    PHOTOMETRIC.PALETTE,
    PHOTOMETRIC.SEPARATED,
)


def read_tiff(path: Path) -> tuple[numpy.ndarray, float | None]:
    """The first page as `(H, W)` or `(H, W, C)`, upright, and its white where that is not the type's largest.

    tifffile with imagecodecs decodes every compression, predictor, byte order and packed depth, so that
    pixels do not depend on them.

    :raises ImageError: several pages of one size, or a colour space that is not supported.
    """
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        alike = [other for other in file.pages if other.shape == page.shape]
        if len(alike) > 1:
            raise ImageError(
                f"{path} has {len(alike)} pages of the same size; save the one to use as a file of its own"
            )
        # decoding JPEG turns YCbCr into RGB
        converted = page.photometric == PHOTOMETRIC.YCBCR and page.compression == 7
        if page.photometric not in _KNOWN and not converted:
            raise ImageError(
                f"{path} has the colour space {PHOTOMETRIC(page.photometric).name}; save it as RGB or gray"
            )
        array = page.asarray()
        if array.ndim == 3 and page.planarconfig == 2:
            array = numpy.moveaxis(array, 0, -1)
        largest = _largest(array.dtype, page.bitspersample)
        if page.photometric == PHOTOMETRIC.PALETTE:
            array = numpy.moveaxis(page.colormap[:, array] >> 8, 0, -1).astype(numpy.uint8)
            largest = 255
        elif page.photometric == PHOTOMETRIC.MINISWHITE:
            array = ~array if array.dtype.kind == "b" else largest - array
        elif page.photometric == PHOTOMETRIC.SEPARATED:
            array = _without_black(array, largest)
        orientation = page.tags["Orientation"].value if "Orientation" in page.tags else 1
    # the TIFF tag has the meaning of the EXIF one: mirror, then rotate
    if orientation in (2, 4, 5, 7):
        array = array[:, ::-1]
    turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(int(orientation), 0)
    packed = array.dtype.kind == "u" and largest != numpy.iinfo(array.dtype).max
    return numpy.rot90(array, turns), largest if packed else None


def _largest(dtype: numpy.dtype, bits: int | tuple[int, ...]) -> int:
    """The number that stands for white: of packed depths the largest of so many bits."""
    if dtype.kind != "u":
        return 1
    return 2 ** (max(bits) if isinstance(bits, tuple) else bits) - 1


def _without_black(array: numpy.ndarray, largest: int) -> numpy.ndarray:
    """Red, green and blue from cyan, magenta, yellow and black, without a colour profile."""
    inks = array[..., :4].astype(numpy.float64) / largest
    colours = (1 - inks[..., :3]) * (1 - inks[..., 3:])
    scaled = colours * largest
    return (numpy.round(scaled) if array.dtype.kind == "u" else scaled).astype(array.dtype)
