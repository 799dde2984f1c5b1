"""What a camera says is in the file of the result, and turns a picture once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import tifffile
import torch
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from convexreg.pictures.exif import exif_of
from convexreg.pictures.files import read_image, write_image
from convexreg.pictures.photograph import Photograph, Tags

CAMERA, PLACE = 0x8769, 0x8825
EXPOSURE, LATITUDE = 33434, 2


def _said(orientation: int | None = None) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Artist] = "Maker", "Jane"
    exif[ExifTags.Base.DateTime] = "2026:11:27 10:00:00"
    exif[ExifTags.Base.XResolution] = 72.0
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    exif[CAMERA] = {EXPOSURE: IFDRational(1, 125), 37500: b"\x01maker's own", 40962: 9, 40963: 8}
    exif[PLACE] = {1: "N", LATITUDE: (50.0, 6.0, 0.5)}
    return exif


FORMATS = ("jpg", "png", "tif", "webp")


def _stored(path: Path, bits: int, orientation: int) -> torch.Tensor:
    """A picture with EXIF, as others write it; its pixels as they lie in the file."""
    array = numpy.arange(72, dtype=numpy.uint8).reshape(8, 9) * 3
    if path.suffix == ".tif":
        Image.fromarray(array).save(path, exif=_said(orientation).tobytes())
    elif bits == 16:
        block = exif_of(_said())
        tags = Tags(exif=block)
        write_image(path, Photograph(torch.from_numpy(array / 255.0)[None], None, 16, tags=tags))
    else:
        options = {"lossless": True} if path.suffix == ".webp" else {"quality": 100}
        Image.fromarray(array).convert("RGB").save(path, exif=_said(orientation), **options)
    return torch.from_numpy(array / 255.0)


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_from_every_format_to_every_other(source: str, target: str, tmp_path: Path) -> None:
    """Turned by a quarter when it is read, and never again."""
    array = _stored(tmp_path / f"a.{source}", 8, 6)
    picture = read_image(tmp_path / f"a.{source}")
    right = torch.rot90(array, -1)
    assert (picture.gray()[0] - right).abs().max() < 0.02
    for bits in (8, 16) if target in ("png", "tif") else (8,):
        path = tmp_path / f"b{bits}.{target}"
        write_image(path, replace(picture, bits=bits))
        again = read_image(path)
        assert again.pixels.shape[1:] == (9, 8)
        assert (again.gray()[0] - right).abs().max() < 0.03
        found = Image.Exif()
        with path.open("rb") as file:
            if target == "tif":
                found.load_from_fp(file)
                camera, place = found.get_ifd(CAMERA), found.get_ifd(PLACE)
            else:
                with Image.open(file) as image:  # others read it too
                    found = image.getexif()
                    camera, place = found.get_ifd(CAMERA), found.get_ifd(PLACE)
        assert ExifTags.Base.Orientation not in found
        assert found[ExifTags.Base.Make] == "Maker"
        assert float(camera[EXPOSURE]) == 1 / 125
        assert camera[37500] == b"\x01maker's own"
        assert (camera[40962], camera[40963]) == (8, 9)  # turned with the picture
        assert [float(part) for part in place[LATITUDE]] == [50, 6, 0.5]


def test_other_programs_read_the_pixels_beside_it(tmp_path: Path) -> None:
    _stored(tmp_path / "a.tif", 8, 1)
    picture = read_image(tmp_path / "a.tif")
    write_image(tmp_path / "b.tif", picture)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        numpy.testing.assert_array_equal(file.asarray(), (picture.pixels[0] * 255).round())
        assert file.pages.first.tags["ExifTag"].value["ExposureTime"] == (1, 125)
    with Image.open(tmp_path / "b.tif") as image:
        image.load()
        assert image.getexif().get_ifd(PLACE)[1] == "N"


def test_damaged_metadata_are_no_reason_to_refuse_the_pixels(tmp_path: Path) -> None:
    image = Image.new("L", (20, 20), 90)
    for name, exif in (("a.png", b"Exif\0\0II*\0\xff\xff\xff\x7f"), ("a.jpg", b"Exif\0\0nonsense")):
        image.save(tmp_path / name, exif=exif)
        assert read_image(tmp_path / name).tags.exif is None


def test_without_anything_to_keep() -> None:
    exif = Image.Exif()
    assert exif_of(exif) is None
    exif[ExifTags.Base.Orientation] = 6
    assert exif_of(exif) is None
