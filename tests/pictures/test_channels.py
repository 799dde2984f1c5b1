"""What the channels of a file are: gray, colour, transparency, or bands of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest
import tifffile
import torch

from convexreg.pictures.files import read_image, write_image
from convexreg.pictures.photograph import ImageError, Photograph
from tests.tables import over


@dataclass(frozen=True)
class Layout:
    """`write(path, planes (C, H, W))` of a file; how many of the channels are bands, whether one is alpha."""

    channels: int
    bands: int
    alpha: bool
    write: Callable[[Path, numpy.ndarray], None]
    suffix: str = ".tif"


def _tiff(photometric: str, *extra: str, planar: bool = False):
    def write(path: Path, planes: numpy.ndarray) -> None:
        array = planes if planar else numpy.moveaxis(planes, 0, -1)
        config = "separate" if planar else "contig"
        tifffile.imwrite(
            path,
            array,
            photometric=photometric,
            planarconfig=config,
            extrasamples=list(extra) or None,
        )

    return write


def _as_pages(path: Path, planes: numpy.ndarray) -> None:
    """What tifffile makes of an array (H, W, 2) that it is told nothing about."""
    tifffile.imwrite(path, numpy.ascontiguousarray(numpy.moveaxis(planes, 0, -1)))


def _npy(path: Path, planes: numpy.ndarray) -> None:
    numpy.save(path, numpy.moveaxis(planes, 0, -1))


LAYOUTS = {
    "gray and alpha": Layout(2, 0, True, _tiff("minisblack", "unassalpha")),
    "two dyes": Layout(2, 2, False, _tiff("minisblack", "unspecified")),
    "two planes": Layout(2, 2, False, _tiff("minisblack", "unspecified", planar=True)),
    "two dyes as pages": Layout(2, 2, False, _as_pages),
    "three bands": Layout(3, 3, False, _tiff("minisblack", "unspecified", "unspecified")),
    "six bands": Layout(6, 6, False, _tiff("minisblack", *["unspecified"] * 5)),
    "colour and alpha": Layout(4, 0, True, _tiff("rgb", "unassalpha")),
    "colour and infrared": Layout(4, 1, False, _tiff("rgb", "unspecified")),
    "planar infrared": Layout(4, 1, False, _tiff("rgb", "unspecified", planar=True)),
    "infrared and alpha": Layout(5, 1, True, _tiff("rgb", "unspecified", "unassalpha")),
    "alpha and infrared": Layout(5, 1, True, _tiff("rgb", "unassalpha", "unspecified")),
    "array of two": Layout(2, 2, False, _npy, ".npy"),
    "array of three": Layout(3, 0, False, _npy, ".npy"),
    "array of four": Layout(4, 4, False, _npy, ".npy"),
}


@pytest.mark.parametrize("bits", [8, 16])
@over("layout", LAYOUTS)
def test_channels_are_what_the_file_says(layout: Layout, bits: int, tmp_path: Path) -> None:
    largest, kind = 2**bits - 1, f"uint{bits}"
    generator = numpy.random.default_rng(0)
    stored = generator.integers(0, largest, (layout.channels, 9, 11)).astype(kind)
    path = tmp_path / f"a{layout.suffix}"
    layout.write(path, stored)
    result = read_image(path)
    assert (result.bands, result.alpha is not None) == (layout.bands, layout.alpha)
    planes = torch.from_numpy(stored.astype(numpy.float32)) / largest
    where = 3 if layout.channels == 5 and result.alpha is not None else layout.channels - 1
    if result.alpha is not None and torch.equal(result.alpha[0], planes[-1]):
        where = layout.channels - 1
    kept = [i for i in range(layout.channels) if not (layout.alpha and i == where)]
    torch.testing.assert_close(result.pixels, planes[kept])
    again = tmp_path / "b.tif"
    write_image(again, result)
    same = read_image(again)
    torch.testing.assert_close(same.pixels, result.pixels)
    assert (same.bands, same.alpha is None) == (result.bands, result.alpha is None)


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_colours_times_alpha_are_divided_and_multiplied_again(bits: int, tmp_path: Path) -> None:
    white, kind = (1, "float32") if bits == 32 else (2**bits - 1, f"uint{bits}")
    alpha = torch.linspace(0, 1, 12).expand(1, 8, 12).contiguous()
    colours = torch.rand(3, 8, 12) * alpha
    stored = (torch.cat([colours, alpha]) * white).movedim(0, -1).numpy()
    stored = (stored if bits == 32 else stored.round()).astype(kind)
    extra = ["assocalpha"]
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=extra)
    result = read_image(tmp_path / "a.tif")
    assert result.alpha is not None
    torch.testing.assert_close(
        result.pixels * result.alpha, colours, rtol=0, atol=0.51 / white if bits < 32 else 1e-6
    )
    assert bool((result.pixels[:, :, 0] == 0).all())
    write_image(tmp_path / "b.tif", result)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert [int(kind) for kind in file.pages.first.extrasamples] == [1]
    again = tifffile.imread(tmp_path / "b.tif")
    numpy.testing.assert_allclose(again, stored, rtol=0, atol=1e-6 if bits == 32 else 0)


def test_parts() -> None:
    """Colour together, bands alone, colour of three equal channels as gray."""
    pixels = torch.rand(5, 3, 4)
    picture = Photograph(pixels, None, 8, bands=2)
    assert [part.shape[0] for part in picture.parts()] == [3, 1, 1]
    assert torch.equal(torch.cat(picture.parts()), pixels)
    assert torch.equal(picture.with_parts(picture.parts()).pixels, pixels)
    assert [part.shape[0] for part in Photograph(pixels, None, 8, bands=5).parts()] == [1] * 5
    equal = Photograph(pixels[:1].expand(3, -1, -1), None, 8)
    assert torch.equal(equal.parts()[0], pixels[:1])
    assert equal.parts(equal_is_gray=False)[0].shape[0] == 3
    assert torch.equal(equal.with_parts([pixels[1:2]]).pixels, pixels[1:2].expand(3, -1, -1))


def test_bands_have_no_luma_and_no_place_in_png(tmp_path: Path) -> None:
    bands = Photograph(torch.rand(2, 3, 4), None, 8, bands=2)
    with pytest.raises(ImageError, match="2 channels is neither gray nor colour"):
        bands.gray()
    for suffix in (".png", ".jpg"):
        with pytest.raises(ImageError, match=f"{suffix} holds gray or colour, and there are 2"):
            write_image(tmp_path / f"a{suffix}", bands)
    assert not list(tmp_path.iterdir())
