"""TIFF: the same pixels read the same, however they are stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import tifffile
import torch
from PIL import Image

from convexreg.pictures.files import read_image, write_image
from convexreg.pictures.photograph import ImageError, UnknownWhite
from tests.photographs import HEIGHT, MODES, WIDTH, array_of, assert_same, photograph
from tests.tables import over

STORED: dict[str, dict] = {
    "plain": {},
    "tiled": {"tile": (16, 16)},
    "strips": {"rowsperstrip": 5},
    "bigtiff": {"bigtiff": True},
    "packbits": {"compression": "packbits"},
    "deflate": {"compression": "zlib"},
    "deflate-predicted": {"compression": "zlib", "predictor": True},
    "lzw": {"compression": "lzw"},
    "lzw-predicted": {"compression": "lzw", "predictor": True},
    "lzw-tiled": {"compression": "lzw", "predictor": True, "tile": (16, 16)},
    "zstd-predicted": {"compression": "zstd", "predictor": True},
    "lzma": {"compression": "lzma"},
}


def _kind(mode: tuple[int, bool]) -> dict:
    photometric = "rgb" if mode[0] == 3 else "minisblack"
    return {
        "photometric": photometric,
        "extrasamples": ["unassalpha"] if mode[1] else None,
    }


@over("options", STORED)
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16, 32])
@over("mode", MODES)
def test_layouts(
    mode: tuple[int, bool], bits: int, byteorder: str, options: dict, tmp_path: Path
) -> None:
    picture, path = photograph(*mode, bits), tmp_path / "a.tif"
    tifffile.imwrite(path, array_of(picture), byteorder=byteorder, **_kind(mode), **options)
    assert_same(read_image(path), picture)


@over("options", STORED)
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_separate_planes(bits: int, options: dict, tmp_path: Path) -> None:
    picture, path = photograph(3, False, bits), tmp_path / "a.tif"
    planes = numpy.moveaxis(array_of(picture), -1, 0)
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", **options)
    assert_same(read_image(path), picture)


@over("options", STORED)
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_white_is_zero(bits: int, alpha: bool, options: dict, tmp_path: Path) -> None:
    picture, path = photograph(1, alpha, bits), tmp_path / "a.tif"
    array = array_of(picture).copy()  # floats share memory
    gray = array[..., 0] if alpha else array
    gray[...] = (1 if bits == 32 else 2**bits - 1) - gray
    extra = ["unassalpha"] if alpha else None
    tifffile.imwrite(path, array, photometric="miniswhite", extrasamples=extra, **options)
    assert_same(read_image(path), picture)


def _write_packed(path: Path, array: numpy.ndarray, bits: int, **options: Any) -> None:
    try:
        tifffile.imwrite(path, array, bitspersample=bits, **options)
    except NotImplementedError:
        pytest.skip("this version of imagecodecs reads packed depths, but does not write them")


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 9, 10, 12, 14])
@over("mode", {key: mode for key, mode in MODES.items() if key != "gray-alpha"})
def test_packed_depths(mode: tuple[int, bool], bits: int, tmp_path: Path) -> None:
    """Above eight bits the white is kept, to be written again; below, they are spread over eight."""
    largest, path = 2**bits - 1, tmp_path / "a.tif"
    levels = (torch.rand(sum(mode), HEIGHT, WIDTH) * largest).round()
    array = levels.movedim(0, -1).numpy().astype(numpy.uint8 if bits <= 8 else numpy.uint16)
    array = array[..., 0] if sum(mode) == 1 else array
    _write_packed(path, array, bits, **_kind(mode))
    result = read_image(path)
    assert result.white == (largest if bits > 8 else None)
    parts = [result.pixels] if result.alpha is None else [result.pixels, result.alpha]
    error = 0.5 / 255 if bits < 8 else 1e-6
    torch.testing.assert_close(torch.cat(parts), levels / largest, rtol=0, atol=error + 1e-6)


@pytest.mark.parametrize("shift", [0, 8])
@pytest.mark.parametrize("bits", [4, 8])
def test_colour_maps(bits: int, shift: int, tmp_path: Path) -> None:
    """Of 16 bits, as it should be, and of 8."""
    generator = numpy.random.default_rng(0)
    colours = generator.integers(0, 256, (3, 2**bits)).astype(numpy.uint16)
    index = generator.integers(0, 2**bits, (HEIGHT, WIDTH)).astype(numpy.uint8)
    path, stored = tmp_path / "a.tif", (colours << shift).ravel().tolist()
    tags = [("ColorMap", "H", len(stored), stored, True)]  # tifffile writes maps of 8 bits only
    _write_packed(path, index, bits, photometric="minisblack", extratags=tags)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages.first.tags["PhotometricInterpretation"].overwrite(3)
    expected = torch.from_numpy(colours[:, index].astype(numpy.float32)) / 255
    torch.testing.assert_close(read_image(path).pixels, expected)


@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("alpha", [False, True])
def test_inks_without_a_profile(
    alpha: bool, bits: int, compression: str | None, tmp_path: Path
) -> None:
    """Half the black, and the complement of the colours."""
    picture, path = photograph(3, alpha, bits), tmp_path / "a.tif"
    array = array_of(picture)
    white = 1 if bits == 32 else 2**bits - 1
    black = numpy.full_like(array[..., :1], white // 2 if bits < 32 else 0.5)
    inks = numpy.concatenate([white - array[..., :3], black, array[..., 3:]], -1)
    extra = ["unassalpha"] if alpha else None
    tifffile.imwrite(
        path, inks, photometric="separated", extrasamples=extra, compression=compression
    )
    darker = picture.pixels * (1 - float(black.flat[0]) / white)
    result = read_image(path)
    torch.testing.assert_close(
        result.pixels, darker, rtol=0, atol=0.51 / 255 if bits == 8 else 1e-5
    )
    assert (result.alpha is None) != alpha
    if result.alpha is not None and picture.alpha is not None:
        torch.testing.assert_close(result.alpha, picture.alpha, rtol=0, atol=1e-7)


def _scene() -> Image.Image:
    ramp = numpy.add.outer(numpy.arange(32) * 3, numpy.arange(48) * 2)
    return Image.fromarray((ramp[..., None] + [0, 9, 30]).astype(numpy.uint8))


EDITORS: dict[str, tuple[Callable[[Image.Image], Image.Image], dict, float]] = {
    "gray lzw": (lambda image: image.convert("L"), {"compression": "tiff_lzw"}, 0),
    "colour lzw": (lambda image: image, {"compression": "tiff_lzw"}, 0),
    "colour packbits": (lambda image: image, {"compression": "packbits"}, 0),
    "transparent deflate": (lambda i: i.convert("RGBA"), {"compression": "tiff_deflate"}, 0),
    "jpeg": (lambda image: image, {"compression": "jpeg", "quality": 95}, 8 / 255),
    "jpeg of chroma": (lambda image: image.convert("YCbCr"), {"compression": "jpeg"}, 16 / 255),
    "chroma": (lambda image: image.convert("YCbCr"), {}, 2 / 255),
    "chroma lzw": (lambda image: image.convert("YCbCr"), {"compression": "tiff_lzw"}, 2 / 255),
}


@over("row", EDITORS)
def test_files_of_photo_editors(row, tmp_path: Path) -> None:
    """What libtiff writes, beside Pillow's own conversion."""
    convert, options, error = row
    image = convert(_scene())
    image.save(tmp_path / "a.tif", **options)
    shown = numpy.asarray(image.convert("RGB") if image.mode == "YCbCr" else image)
    planes = torch.from_numpy(shown.reshape(32, 48, -1).copy()).movedim(-1, 0).float() / 255
    result = read_image(tmp_path / "a.tif")
    colours = result.pixels.shape[0]
    torch.testing.assert_close(result.pixels, planes[:colours], rtol=0, atol=error + 1e-6)


def test_other_colour_spaces_are_refused(tmp_path: Path) -> None:
    image = numpy.zeros((8, 9, 3), numpy.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="cielab")
    with pytest.raises(ImageError, match="colour space CIELAB; save it as RGB or gray"):
        read_image(tmp_path / "a.tif")


def test_compressions_that_cannot_be_decoded_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, numpy.zeros((8, 9), numpy.uint8))
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages.first.tags["Compression"].overwrite(32766)  # of the NeXT computer
    with pytest.raises(ImageError, match=r"compressed with NEXT, .* save the file without"):
        read_image(path)


def test_a_thumbnail_is_passed_over(tmp_path: Path) -> None:
    picture = photograph(1, False, 8)
    array = array_of(picture)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(array)
        writer.write(255 - array[::2, ::2])
    assert_same(read_image(tmp_path / "a.tif"), picture)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "u4", "f2", "f8"])
@pytest.mark.parametrize("options", [{}, {"compression": "lzw"}], ids=str)
def test_other_numbers(options: dict, kind: str, byteorder: str, tmp_path: Path) -> None:
    """Signed, half, double, and integers whose white has to be named; written as they were."""
    dtype, path = numpy.dtype(byteorder + kind), tmp_path / "a.tif"
    white = 1.0 if dtype.kind == "f" else float(min(numpy.iinfo(dtype).max, 4000))
    values = numpy.linspace(-0.2 if dtype.kind != "u" else 0, 1, HEIGHT * WIDTH).reshape(
        HEIGHT, WIDTH
    )
    array = (values * white if dtype.kind == "f" else numpy.round(values * white)).astype(dtype)
    tifffile.imwrite(path, array, photometric="minisblack", byteorder=byteorder, **options)
    if dtype.itemsize == 4:
        with pytest.raises(UnknownWhite, match="Name the value of white"):
            read_image(path)
    result = read_image(path, white=None if white == 1 else white)
    torch.testing.assert_close(
        result.pixels[0], torch.from_numpy(array.astype(numpy.float64) / white).float()
    )
    write_image(tmp_path / "b.tif", result)
    again = tifffile.imread(tmp_path / "b.tif")
    assert again.dtype == (numpy.float32 if dtype.kind == "f" else dtype.newbyteorder("="))
    numpy.testing.assert_allclose(again, array, rtol=1e-3 if kind == "f2" else 1e-6)


def test_white_is_zero_in_signed_numbers(tmp_path: Path) -> None:
    array = numpy.array([[-32768, 32767, -1, 0]], numpy.int16)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="miniswhite")
    result = read_image(tmp_path / "a.tif").pixels.flatten()
    expected = torch.tensor([32767, -32768, 0, -1]) / 32767
    torch.testing.assert_close(result, expected)


def test_inks_are_said(tmp_path: Path) -> None:
    inks = numpy.zeros((8, 9, 4), numpy.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif",
        inks,
        photometric="separated",
        extratags=[(34675, 7, 7, b"of inks", True)],
    )
    result = read_image(tmp_path / "a.tif")
    assert "turned into RGB" in result.remarks[0]
    assert result.tags.profile is None


def test_colour_maps_of_imagej_are_ways_of_looking(tmp_path: Path) -> None:
    index = numpy.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH)).astype(numpy.uint8)
    tags = [("ColorMap", "H", 768, list(range(768)), True)]
    tifffile.imwrite(
        tmp_path / "a.tif", index, photometric="minisblack", imagej=True, extratags=tags
    )
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages.first.tags["PhotometricInterpretation"].overwrite(3)
    result = read_image(tmp_path / "a.tif").pixels
    torch.testing.assert_close(result[0], torch.from_numpy(index / 255).float())
