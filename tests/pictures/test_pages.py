"""Files of several pictures: none is dropped or taken for another in silence, and thumbnails are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import tifffile
import torch
from PIL import Image

from convexreg.pictures.files import PictureFile, check_writable, read_image, write_images
from convexreg.pictures.photograph import ImageError
from tests.tables import over

SHAPE = (40, 56)
GRAY = numpy.random.default_rng(0).integers(0, 65535, (12, *SHAPE), dtype=numpy.uint16)
COLOUR = numpy.random.default_rng(1).integers(0, 255, (3, *SHAPE, 3), dtype=numpy.uint8)


def _imagej(axes: str, count: int, **options):
    shape = {"ZYX": (count,), "CYX": (count,), "TZCYX": (2, count // 4, 2)}[axes]

    def write(path: Path) -> list[numpy.ndarray]:
        array = GRAY[:count].reshape(*shape, *SHAPE)
        tifffile.imwrite(path, array, imagej=True, metadata={"axes": axes}, **options)
        return list(GRAY[:count])

    return write


def _ome(path: Path) -> list[numpy.ndarray]:
    array = GRAY[:6].reshape(2, 3, *SHAPE)
    tifffile.imwrite(path, array, ome=True, metadata={"axes": "CZYX"})
    return list(GRAY[:6])


def _pages(path: Path) -> list[numpy.ndarray]:
    with tifffile.TiffWriter(path) as file:
        for page in (GRAY[0], COLOUR[0], GRAY[1]):
            file.write(page, metadata=None)
    return [GRAY[0], COLOUR[0], GRAY[1]]


def _sizes(path: Path) -> list[numpy.ndarray]:
    with tifffile.TiffWriter(path) as file:
        file.write(GRAY[0])
        file.write(GRAY[1, :17])
    return [GRAY[0], GRAY[1, :17]]


def _imagej_colour(path: Path) -> list[numpy.ndarray]:
    tifffile.imwrite(path, COLOUR, imagej=True, metadata={"axes": "ZYXS"})
    return list(COLOUR)


def _array(path: Path) -> list[numpy.ndarray]:
    numpy.save(path, GRAY[:10].reshape(2, 5, *SHAPE))
    return list(GRAY[:10])


def _colour_array(path: Path) -> list[numpy.ndarray]:
    numpy.save(path, COLOUR)
    return list(COLOUR)


def _three(path: Path) -> list[numpy.ndarray]:
    numpy.save(path, GRAY[:3])
    return list(GRAY[:3])


def _archive(path: Path) -> list[numpy.ndarray]:
    numpy.savez(path, a=GRAY[0], b=GRAY[1:4], c=COLOUR[0])
    return [*GRAY[:4], COLOUR[0]]


def _animated(path: Path) -> list[numpy.ndarray]:
    frames = [Image.fromarray(frame) for frame in COLOUR]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    return list(COLOUR)


STACKS: dict[str, tuple[str, Callable[[Path], list[numpy.ndarray]]]] = {
    "ImageJ": (".tif", _imagej("ZYX", 5)),
    "ImageJ, one directory": (".tif", _imagej("ZYX", 5, truncate=True)),
    "ImageJ, big-endian": (".tif", _imagej("ZYX", 3, truncate=True, byteorder=">")),
    "ImageJ, dyes": (".tif", _imagej("CYX", 2)),
    "ImageJ, hyperstack": (".tif", _imagej("TZCYX", 12)),
    "ImageJ, colour": (".tif", _imagej_colour),
    "OME": (".tif", _ome),
    "pages": (".tif", _pages),
    "sizes": (".tif", _sizes),
    "array": (".npy", _array),
    "colour array": (".npy", _colour_array),
    "array of three": (".npy", _three),
    "archive": (".npz", _archive),
    "animated": (".png", _animated),
}


def _planes(array: numpy.ndarray) -> torch.Tensor:
    largest = numpy.iinfo(array.dtype).max
    planes = torch.from_numpy(array.astype(numpy.float32) / largest)
    return planes[None] if planes.ndim == 2 else planes.movedim(-1, 0)


@over("stack", STACKS)
def test_every_picture_is_there_and_one_is_chosen(stack, tmp_path: Path) -> None:
    suffix, write = stack
    path = tmp_path / f"a{suffix}"
    pictures = write(path)
    with pytest.raises(ImageError, match=f"has {len(pictures)} pictures.*by its page, 1 to"):
        read_image(path)
    for number, array in enumerate(pictures, 1):
        torch.testing.assert_close(read_image(path, page=number).pixels, _planes(array))
    with pytest.raises(ImageError, match=f"there is no page {len(pictures) + 1}"):
        read_image(path, page=len(pictures) + 1)
    # and written again, in the same arrangement
    again = tmp_path / f"b{suffix if suffix != '.png' else '.tif'}"
    with PictureFile(path) as file:
        write_images(again, (file.read(i + 1) for i in range(len(file))), file)
    with PictureFile(path) as file, PictureFile(again) as copy:
        assert len(copy) == len(pictures)
        for number in range(1, len(file) + 1):
            torch.testing.assert_close(copy.read(number).pixels, file.read(number).pixels)
        if suffix == ".tif":
            assert sorted(map(_arrangement, copy.decoder.series)) == sorted(
                map(_arrangement, file.decoder.series)
            )
        if suffix == ".npy":
            assert numpy.load(path).shape == numpy.load(again).shape


def _arrangement(series: tifffile.TiffPageSeries) -> tuple[str, tuple[int, ...]]:
    return series.axes, series.shape


def _thumbnail_first(file: tifffile.TiffWriter) -> None:
    file.write(GRAY[0, ::4, ::4], subfiletype=1)
    file.write(GRAY[0])


def _colour_thumbnail(file: tifffile.TiffWriter) -> None:
    file.write(COLOUR[0, ::4, ::4], subfiletype=1)
    file.write(GRAY[0])


def _unmarked(file: tifffile.TiffWriter) -> None:
    file.write(GRAY[0])
    file.write(GRAY[0, ::3, ::3])


def _camera(file: tifffile.TiffWriter) -> None:
    """The picture in a directory below that of its thumbnail."""
    file.write(GRAY[0, ::4, ::4], subfiletype=1, subifds=1)
    file.write(GRAY[0])


def _pyramid(file: tifffile.TiffWriter) -> None:
    file.write(GRAY[0], subifds=2)
    file.write(GRAY[0, ::2, ::2], subfiletype=1)
    file.write(GRAY[0, ::4, ::4], subfiletype=1)


THUMBNAILS = {
    f.__name__: f for f in (_thumbnail_first, _colour_thumbnail, _unmarked, _camera, _pyramid)
}


@over("write", THUMBNAILS)
def test_thumbnails_are_no_pictures(write, tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        write(file)
    torch.testing.assert_close(read_image(tmp_path / "a.tif").pixels, _planes(GRAY[0]))


@pytest.mark.parametrize(("step", "count"), [(2, 1), (1, 2)])
def test_second_pictures_of_telephones(step: int, count: int, tmp_path: Path) -> None:
    """A gain map is smaller; the other eye of a stereo camera is not."""
    second = Image.fromarray(COLOUR[1, ::step, ::step])
    first = Image.fromarray(COLOUR[0])
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    with PictureFile(tmp_path / "a.jpg") as file:
        assert len(file) == count


def test_masks_are_no_pictures(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GRAY[0], metadata=None)
        file.write(GRAY[1] > 9, metadata=None, photometric="minisblack", subfiletype=2)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[1].tags[254].overwrite(4)
    torch.testing.assert_close(read_image(tmp_path / "a.tif").pixels, _planes(GRAY[0]))


def test_several_pictures_need_a_format_that_holds_them(tmp_path: Path) -> None:
    for suffix in (".png", ".jpg"):
        with pytest.raises(ImageError, match="holds one picture, and there are 3"):
            check_writable(tmp_path / f"a{suffix}", pictures=3)
    path = tmp_path / "a.tif"
    _sizes(path)
    with PictureFile(path) as file, pytest.raises(ImageError, match="several sizes are no array"):
        write_images(tmp_path / "a.npy", (file.read(i) for i in (1, 2)), file)
    assert [item.name for item in tmp_path.iterdir()] == ["a.tif"]


def test_axes_that_could_be_channels_are_refused(tmp_path: Path) -> None:
    numpy.save(tmp_path / "a.npy", numpy.zeros((64, 64, 31), numpy.uint8))
    with pytest.raises(ImageError, match="if its last axis holds bands, move it to the front"):
        read_image(tmp_path / "a.npy")
