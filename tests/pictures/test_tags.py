"""What a file says beside its pixels is in the file of the result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

from convexreg.pictures.files import PictureFile, read_image, write_image, write_images
from convexreg.pictures.photograph import Photograph, Tags

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
TAGS = Tags(profile=PROFILE, resolution=(300.0, 150.0), unit=2)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_profile_and_resolution(channels: int, bits: int, suffix: str, tmp_path: Path) -> None:
    picture = Photograph(torch.rand(channels, 8, 9), None, bits, tags=TAGS)
    write_image(tmp_path / f"a{suffix}", picture)
    tags = read_image(tmp_path / f"a{suffix}").tags
    assert tags.profile == PROFILE
    assert tags.per_inch() == pytest.approx((300, 150), rel=1e-3)
    if suffix == ".tif" and bits > 8 and channels == 3:
        return  # Pillow does not open it
    with Image.open(tmp_path / f"a{suffix}") as image:  # others read them too
        assert image.info["icc_profile"] == PROFILE
        assert image.info["dpi"] == pytest.approx((300, 150), rel=1e-3)


@pytest.mark.parametrize("bits", [8, 16])
def test_the_resolution_turns_with_the_picture(bits: int, tmp_path: Path) -> None:
    array = numpy.zeros((4, 6), f"uint{bits}")
    tags = [(274, "H", 1, 6, True)]
    tifffile.imwrite(
        tmp_path / "a.tif", array, resolution=(300, 150), resolutionunit=2, extratags=tags
    )
    picture = read_image(tmp_path / "a.tif")
    assert picture.pixels.shape == (1, 6, 4)
    assert picture.tags.resolution == (150, 300)


def _copied(path: Path, again: Path) -> None:
    with PictureFile(path) as file:
        write_images(again, (file.read(i + 1) for i in range(len(file))), file)


def test_metadata_of_imagej(tmp_path: Path) -> None:
    array = numpy.random.default_rng(0).integers(0, 65535, (3, 8, 9), dtype=numpy.uint16)
    metadata = {"axes": "ZYX", "unit": "um", "spacing": 2.5, "Labels": ["a", "b", "c"], "Info": "x"}
    path, again = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(path, array, imagej=True, metadata=metadata, resolution=(4, 4))
    _copied(path, again)
    with tifffile.TiffFile(path) as file, tifffile.TiffFile(again) as copy:
        assert copy.imagej_metadata == file.imagej_metadata
        assert copy.pages.first.resolution == (4, 4)
        assert copy.series[0].axes == "ZYX"
        numpy.testing.assert_array_equal(copy.asarray(), array)
    write_image(again, read_image(path, page=2))  # one slice keeps the size of its pixels
    with tifffile.TiffFile(again) as copy:
        assert copy.imagej_metadata is not None
        assert copy.imagej_metadata["unit"] == "um"
        assert "Labels" not in copy.imagej_metadata
        assert copy.pages.first.resolution == (4, 4)


def test_metadata_of_ome(tmp_path: Path) -> None:
    array = numpy.random.default_rng(0).integers(0, 65535, (2, 3, 8, 9), dtype=numpy.uint16)
    metadata = {
        "axes": "CZYX",
        "PhysicalSizeX": 0.5,
        "PhysicalSizeY": 0.25,
        "Channel": {"Name": ["one", "two"]},
    }
    path, again = tmp_path / "a.ome.tif", tmp_path / "b.ome.tif"
    tifffile.imwrite(path, array, ome=True, metadata=metadata)
    _copied(path, again)
    with tifffile.TiffFile(again) as copy:
        assert copy.is_ome
        assert copy.series[0].axes == "CZYX"
        numpy.testing.assert_array_equal(copy.asarray(), array)
        said = copy.ome_metadata or ""
    for entry in ('PhysicalSizeX="0.5"', 'PhysicalSizeY="0.25"', 'Name="two"'):
        assert entry in said
    picture = read_image(path, page=4)
    assert picture.tags.per_inch() == pytest.approx((25400 / 0.5, 25400 / 0.25))
    write_image(again, picture)  # of one plane the XML would say what is not there
    with tifffile.TiffFile(again) as copy:
        assert not copy.is_ome
        assert copy.pages.first.resolution == pytest.approx((20000, 40000))


def test_descriptions_are_kept(tmp_path: Path) -> None:
    array = numpy.zeros((3, 8, 9), numpy.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", array, description="a cell", metadata=None, photometric="minisblack"
    )
    _copied(tmp_path / "a.tif", tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert (len(file.pages), file.pages.first.description) == (3, "a cell")


def test_smaller_pixels() -> None:
    tags = replace(TAGS, ome="<OME/>").magnified(2)
    assert (tags.resolution, tags.ome, tags.profile) == ((600, 300), None, PROFILE)
    assert Tags(resolution=(4, 4), unit=1).per_inch() is None
    assert Tags().turned() == Tags().magnified(3) == Tags()
