"""Photographs: what a file holds is what is read and what is written back."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy
import pytest
import tifffile
import torch
from PIL import Image, ImageOps, PngImagePlugin
from tables import over

from convexreg import images
from convexreg.images import ImageError, Photograph, check_writable, read_image, write_image

HEIGHT, WIDTH = 13, 17
MODES = {
    "gray": (1, False),
    "gray-alpha": (1, True),
    "colour": (3, False),
    "colour-alpha": (3, True),
}
DTYPES = {8: numpy.uint8, 16: numpy.uint16, 32: numpy.float32}


def photograph(channels: int, alpha: bool, bits: int) -> Photograph:
    """Random pixels that the depth represents exactly."""
    limit = 2**bits - 1 if bits < 32 else 1
    planes = torch.rand(channels + alpha, HEIGHT, WIDTH)
    if bits < 32:
        planes = (planes * limit).round() / limit
    return Photograph(planes[:channels], planes[channels:] if alpha else None, bits)


def array_of(picture: Photograph) -> numpy.ndarray:
    """`(H, W)` or `(H, W, C)` in the depth of the photograph."""
    planes = picture.pixels if picture.alpha is None else torch.cat([picture.pixels, picture.alpha])
    array = planes.movedim(0, -1).numpy()
    if picture.bits < 32:
        array = numpy.round(array * (2**picture.bits - 1)).astype(DTYPES[picture.bits])
    return array[..., 0] if array.shape[-1] == 1 else array


def assert_same(result: Photograph, expected: Photograph) -> None:
    assert result.bits == expected.bits
    torch.testing.assert_close(result.pixels, expected.pixels, rtol=0, atol=1e-7)
    assert (result.alpha is None) == (expected.alpha is None)
    if expected.alpha is not None:
        torch.testing.assert_close(result.alpha, expected.alpha, rtol=0, atol=1e-7)


# Round trips ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "bits"),
    [
        (".png", 8),
        (".png", 16),
        (".tif", 8),
        (".tiff", 16),
        (".tif", 32),
        (".npy", 32),
        (".PNG", 8),
    ],
)
@over("mode", MODES)
def test_lossless_formats_return_what_was_written(
    mode: tuple[int, bool], suffix: str, bits: int, tmp_path: Path
) -> None:
    picture = photograph(*mode, bits)
    write_image(tmp_path / f"a{suffix}", picture)
    result = read_image(tmp_path / f"a{suffix}")
    if (suffix, bits, mode) == (".png", 16, (1, True)):
        # OpenCV writes no 16-bit gray with alpha: the gray comes back three times
        assert torch.equal(result.pixels[0], result.pixels[2])
        result = Photograph(result.pixels[:1], result.alpha, result.bits)
    assert_same(result, picture)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG"])
@pytest.mark.parametrize("bits", [8, 16, 32])
@over("mode", MODES)
def test_jpeg_is_close_and_drops_alpha(
    mode: tuple[int, bool], bits: int, suffix: str, tmp_path: Path
) -> None:
    channels, alpha = mode
    ramp = torch.linspace(0.1, 0.9, WIDTH).expand(channels, HEIGHT, WIDTH)
    picture = Photograph(ramp, ramp[:1] if alpha else None, bits)
    write_image(tmp_path / f"a{suffix}", picture)
    result = read_image(tmp_path / f"a{suffix}")
    assert result.bits == 8
    assert result.alpha is None
    torch.testing.assert_close(result.pixels, ramp, rtol=0, atol=0.02)


@pytest.mark.parametrize("source", [8, 16, 32])
def test_depth_of_floating_point_results(source: int, tmp_path: Path) -> None:
    """Clipped and rounded to the depth of the photograph; PNG holds 16 bits at most."""
    picture = photograph(1, False, source)
    pixels = torch.tensor([[-0.5, 0.0, 0.25, 1.0, 1.7]]).reshape(1, 1, 5)
    changed = picture.with_pixels(pixels)
    expected = pixels.clamp(0, 1)
    write_image(tmp_path / "a.png", changed)
    result = read_image(tmp_path / "a.png")
    assert result.bits == min(source, 16)
    torch.testing.assert_close(result.pixels, expected, rtol=0, atol=0.5 / (2**result.bits - 1))
    write_image(tmp_path / "a.tif", changed)
    result = read_image(tmp_path / "a.tif")
    assert result.bits == source
    if source == 32:
        assert torch.equal(result.pixels, pixels)
    write_image(tmp_path / "a.npy", changed)
    assert torch.equal(read_image(tmp_path / "a.npy").pixels, pixels)


# Files of others ------------------------------------------------------------------------------


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
        order = {1: None, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[sum(mode)]
        cv2.imwrite(str(path), array if order is None else cv2.cvtColor(array, order))
    result = read_image(path)
    if (bits, mode) == (16, (1, True)):  # OpenCV repeats the gray
        result = Photograph(result.pixels[:1], result.alpha, result.bits)
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


TIFF_OPTIONS: dict[str, dict] = {
    "plain": {},
    "big-endian": {"byteorder": ">"},
    "deflate": {"compression": "zlib", "predictor": False},
    "tiled": {"tile": (16, 16)},
    "strips": {"rowsperstrip": 5},
    "bigtiff": {"bigtiff": True},
}


@over("options", TIFF_OPTIONS)
@pytest.mark.parametrize("bits", [8, 16, 32])
@over("mode", MODES)
def test_tiff_of_others(mode: tuple[int, bool], bits: int, options: dict, tmp_path: Path) -> None:
    picture = photograph(*mode, bits)
    array = array_of(picture)
    extra = {"extrasamples": ["unassalpha"]} if mode[1] else {}
    tifffile.imwrite(
        tmp_path / "a.tif",
        array,
        photometric="rgb" if mode[0] == 3 else "minisblack",
        **options,
        **extra,
    )
    assert_same(read_image(tmp_path / "a.tif"), picture)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_compressed_tiff_of_others(mode: str, compression: str, tmp_path: Path) -> None:
    """Compressions that photo editors use by default."""
    channels, alpha, bits = {
        "L": (1, False, 8),
        "RGB": (3, False, 8),
        "RGBA": (3, True, 8),
        "I;16": (1, False, 16),
    }[mode]
    picture = photograph(channels, alpha, bits)
    Image.fromarray(array_of(picture)).save(tmp_path / "a.tif", compression=compression)
    assert_same(read_image(tmp_path / "a.tif"), picture)


def test_sixteen_bit_colour_lzw_tiff(tmp_path: Path) -> None:
    picture = photograph(3, False, 16)
    cv2.imwrite(str(tmp_path / "a.tif"), cv2.cvtColor(array_of(picture), cv2.COLOR_RGB2BGR))
    assert_same(read_image(tmp_path / "a.tif"), picture)


def test_sixteen_bit_colour_lzw_that_cannot_be_read_well_is_refused(tmp_path: Path) -> None:
    picture = photograph(3, True, 16)
    cv2.imwrite(str(tmp_path / "a.tif"), cv2.cvtColor(array_of(picture), cv2.COLOR_RGBA2BGRA))
    with pytest.raises(ImageError, match="save it without compression"):
        read_image(tmp_path / "a.tif")


def test_planar_tiff(tmp_path: Path) -> None:
    picture = photograph(3, False, 8)
    planes = numpy.moveaxis(array_of(picture), -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    assert_same(read_image(tmp_path / "a.tif"), picture)


def test_first_page_of_several(tmp_path: Path) -> None:
    picture = photograph(1, False, 8)
    array = array_of(picture)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(array)
        writer.write(255 - array)
    assert_same(read_image(tmp_path / "a.tif"), picture)


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


def test_white_is_zero_tiff(tmp_path: Path) -> None:
    picture = photograph(1, False, 8)
    tifffile.imwrite(tmp_path / "a.tif", 255 - array_of(picture), photometric="miniswhite")
    assert_same(read_image(tmp_path / "a.tif"), picture)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_becomes_colour(suffix: str, tmp_path: Path) -> None:
    gradient = numpy.linspace(0, 200, 8 * 16 * 3).reshape(8, 16, 3).astype(numpy.uint8)
    separated = Image.fromarray(gradient).convert("CMYK")
    separated.save(tmp_path / f"a{suffix}")
    result = read_image(tmp_path / f"a{suffix}")
    assert result.alpha is None
    expected = torch.from_numpy(gradient).movedim(-1, 0) / 255
    torch.testing.assert_close(result.pixels, expected.float(), rtol=0, atol=0.05)


# Orientation ----------------------------------------------------------------------------------


def _jpeg(path: Path, array: numpy.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(path, quality=100, subsampling=0, exif=exif)


def _png(path: Path, array: numpy.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(path, exif=exif, pnginfo=PngImagePlugin.PngInfo())


def _tiff(path: Path, array: numpy.ndarray, orientation: int) -> None:
    extratags = [(274, "H", 1, orientation, True)]
    photometric = "rgb" if array.ndim == 3 else "minisblack"
    tifffile.imwrite(path, array, photometric=photometric, extratags=extratags)


def _lzw(path: Path, array: numpy.ndarray, orientation: int) -> None:
    Image.fromarray(array).save(path, compression="tiff_lzw", tiffinfo={274: orientation})


WRITERS: dict[str, tuple[str, Callable[[Path, numpy.ndarray, int], None]]] = {
    "jpeg": (".jpg", _jpeg),
    "png": (".png", _png),
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
    if suffix != ".tif":  # Pillow agrees on what the tag means (and mixes up gray TIFF)
        with Image.open(path) as stored:
            shown = numpy.asarray(ImageOps.exif_transpose(stored))
        numpy.testing.assert_allclose(shown, expected, atol=4)
    result = read_image(path).pixels
    planes = torch.from_numpy(numpy.ascontiguousarray(expected)).reshape(*expected.shape[:2], -1)
    torch.testing.assert_close(result, planes.movedim(-1, 0).float() / 255, rtol=0, atol=4 / 255)


# What is refused ------------------------------------------------------------------------------


def _saved(path: Path) -> Path:
    picture = photograph(3, False, 16 if path.suffix == ".png" else 8)
    if path.suffix == ".bmp":
        Image.fromarray(array_of(photograph(3, False, 8))).save(path)
    else:
        write_image(path, picture)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".npy", ".bmp"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.8])
def test_truncated_files_are_refused(suffix: str, share: float, tmp_path: Path) -> None:
    path = _saved(tmp_path / f"a{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ImageError, match=rf"a\{suffix} cannot be read"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".npy", ".bmp"])
def test_damaged_files_never_escape_as_another_error(suffix: str, tmp_path: Path) -> None:
    path = _saved(tmp_path / f"a{suffix}")
    content = path.read_bytes()
    generator = numpy.random.default_rng(0)
    warnings.simplefilter("ignore")  # decoders may warn about what they find
    for _ in range(120):
        damaged = bytearray(content)
        for place in generator.integers(0, min(len(content), 300), 3):
            damaged[place] = int(generator.integers(256))
        path.write_bytes(bytes(damaged))
        try:
            picture = read_image(path)
        except ImageError:
            continue
        assert torch.isfinite(picture.pixels).all()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".npy", ".bmp"])
@pytest.mark.parametrize("content", [b"", b"hello, world\n" * 20, b"\x00" * 600], ids=str)
def test_other_contents_are_refused(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="cannot be read; it is damaged or not an image"):
        read_image(path)


def test_missing_files_and_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="there is no file"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="there is no file"):
        read_image(tmp_path)
    other = tmp_path / "a.gif"
    other.write_bytes(b"GIF89a")
    with pytest.raises(ImageError, match=r"not a supported image type; use one of \.bmp"):
        read_image(other)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (numpy.zeros((4, 5, 6)), "has shape"),
        (numpy.zeros((2, 3, 4, 5)), "has shape"),
        (numpy.zeros(7), "has shape"),
        (numpy.zeros((0, 5)), "has shape"),
        (numpy.zeros((4, 5), numpy.int32), "holds int32"),
        (numpy.zeros((4, 5), numpy.uint32), "holds uint32"),
        (numpy.zeros((4, 5), numpy.complex64), "holds complex64"),
        (numpy.zeros((4, 5), "U3"), "holds <U3"),
        (numpy.full((4, 5), numpy.nan), "NaN or infinite"),
        (numpy.full((4, 5), numpy.inf), "NaN or infinite"),
        (numpy.array([[{}, 1]], dtype=object), "cannot be read"),
    ],
    ids=str,
)
def test_arrays_that_are_no_images_are_refused(array, message: str, tmp_path: Path) -> None:
    numpy.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(ImageError, match=message):
        read_image(tmp_path / "a.npy")


def test_archives_are_refused(tmp_path: Path) -> None:
    numpy.savez(tmp_path / "a.npz", x=numpy.zeros((4, 5)))
    os.rename(tmp_path / "a.npz", tmp_path / "a.npy")
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path / "a.npy")


def test_integer_and_nan_tiff_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", numpy.zeros((4, 5), numpy.int16))
    with pytest.raises(ImageError, match="holds int16"):
        read_image(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "a.tif", numpy.full((4, 5), numpy.nan, numpy.float32))
    with pytest.raises(ImageError, match="NaN or infinite"):
        read_image(tmp_path / "a.tif")


def test_what_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    picture = photograph(1, False, 8)
    for call in (check_writable, lambda path: write_image(path, picture)):
        with pytest.raises(ImageError, match="use a suffix of"):
            call(tmp_path / "a.bmp")
        with pytest.raises(ImageError, match="use a suffix of"):
            call(str(tmp_path / "a"))
        with pytest.raises(ImageError, match=r"output folder .*missing does not exist"):
            call(tmp_path / "missing" / "a.png")
    check_writable(tmp_path / "a.png")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".npy"])
def test_pixels_that_are_not_numbers_are_not_written(suffix: str, tmp_path: Path) -> None:
    broken = photograph(1, False, 8).with_pixels(torch.full((1, 3, 4), float("nan")))
    with pytest.raises(ImageError, match="NaN or infinite"):
        write_image(tmp_path / f"a{suffix}", broken)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".npy"])
def test_a_failed_write_leaves_the_old_file(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _saved(tmp_path / f"a{suffix}")
    content = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk is full"):
        write_image(path, photograph(3, False, 8))
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == [path.name]


def test_written_files_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_image(tmp_path / "a.png", photograph(1, False, 8))
    finally:
        os.umask(before)
    assert os.stat(tmp_path / "a.png").st_mode & 0o777 == 0o640


def test_sizes_that_pillow_suspects_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above 180 megapixels it raises an error of its own kind."""
    write_image(tmp_path / "a.png", photograph(3, False, 8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path / "a.png")


# Photographs ----------------------------------------------------------------------------------


def test_gray_is_luma() -> None:
    colour = photograph(3, False, 8)
    expected = sum(w * p for w, p in zip((0.299, 0.587, 0.114), colour.pixels, strict=True))
    torch.testing.assert_close(colour.gray()[0], expected)
    gray = photograph(1, True, 16)
    assert gray.gray() is gray.pixels
    white = Photograph(torch.ones(3, 2, 2), None, 8)
    torch.testing.assert_close(white.gray(), torch.ones(1, 2, 2))


def test_other_pixels_keep_the_rest() -> None:
    picture = photograph(3, True, 16)
    changed = picture.with_pixels(torch.zeros(3, HEIGHT, WIDTH))
    assert changed.alpha is picture.alpha
    assert changed.bits == 16
    assert picture.pixels.max() > 0


def test_suffixes() -> None:
    assert images.WRITABLE_SUFFIXES < images.IMAGE_SUFFIXES
