"""Photographs that cannot be read or written: refused with the reason, nothing half done."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy
import pytest
import tifffile
import torch
from PIL import Image

from convexreg.pictures.files import ImageError, check_writable, read_image, write_image
from tests.photographs import array_of, photograph


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
    with pytest.raises(ImageError, match="is a folder; name a file"):
        read_image(tmp_path)
    other = tmp_path / "a.gif"
    other.write_bytes(b"GIF89a")
    with pytest.raises(ImageError, match=r"not a supported image type; use one of \.bmp"):
        read_image(other)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (numpy.zeros((4, 5, 6)), "has 4 pictures"),
        (numpy.zeros((2, 3, 4, 5)), "has 6 pictures, of which three may be a colour picture"),
        (numpy.zeros((2, 2, 2, 2, 4, 5)), "has shape"),
        (numpy.zeros(7), "has shape"),
        (numpy.zeros((0, 5)), "has shape"),
        (numpy.zeros((4, 5), numpy.int64), "holds int64 .* Name the value of white"),
        (numpy.zeros((4, 5), numpy.uint32), "holds uint32 .* Name the value of white"),
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


def test_nan_tiff_is_refused(tmp_path: Path) -> None:
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


def test_floats_on_another_scale(tmp_path):
    numpy.save(tmp_path / "a.npy", numpy.full((8, 9), 200.0))
    with pytest.raises(ImageError, match=r"pixels up to 200; they should lie in \[0, 1\]"):
        read_image(tmp_path / "a.npy")
    picture = read_image(tmp_path / "a.npy", white=255.0)
    assert float(picture.pixels.max()) == pytest.approx(200 / 255)
    write_image(tmp_path / "b.npy", picture)
    assert float(numpy.load(tmp_path / "b.npy").max()) == pytest.approx(200)
    with pytest.raises(ImageError, match="white must be a positive number"):
        read_image(tmp_path / "a.npy", white=0.0)
