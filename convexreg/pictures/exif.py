"""What a camera says of a photograph (EXIF), read from any format and kept for the result."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, TiffImagePlugin

_CAMERA, _PLACE = int(ExifTags.IFD.Exif), int(ExifTags.IFD.GPSInfo)
_KEPT = (
    *(int(tag) for tag in (ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software)),
    *(int(tag) for tag in (ExifTags.Base.DateTime, ExifTags.Base.Artist, ExifTags.Base.Copyright)),
)
"""Beside the two directories. Orientation is applied to the pixels; thumbnails are of the noisy picture."""
_WIDTH, _HEIGHT = 40962, 40963
_SOFTWARE = int(ExifTags.Base.Software)
"""Which tifffile takes as an argument."""
_OPEN = {_CAMERA: 65000, _PLACE: 65001}
"""Private tags in the place of those that tifffile does not write."""
_HEADER = b"Exif\0\0"


def exif_of(source: Image.Exif) -> bytes | None:
    """A block with what is kept of it, without the orientation; `None` where that is nothing."""
    kept = Image.Exif()
    try:
        for tag in _KEPT:
            if tag in source:
                kept[tag] = source[tag]
        for tag in (_CAMERA, _PLACE):
            if tag in source and (entries := source.get_ifd(tag)):
                kept[tag] = dict(entries)
        return kept.tobytes() if len(kept) else None
    except (
        Exception
    ):  # damaged metadata are no reason to refuse the pixels, whatever Pillow stumbles over
        return None


def exif_of_image(image: Image.Image) -> bytes | None:
    """That of an open file."""
    try:
        return exif_of(image.getexif())
    except Exception:  # see `exif_of`
        return None


def orientation_of(image: Image.Image) -> int:
    """How the pixels of an open file lie, 1 to 8; 1 where that is damaged."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # see `exif_of`
        return 1


def exif_of_tiff(path: Path) -> bytes | None:
    """That of the first page."""
    source = Image.Exif()
    try:
        with path.open("rb") as file:
            source.load_from_fp(file)
            return exif_of(source)
    except Exception:  # see `exif_of`
        return None


def sized(exif: bytes, width: int, height: int) -> bytes:
    """The same of a picture of another size, if it names one."""
    source = _loaded(exif)
    entries = source.get_ifd(_CAMERA)
    if not {_WIDTH, _HEIGHT} & set(entries):
        return exif
    entries[_WIDTH], entries[_HEIGHT] = width, height  # Pillow keeps the directory it has given
    return exif_of(source) or exif


def png_chunk(exif: bytes) -> bytes:
    """What the chunk eXIf of a PNG holds."""
    return exif.removeprefix(_HEADER)


def tiff_tags(exif: bytes) -> list[tuple[int, int, int, Any, bool]]:
    """For the first page of a TIFF; the offsets of the directories are filled in by `add_directories`."""
    source = _loaded(exif)
    texts = ((tag, str(source[tag])) for tag in _KEPT if tag in source and tag != _SOFTWARE)
    tags: list[tuple[int, int, int, Any, bool]] = [
        (tag, 2, 0, text.encode(), True) for tag, text in texts if text
    ]
    return tags + [(other, 4, 1, 0, True) for tag, other in _OPEN.items() if source.get_ifd(tag)]


def software(exif: bytes) -> str | None:
    """The program that it names."""
    named = _loaded(exif).get(_SOFTWARE)
    return None if named is None else str(named)


def add_directories(path: Path, exif: bytes) -> None:
    """Write the directories that `tiff_tags` left open at the end of a classic TIFF."""
    source = _loaded(exif)
    with path.open("r+b") as file:
        order = {b"II": "<", b"MM": ">"}[file.read(2)]
        file.seek(4)
        (begin,) = struct.unpack(order + "I", file.read(4))
        file.seek(begin)
        (count,) = struct.unpack(order + "H", file.read(2))
        entries = {}
        for _ in range(count):
            entry = file.read(12)
            entries[struct.unpack(order + "H", entry[:2])[0]] = entry
        for tag, other in _OPEN.items():
            if other not in entries:
                continue
            del entries[other]
            end = file.seek(0, 2)
            end += file.write(bytes(end % 2))
            file.write(_directory(source.get_ifd(tag), end, order))
            entries[tag] = struct.pack(order + "HHII", tag, 4, 1, end)
        file.seek(begin + 2)
        file.write(b"".join(entries[tag] for tag in sorted(entries)))


def _directory(entries: Mapping[int, Any], offset: int, order: str) -> bytes:
    """Of classic TIFF, to lie at an offset."""
    head = b"II" if order == "<" else b"MM"
    directory = TiffImagePlugin.ImageFileDirectory_v2(
        ifh=head + struct.pack(order + "HI", 42, 8),
    )
    for tag, value in entries.items():
        if not isinstance(value, dict):
            directory[tag] = value
    return directory.tobytes(offset)


def _loaded(exif: bytes) -> Image.Exif:
    source = Image.Exif()
    source.load(exif)
    return source
