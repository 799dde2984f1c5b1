"""Photographs: what was written is what is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from convexreg.pictures import files as images
from convexreg.pictures.files import Photograph, read_image, write_image
from tests.photographs import HEIGHT, MODES, WIDTH, assert_same, photograph
from tests.tables import over


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
    if (
        suffix == ".npy" and picture.alpha is not None
    ):  # an array does not say what its channels are
        pixels = torch.cat([picture.pixels, picture.alpha])
        picture = Photograph(pixels, None, 32, bands=len(pixels))
    assert_same(result, picture)
    assert result.bands == picture.bands


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
