"""PNG, JPEG, WebP and BMP, by Pillow; PNG of 16 bits by imagecodecs, since Pillow reduces its colour to 8."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy
from PIL import Image

from convexreg.pictures.exif import exif_of_image, orientation_of, png_chunk, sized
from convexreg.pictures.photograph import ImageError, Photograph, Tags
from convexreg.pictures.samples import Samples, stored, upright

_LONGEST = 65533
"""Bytes of a segment of JPEG."""


class RasterPictures:
    """The pictures of a PNG, JPEG, WebP or BMP file: one, or frames of one size."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with warnings.catch_warnings():
            # of 90 to 180 megapixels; beyond those it is an error
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            self.image = Image.open(path)
        try:
            self.image.load()  # raises on truncated files
            self.frames = self._frames()
        except BaseException:
            self.image.close()
            raise

    def __len__(self) -> int:
        return len(self.frames)

    def describe(self) -> str:
        return f"{len(self)} pictures"

    def samples(self, index: int) -> Samples:
        self.image.seek(self.frames[index])
        image, tags = self.image, _tags(self.image)
        orientation = orientation_of(self.image)
        if image.format == "PNG" and len(self) == 1 and _png_depth(self.path) == 16:
            found = _plain(imagecodecs.png_decode(self.path.read_bytes()), tags)
        else:
            found = _converted(image, tags)
        return upright(found, orientation)

    def close(self) -> None:
        self.image.close()

    def _frames(self) -> list[int]:
        """Smaller ones are thumbnails, depths or gains of a telephone's camera."""
        frames, size = [0], self.image.size
        for number in range(1, getattr(self.image, "n_frames", 1)):
            self.image.seek(number)
            frames += [number] if self.image.size == size else []
        self.image.seek(0)
        return frames


def _png_depth(path: Path) -> int:
    with path.open("rb") as file:
        return file.read(25)[24]


def _plain(array: numpy.ndarray, tags: Tags, remarks: tuple[str, ...] = ()) -> Samples:
    """Gray or colour, with a further channel for transparency."""
    channels = 1 if array.ndim == 2 else array.shape[-1]
    return Samples(
        array,
        colour=channels >= 3,
        alpha=channels - 1 if channels in (2, 4) else None,
        tags=tags,
        remarks=remarks,
    )


def _converted(image: Image.Image, tags: Tags) -> Samples:
    """8 bits, gray or RGB; what the file says is transparent becomes a channel."""
    mode, transparent = image.mode, "transparency" in image.info
    if mode == "1":
        image = image.convert("L")
    elif mode in ("PA", "RGBa") or (transparent and mode in ("P", "RGB")):
        image = image.convert("RGBA")
    elif transparent and mode == "L":
        image = image.convert("LA")
    elif mode in ("P", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"):
        image = image.convert("RGB")
    if mode != "CMYK":
        return _plain(numpy.asarray(image), tags)
    remark = "cyan, magenta, yellow and black are turned into RGB, without a profile"
    return _plain(numpy.asarray(image), replace(tags, profile=None), remarks=(remark,))


def _tags(image: Image.Image) -> Tags:
    resolution = image.info.get("dpi")
    if resolution is not None:
        resolution = (float(resolution[0]), float(resolution[1]))
        resolution = resolution if min(resolution) > 0 else None
    return Tags(
        profile=image.info.get("icc_profile"),
        resolution=resolution,
        unit=2,
        exif=exif_of_image(image),
    )


def check_channels(photograph: Photograph, suffix: str) -> None:
    """Refuse what the format has no place for.

    :raises ImageError: bands.
    """
    if photograph.bands:
        raise ImageError(
            f"{suffix} holds gray or colour, and there are {photograph.pixels.shape[0]} channels; use .tif"
        )


def encoded(photograph: Photograph, suffix: str) -> bytes:
    """A PNG (8 or 16 bits), a WebP (8 bits, lossless) or a JPEG (8 bits, no alpha), with profile, resolution
    and EXIF.

    :raises ImageError: channels or pixels that it cannot hold.
    """
    check_channels(photograph, suffix)
    tags, buffer = photograph.tags, io.BytesIO()
    resolution, height, width = tags.per_inch(), *photograph.pixels.shape[-2:]
    exif = None if tags.exif is None else sized(tags.exif, width, height)
    options = {
        key: value
        for key, value in (("icc_profile", tags.profile), ("dpi", resolution), ("exif", exif))
        if value is not None
    }
    if suffix in (".jpg", ".jpeg"):
        if exif is not None and len(exif) > _LONGEST:
            del options["exif"]
        plain = Photograph(photograph.pixels, None, 8)
        array = stored(plain, numpy.dtype("uint8"), premultiplied=False)
        Image.fromarray(array).save(buffer, "JPEG", quality=95, subsampling=0, **options)
        return buffer.getvalue()
    if suffix == ".webp":
        plain = Photograph(photograph.pixels, photograph.alpha, 8)
        array = stored(plain, numpy.dtype("uint8"), premultiplied=False)
        options.pop("dpi", None)  # has no place there
        Image.fromarray(array).save(buffer, "WEBP", lossless=True, exact=True, **options)
        return buffer.getvalue()
    kind = numpy.dtype("uint8" if photograph.dtype == numpy.uint8 else "uint16")
    array = stored(photograph, kind, premultiplied=False)
    if kind == numpy.uint8:
        Image.fromarray(array).save(buffer, "PNG", **options)
        return buffer.getvalue()
    return _with_tags(bytes(imagecodecs.png_encode(numpy.ascontiguousarray(array))), tags, exif)


def _with_tags(png: bytes, tags: Tags, exif: bytes | None) -> bytes:
    """The chunks of profile, resolution and EXIF behind the header, which imagecodecs does not write."""
    chunks, resolution = b"", tags.per_inch()
    if tags.profile is not None:
        chunks += _chunk(b"iCCP", b"icc\0\0" + zlib.compress(tags.profile))
    if resolution is not None:
        metre = [round(value / 0.0254) for value in resolution]
        chunks += _chunk(b"pHYs", struct.pack(">IIB", *metre, 1))
    if exif is not None:
        chunks += _chunk(b"eXIf", png_chunk(exif))
    end = png.find(b"IHDR") + 21  # 13 bytes and their checksum
    return png[:end] + chunks + png[end:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
