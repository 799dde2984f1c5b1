"""Reading and writing photographs without losing what they hold."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy

from convexreg.files import replacing, write_atomically
from convexreg.pictures.arrays import ArrayPictures, write_arrays
from convexreg.pictures.photograph import ImageError, Photograph
from convexreg.pictures.raster import RasterPictures, check_channels, encoded
from convexreg.pictures.samples import Samples, photograph_of
from convexreg.pictures.stacks import TiffPictures
from convexreg.pictures.tiff_writing import write_tiff

_JPEG = (".jpg", ".jpeg")
_TIFF = (".tif", ".tiff")
_ARRAYS = (".npy", ".npz")
WRITABLE_SUFFIXES = frozenset({".png", ".webp", *_JPEG, *_TIFF, *_ARRAYS})
IMAGE_SUFFIXES = frozenset({*WRITABLE_SUFFIXES, ".bmp"})


class _Decoder(Protocol):
    def __init__(self, path: Path) -> None: ...
    def __len__(self) -> int: ...
    def describe(self) -> str: ...
    def samples(self, index: int) -> Samples: ...
    def close(self) -> None: ...


class PictureFile:
    """An open file and its pictures: one photograph, or pages, slices, channels, arrays. A context manager.

    :param white: see `read_image`.
    :raises ImageError: a missing, truncated or unreadable file, or one that holds no image.
    """

    def __init__(self, path: str | Path, *, white: float | None = None) -> None:
        self.path, self.white = Path(path), white
        if white is not None and not white > 0:
            raise ImageError(f"white must be a positive number, got {white:g}")
        if self.path.is_dir():
            raise ImageError(f"{path} is a folder; name a file")
        if not self.path.is_file():
            raise ImageError(f"there is no file {path}")
        suffix = self.path.suffix.lower()
        if suffix not in IMAGE_SUFFIXES:
            raise ImageError(
                f"{path} is not a supported image type; use one of {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        kind: type[_Decoder] = RasterPictures
        if suffix in _TIFF:
            kind = TiffPictures
        elif suffix in _ARRAYS:
            kind = ArrayPictures
        with self._damage():
            self.decoder = kind(self.path)

    def __len__(self) -> int:
        return len(self.decoder)

    def describe(self) -> str:
        """How many pictures there are, and of what sizes."""
        return self.decoder.describe()

    def read(self, number: int) -> Photograph:
        """Picture `number`, counted from one.

        :raises ImageError: there is none, or it cannot be read.
        """
        if not 1 <= number <= len(self):
            raise ImageError(f"{self.path} has {self.describe()}; there is no page {number}")
        return photograph_of(self.samples(number), self.path, self.white)

    def samples(self, number: int) -> Samples:
        """The numbers of picture `number` as they are stored."""
        with self._damage():
            return self.decoder.samples(number - 1)

    def numbers(self, number: int) -> numpy.ndarray:
        """Of picture `number` as they are stored, `(C, H, W)` in float64, without transparency.

        :raises ImageError: no real numbers, or not of an image.
        """
        found = self.samples(number)
        array = found.array[..., None] if found.array.ndim == 2 else found.array
        if found.alpha is not None:
            array = numpy.delete(array, found.alpha, -1)
        if array.ndim != 3 or 0 in array.shape or array.dtype.kind not in "biuf":
            raise ImageError(
                f"{self.path} has shape {array.shape} and {array.dtype} numbers; an image is (H, W) or "
                "(H, W, C), of real ones"
            )
        return numpy.moveaxis(array, -1, 0).astype(numpy.float64)

    def __enter__(self) -> PictureFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.decoder.close()

    @contextmanager
    def _damage(self) -> Iterator[None]:
        """Decoders raise whatever they stumble over in a damaged file."""
        try:
            yield
        except ImageError:
            raise
        except Exception as error:
            raise ImageError(
                f"{self.path} cannot be read; it is damaged or not an image ({error})"
            ) from error


def read_image(
    path: str | Path, *, white: float | None = None, page: int | None = None
) -> Photograph:
    """Read PNG, TIFF, JPEG, WebP, BMP, NPY or NPZ; integers or floats, gray, colour or bands, alpha.

    The orientation a camera recorded (EXIF) is applied. Integer files are scaled to [0, 1]; float
    files are taken as they are.

    :param white: the number in the file that becomes 1 instead: 4095 for 12-bit data in 16 bits, 255 for
        floats on that scale.
    :param page: which picture of a file with several, counted from one.
    :raises ImageError: a missing, truncated or unreadable file, one whose layout is not an image, or one with
        several pictures, of which none was chosen.
    """
    with PictureFile(path, white=white) as file:
        if page is None and len(file) > 1:
            raise ImageError(
                f"{path} has {file.describe()}; choose one by its page, 1 to {len(file)}"
            )
        return file.read(1 if page is None else page)


def write_image(path: str | Path, photograph: Photograph) -> None:
    """Write in the depth the photograph was read with (WebP: 8 bits; JPEG: 8 bits, no alpha), all or nothing.

    Integer formats are clipped to [0, 1] and rounded; NPY and float TIFF keep every value. Where the
    photograph knows its `white`, values are on that scale (JPEG, WebP: never).

    :raises ImageError: an unsupported suffix, a missing folder, channels that the format has no place for, or
        pixels that are not finite.
    """
    write_images(path, [photograph])


def write_images(
    path: str | Path, photographs: Iterable[Photograph], source: PictureFile | None = None
) -> None:
    """Write pictures, each as soon as it is there; all or nothing.

    :param source: the file that they all come from, whose stacks they are arranged in again.
    :raises ImageError: see `write_image`; several pictures in a format that holds one.
    """
    path = Path(path)
    check_writable(path, pictures=1 if source is None else len(source))
    suffix = path.suffix.lower()
    if suffix not in (*_TIFF, *_ARRAYS):
        (photograph,) = photographs
        write_atomically(path, encoded(photograph, suffix))
        return
    decoder = None if source is None else source.decoder
    with replacing(path) as unfinished:
        if suffix in _ARRAYS:
            shapes = decoder.shapes if isinstance(decoder, ArrayPictures) else None
            write_arrays(unfinished, photographs, shapes, archive=suffix == ".npz")
        elif source is None:
            write_tiff(unfinished, photographs, 1)
        else:
            layout = decoder.layout() if isinstance(decoder, TiffPictures) else None
            write_tiff(unfinished, photographs, len(source), layout)


def check_writable(
    path: str | Path, photograph: Photograph | None = None, *, pictures: int = 1
) -> None:
    """Fail before the work is done if the result could not be written.

    :param photograph: whose channels the format has to hold.
    :param pictures: how many go into the file.
    :raises ImageError: an unsupported suffix, a format that does not hold it, or a folder that is missing or
        not writable.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if path.is_dir():
        raise ImageError(f"{path} is a folder; name the file to write")
    if suffix not in WRITABLE_SUFFIXES:
        raise ImageError(
            f"cannot write {path}: use a suffix of {', '.join(sorted(WRITABLE_SUFFIXES))}"
        )
    if not path.parent.is_dir():
        raise ImageError(f"the output folder {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise ImageError(f"the output folder {path.parent} is not writable; choose another")
    if suffix in (*_TIFF, *_ARRAYS):
        return
    if pictures > 1:
        raise ImageError(
            f"cannot write {path}: {suffix} holds one picture, and there are {pictures}; use .tif, or choose "
            "one by its page"
        )
    if photograph is not None:
        check_channels(photograph, suffix)
