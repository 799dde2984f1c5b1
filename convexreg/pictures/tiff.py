"""One page of a TIFF file: the pixels, whatever way they are stored, and what it says beside them."""

from __future__ import annotations

from pathlib import Path

import numpy
import tifffile
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, PLANARCONFIG

from convexreg.pictures.memory import check_memory
from convexreg.pictures.photograph import ImageError, Tags
from convexreg.pictures.samples import Samples, upright

_COLOURS = {
    PHOTOMETRIC.MINISWHITE: 1,
    PHOTOMETRIC.MINISBLACK: 1,
    PHOTOMETRIC.RGB: 3,
    PHOTOMETRIC.PALETTE: 1,
    PHOTOMETRIC.SEPARATED: 4,
    PHOTOMETRIC.YCBCR: 3,
}
_LOSSLESS = (
    COMPRESSION.NONE,
    COMPRESSION.LZW,
    COMPRESSION.PACKBITS,
    COMPRESSION.DEFLATE,
    COMPRESSION.ADOBE_DEFLATE,
)


def check_decodable(page: tifffile.TiffPage, path: Path) -> None:
    """Refuse what could only be read as something else.

    :raises ImageError: a colour space or compression that is not supported, or pixels that are not there, for
        which tifffile puts zeros or this machine has no memory.
    """
    bits = page.bitspersample if isinstance(page.bitspersample, int) else min(page.bitspersample)
    samples = page.imagewidth * page.imagelength * page.imagedepth * page.samplesperpixel
    check_memory(path, samples)
    needed = samples * bits // 8
    if page.compression == COMPRESSION.NONE and needed > path.stat().st_size:
        raise ImageError(f"{path} cannot be read; it is damaged: most of its pixels are missing")
    if page.compression not in tifffile.TIFF.DECOMPRESSORS:
        raise ImageError(
            f"{path} is compressed with {COMPRESSION(page.compression).name}, which the installed "
            "imagecodecs cannot decode; update it, or save the file without compression"
        )
    if page.axes not in ("YX", "YXS", "SYX"):
        raise ImageError(f"{path} holds volumes; save it as a stack of pages")
    # decoding JPEG turns YCbCr into RGB; plain chroma of full resolution is converted below
    encoded = _is_encoded(page)
    plain = page.compression in _LOSSLESS and page.dtype == numpy.uint8
    if page.photometric not in _COLOURS or (encoded and not plain):
        raise ImageError(
            f"{path} has the colour space {PHOTOMETRIC(page.photometric).name}; save it as RGB or gray"
        )
    if encoded and page.subsampling not in (None, (1, 1)):
        raise ImageError(f"{path} has chroma of a lower resolution; save it as RGB")


def _is_encoded(page: tifffile.TiffPage) -> bool:
    return page.photometric == PHOTOMETRIC.YCBCR and page.compression != COMPRESSION.JPEG


def samples_of(array: numpy.ndarray, page: tifffile.TiffPage, path: Path, tags: Tags) -> Samples:
    """What the numbers of a page mean, upright.

    :param array: as tifffile with imagecodecs decodes it, which does every compression, predictor, byte
        order and packed depth, so that pixels do not depend on them.
    :raises ImageError: fewer samples than its colours.
    """
    if array.ndim == 3 and page.planarconfig == PLANARCONFIG.SEPARATE:
        array = numpy.moveaxis(array, 0, -1)
    photometric, remarks = PHOTOMETRIC(page.photometric), ()
    colours = _COLOURS[photometric]
    if (array.shape[-1] if array.ndim == 3 else 1) < colours:
        raise ImageError(f"{path} is damaged: it has fewer samples than colours")
    indices = photometric == PHOTOMETRIC.PALETTE and tags.imagej is not None
    if photometric == PHOTOMETRIC.PALETTE and not indices and page.colormap is not None:
        array, largest, colours = _looked_up(array, page.colormap), 255, 3
    else:  # ImageJ's colour maps are ways of looking at the numbers
        array, largest = _of_whole_bytes(array, page.bitspersample)
    if photometric == PHOTOMETRIC.MINISWHITE:
        array = _inverted(array, largest)
    elif photometric == PHOTOMETRIC.SEPARATED:
        array, colours = _without_black(array, largest), 3
        tags = Tags(None, tags.resolution, tags.unit, tags.description)
        remarks = ("cyan, magenta, yellow and black are turned into RGB, without a profile",)
    elif _is_encoded(page):
        array = _from_luma(array)
    extra = [int(kind) for kind in page.extrasamples]
    transparent = [i for i, kind in enumerate(extra) if kind in (1, 2)]
    packed = array.dtype.kind == "u" and largest != numpy.iinfo(array.dtype).max
    found = Samples(
        array,
        colour=colours == 3,
        alpha=colours + transparent[0] if transparent else None,
        premultiplied=bool(transparent) and extra[transparent[0]] == EXTRASAMPLE.ASSOCALPHA,
        white=largest if packed else None,
        tags=tags,
        remarks=remarks,
    )
    return upright(found, int(page.tags.valueof("Orientation", default=1)))


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
    index = indices if indices.ndim == 2 else indices[..., 0]
    found = numpy.moveaxis(colours[:, index] >> shift, 0, -1).astype(numpy.uint8)
    return found if indices.ndim == 2 else numpy.concatenate([found, indices[..., 1:]], -1)


def _inverted(array: numpy.ndarray, largest: int) -> numpy.ndarray:
    """Gray where zero was white; a further channel stays."""
    gray = array if array.ndim == 2 else array[..., :1]
    gray = ~gray if array.dtype.kind in "bi" else largest - gray
    return gray if array.ndim == 2 else numpy.concatenate([gray, array[..., 1:]], -1)


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
    whole = numpy.round(numpy.stack(colours, -1)).clip(0, 255).astype(numpy.uint8)
    return numpy.concatenate([whole, array[..., 3:]], -1)
