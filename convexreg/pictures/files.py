"""Reading and writing photographs without losing what they hold."""

from __future__ import annotations

import io
import os
from pathlib import Path

import imagecodecs
import numpy
import tifffile
import torch
from PIL import ExifTags, Image, ImageOps

from convexreg.files import write_atomically
from convexreg.pictures.photograph import ImageError, Photograph, UnknownWhite
from convexreg.pictures.tiff import read_tiff, upright

IMAGE_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg", ".npy", ".bmp"})
WRITABLE_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg", ".npy"})

# what noise can make of an image in [0, 1]
_LARGEST_FLOAT = 10.0


def read_image(path: str | Path, *, white: float | None = None) -> Photograph:
    """Read PNG, TIFF, JPEG, BMP or NPY; 8 or 16 bit or float, gray or colour, with or without alpha.

    The orientation a camera recorded (EXIF) is applied. Integer files are scaled to [0, 1]; float
    files are taken as they are.

    :param white: the number in the file that becomes 1 instead: 4095 for 12-bit data in 16 bits, 255 for
        floats on that scale.
    :raises ImageError: a missing, truncated or unreadable file, or one whose layout is not an image.
    """
    path = Path(path)
    if white is not None and not white > 0:
        raise ImageError(f"white must be a positive number, got {white:g}")
    if path.is_dir():
        raise ImageError(f"{path} is a folder; name a file")
    if not path.is_file():
        raise ImageError(f"there is no file {path}")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise ImageError(
            f"{path} is not a supported image type; use one of {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    largest = None
    try:
        match path.suffix.lower():
            case ".npy":
                with path.open("rb") as file:
                    array = numpy.lib.format.read_array(file, allow_pickle=False)
            case ".tif" | ".tiff":
                array, largest = read_tiff(path)
            case _:
                array = _read_pillow(path)
    except ImageError:
        raise
    except Exception as error:  # decoders raise whatever they stumble over in a damaged file
        raise ImageError(
            f"{path} cannot be read; it is damaged or not an image ({error})"
        ) from error
    return _from_array(array, path, white, largest)


def _read_pillow(path: Path) -> numpy.ndarray:
    with Image.open(path) as image:
        image.load()  # raises on truncated files
        if image.format == "PNG" and _png_depth(path) == 16:
            # Pillow reduces colour to 8 bits
            array = imagecodecs.png_decode(path.read_bytes())
            return upright(array, image.getexif().get(ExifTags.Base.Orientation, 1))
        image = ImageOps.exif_transpose(image)
        if image.mode == "1":
            image = image.convert("L")
        elif image.mode in ("PA", "RGBa") or (image.mode == "P" and "transparency" in image.info):
            image = image.convert("RGBA")
        elif image.mode in ("P", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"):
            image = image.convert("RGB")
        return numpy.asarray(image)


def _png_depth(path: Path) -> int:
    with path.open("rb") as file:
        return file.read(25)[24]


def _from_array(
    array: numpy.ndarray, path: Path, white: float | None, largest: int | None
) -> Photograph:
    """:param largest: the white of a packed depth, whose type could hold more."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 2, 3, 4) or 0 in array.shape:
        first = "; move its channels to the end" if array.ndim == 3 and array.shape[0] <= 4 else ""
        raise ImageError(
            f"{path} has shape {array.shape}; an image is (H, W) or (H, W, C) with 1 to 4 channels{first}"
        )
    if array.dtype.kind == "b":
        bits, scale = 8, 1.0
    elif array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        bits = 8 * array.dtype.itemsize
        scale = float(largest or 2**bits - 1)
    elif array.dtype.kind == "f":
        bits, scale = 32, 1.0
    else:
        raise ImageError(
            f"{path} holds {array.dtype} numbers; use 8 or 16 bit unsigned integers, or floats in [0, 1]"
        )
    if bits < 32 and white is not None and white > scale:
        raise ImageError(
            f"{path} has {bits} bits, so that its white is at most {scale:g}; got {white:g}"
        )
    planes = torch.from_numpy(
        numpy.ascontiguousarray(numpy.moveaxis(array, -1, 0)).astype(numpy.float32)
    )
    has_alpha = planes.shape[0] in (2, 4)
    colours = planes.shape[0] - has_alpha
    planes[:colours] /= white or scale
    planes[colours:] /= scale
    white = white or largest
    if not torch.isfinite(planes).all():
        raise ImageError(f"{path} holds NaN or infinite pixels; replace them first")
    if bits == 32 and white is None and planes.abs().max() > _LARGEST_FLOAT:
        raise UnknownWhite(
            f"{path} holds floating-point pixels up to {planes.abs().max().item():g}; they should lie in "
            "[0, 1], up to noise. Name the value of white, such as 255"
        )
    return Photograph(planes[:colours], planes[colours:] if has_alpha else None, bits, white)


def write_image(path: str | Path, photograph: Photograph) -> None:
    """Write in the depth the photograph was read with (JPEG: 8 bits, no alpha), all or nothing.

    Integer formats are clipped to [0, 1] and rounded; NPY and float TIFF keep every value. Where the
    photograph knows its `white`, values are on that scale (JPEG: never).

    :raises ImageError: an unsupported suffix, a missing folder, or pixels that are not finite.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    check_writable(path)
    planes = photograph.pixels.detach().cpu().float()
    if photograph.alpha is not None and suffix not in (".jpg", ".jpeg"):
        planes = torch.cat([planes, photograph.alpha])
    if not torch.isfinite(planes).all():
        raise ImageError(f"cannot write {path}: there are NaN or infinite pixels")
    array = planes.movedim(0, -1).numpy()
    bits, white = photograph.bits, photograph.white
    if suffix in (".jpg", ".jpeg"):
        bits, white = 8, None
    elif bits == 32 and suffix == ".png":
        bits, white = 16, None
    whole = suffix == ".npy" or bits == 32
    largest = 1 if whole else 2**bits - 1
    limits = numpy.full(array.shape[-1], largest, numpy.float32)
    limits[: photograph.pixels.shape[0]] = white or largest  # alpha knows no other white
    if whole:
        array = array * limits
    else:
        kind = numpy.uint8 if bits == 8 else numpy.uint16
        array = numpy.round(array.clip(0, 1) * limits).astype(kind)
    array = array[..., 0] if array.shape[-1] == 1 else array
    write_atomically(path, _encode(array, suffix))


def check_writable(path: str | Path) -> None:
    """Fail before the work is done if the result could not be written.

    :raises ImageError: an unsupported suffix, or a folder that is missing or not writable.
    """
    path = Path(path)
    if path.is_dir():
        raise ImageError(f"{path} is a folder; name the file to write")
    if path.suffix.lower() not in WRITABLE_SUFFIXES:
        raise ImageError(
            f"cannot write {path}: use a suffix of {', '.join(sorted(WRITABLE_SUFFIXES))}"
        )
    if not path.parent.is_dir():
        raise ImageError(f"the output folder {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise ImageError(f"the output folder {path.parent} is not writable; choose another")


def _encode(array: numpy.ndarray, suffix: str) -> bytes:
    buffer = io.BytesIO()
    if suffix == ".npy":
        numpy.save(buffer, array, allow_pickle=False)
    elif suffix in (".tif", ".tiff"):
        channels = 1 if array.ndim == 2 else array.shape[-1]
        tifffile.imwrite(
            buffer,
            array,
            photometric="rgb" if channels >= 3 else "minisblack",
            extrasamples=["unassalpha"] if channels in (2, 4) else None,
        )
    elif array.dtype == numpy.uint16:
        return bytes(imagecodecs.png_encode(numpy.ascontiguousarray(array)))
    else:
        options = {"quality": 95, "subsampling": 0} if suffix in (".jpg", ".jpeg") else {}
        kind = "JPEG" if options else "PNG"
        Image.fromarray(array).save(buffer, format=kind, **options)
    return buffer.getvalue()
