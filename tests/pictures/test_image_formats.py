"""Photographs of others: every layout a file can have, read as it is meant."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy
import pytest
import tifffile
import torch
from PIL import Image, ImageOps, PngImagePlugin

from convexreg.pictures.files import ImageError, read_image, write_image
from tests.photographs import HEIGHT, MODES, WIDTH, array_of, assert_same, photograph
from tests.tables import over


@over("mode", MODES)
@pytest.mark.parametrize("bits", [8, 16])
def test_png_of_others(mode: tuple[int, bool], bits: int, tmp_path: Path) -> None:
    picture = photograph(*mode, bits)
    array, path = array_of(picture), tmp_path / "a.png"
    if bits == 8:
        Image.fromarray(array).save(path)
    elif mode == (1, True):
        path.write_bytes(_sixteen_bit_gray_alpha(array))
    else:
        path.write_bytes(imagecodecs.png_encode(numpy.ascontiguousarray(array)))
    result = read_image(path)
    assert_same(result, picture)


def _sixteen_bit_gray_alpha(array: numpy.ndarray) -> bytes:
    """A PNG of colour type 4, which the libraries at hand do not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, 4, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("kind", ["<f8", ">f4", "<f2", "u1", "<u2", ">u2"])
@pytest.mark.parametrize("fortran", [False, True])
def test_arrays_of_others(kind: str, fortran: bool, tmp_path: Path) -> None:
    dtype = numpy.dtype(kind)
    values = numpy.random.default_rng(0).random((HEIGHT, WIDTH, 3))
    scale = 1 if dtype.kind == "f" else 2 ** (8 * dtype.itemsize) - 1
    array = (values * scale).astype(dtype)
    numpy.save(tmp_path / "a.npy", numpy.asfortranarray(array) if fortran else array)
    result = read_image(tmp_path / "a.npy")
    expected = torch.from_numpy((array.astype(numpy.float64) / scale).astype(numpy.float32))
    torch.testing.assert_close(result.pixels, expected.movedim(-1, 0), rtol=0, atol=1e-6)
    assert result.bits == (32 if dtype.kind == "f" else 8 * dtype.itemsize)


def test_bitmaps(tmp_path: Path) -> None:
    picture = photograph(3, False, 8)
    Image.fromarray(array_of(picture)).save(tmp_path / "a.bmp")
    assert_same(read_image(tmp_path / "a.bmp"), picture)


def _palette(transparent: bool) -> tuple[Image.Image, numpy.ndarray]:
    index = Image.fromarray(numpy.arange(12, dtype=numpy.uint8).reshape(3, 4) % 5, "P")
    colours = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30], [200, 100, 50]]
    index.putpalette([value for colour in colours for value in colour])
    return index, numpy.array(colours)[numpy.asarray(index)]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_palettes_are_looked_up(suffix: str, tmp_path: Path) -> None:
    index, colours = _palette(False)
    index.save(tmp_path / f"a{suffix}")
    result = read_image(tmp_path / f"a{suffix}")
    expected = torch.from_numpy(colours).movedim(-1, 0) / 255
    torch.testing.assert_close(result.pixels, expected.float(), rtol=0, atol=1e-7)
    assert result.alpha is None


def test_transparent_palette_entries_become_alpha(tmp_path: Path) -> None:
    index, colours = _palette(True)
    index.save(tmp_path / "a.png", transparency=2)
    result = read_image(tmp_path / "a.png")
    expected = torch.from_numpy(colours).movedim(-1, 0) / 255
    visible = torch.from_numpy(numpy.asarray(index) != 2)
    assert result.alpha is not None
    torch.testing.assert_close(result.alpha[0], visible.float())
    torch.testing.assert_close(result.pixels[:, visible], expected.float()[:, visible])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_bilevel_images(suffix: str, tmp_path: Path) -> None:
    bits = numpy.random.default_rng(0).random((HEIGHT, WIDTH)) > 0.5
    Image.fromarray(bits).save(tmp_path / f"a{suffix}")
    result = read_image(tmp_path / f"a{suffix}")
    assert torch.equal(result.pixels[0], torch.from_numpy(bits).float())


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_becomes_colour(suffix: str, tmp_path: Path) -> None:
    gradient = numpy.linspace(0, 200, 8 * 16 * 3).reshape(8, 16, 3).astype(numpy.uint8)
    separated = Image.fromarray(gradient).convert("CMYK")
    separated.save(tmp_path / f"a{suffix}")
    result = read_image(tmp_path / f"a{suffix}")
    assert result.alpha is None
    expected = torch.from_numpy(gradient).movedim(-1, 0) / 255
    torch.testing.assert_close(result.pixels, expected.float(), rtol=0, atol=0.05)


def _jpeg(path: Path, array: numpy.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(path, quality=100, subsampling=0, exif=exif)


def _png(path: Path, array: numpy.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(path, exif=exif, pnginfo=PngImagePlugin.PngInfo())


def _deep_png(path: Path, array: numpy.ndarray, orientation: int) -> None:
    """16 bits, with the chunk of a PNG of 8 bits that says the orientation."""
    _png(path, array, orientation)
    content = path.read_bytes()
    start = content.find(b"eXIf") - 4
    chunk = content[start : start + 12 + int.from_bytes(content[start : start + 4], "big")]
    deep = imagecodecs.png_encode(numpy.ascontiguousarray(array * numpy.uint16(257)))
    end = deep.rfind(b"IEND") - 4
    path.write_bytes(deep[:end] + (chunk if orientation > 1 else b"") + deep[end:])


def _tiff(path: Path, array: numpy.ndarray, orientation: int) -> None:
    extratags = [(274, "H", 1, orientation, True)]
    photometric = "rgb" if array.ndim == 3 else "minisblack"
    tifffile.imwrite(path, array, photometric=photometric, extratags=extratags)


def _lzw(path: Path, array: numpy.ndarray, orientation: int) -> None:
    Image.fromarray(array).save(path, compression="tiff_lzw", tiffinfo={274: orientation})


WRITERS: dict[str, tuple[str, Callable[[Path, numpy.ndarray, int], None]]] = {
    "jpeg": (".jpg", _jpeg),
    "png": (".png", _png),
    "deep-png": (".png", _deep_png),
    "tiff": (".tif", _tiff),
    "tiff-lzw": (".tif", _lzw),
}
# what brings a stored image into the orientation it was taken in (EXIF 2.3, tag 274)
UPRIGHT: dict[int, Callable[[numpy.ndarray], numpy.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: numpy.rot90(a, 3),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: numpy.rot90(a, 1),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("orientation", UPRIGHT)
@over("writer", WRITERS)
def test_orientation_is_applied(writer, orientation: int, channels: int, tmp_path: Path) -> None:
    suffix, write = writer
    ramp = numpy.add.outer(numpy.arange(16) * 3, numpy.arange(24) * 7)
    array = (ramp[..., None] + numpy.arange(channels) * 9).astype(numpy.uint8)
    array = array[..., 0] if channels == 1 else array
    path = tmp_path / f"a{suffix}"
    write(path, array, orientation)
    expected = UPRIGHT[orientation](array)
    if (
        suffix != ".tif" and write is not _deep_png
    ):  # Pillow agrees on what the tag means (and mixes up gray TIFF)
        with Image.open(path) as stored:
            shown = numpy.asarray(ImageOps.exif_transpose(stored))
        numpy.testing.assert_allclose(shown, expected, atol=4)
    result = read_image(path).pixels
    planes = torch.from_numpy(numpy.ascontiguousarray(expected)).reshape(*expected.shape[:2], -1)
    torch.testing.assert_close(result, planes.movedim(-1, 0).float() / 255, rtol=0, atol=4 / 255)


@pytest.mark.parametrize("bits", [8, 16])
def test_alpha_has_no_other_white(bits: int, tmp_path: Path) -> None:
    largest = 2**bits - 1
    array = numpy.full((3, 4, 4), largest, dtype=f"uint{bits}")
    array[..., :3] = 100
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", extrasamples=["unassalpha"])
    picture = read_image(tmp_path / "a.tif", white=200)
    assert picture.alpha is not None
    assert bool((picture.alpha == 1).all())
    assert bool((picture.pixels == 0.5).all())
    write_image(tmp_path / "b.tif", picture)
    numpy.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), array)
    with pytest.raises(ImageError, match="at most"):
        read_image(tmp_path / "a.tif", white=largest + 1)
