"""Kernels as people have them: measured, computed, of any size, and by a number."""

from __future__ import annotations

import math
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from convexreg.pictures.kernels import antialiasing, disc, gaussian, motion, read_kernel
from convexreg.pictures.masks import read_missing
from convexreg.pictures.photograph import ImageError

AXIS = numpy.arange(-10, 11)
ROUND = numpy.exp(-(AXIS[:, None] ** 2 + AXIS**2) / 8)


def _read(tmp_path: Path, array: numpy.ndarray):
    numpy.save(tmp_path / "k.npy", array)
    return read_kernel(tmp_path / "k.npy")


@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "i8", "f2", "f4", "f8", "?"])
def test_any_numbers(kind: str, tmp_path: Path) -> None:
    array = (numpy.array([[1, 2, 1], [2, 4, 2], [0, 1, 0]]) > (1 if kind == "?" else -1)) * 1
    array = (array if kind == "?" else numpy.array([[1, 2, 1], [2, 4, 2], [0, 1, 0]])).astype(kind)
    kernel = _read(tmp_path, array)
    expected = array.astype(float) / array.astype(float).sum()
    numpy.testing.assert_allclose(kernel.filter[0, 0].numpy(), expected, rtol=1e-6)
    assert "normalised to one" in kernel.said[0]


@pytest.mark.parametrize("mode", ["L", "I;16", "RGB", "RGBA", "LA"])
def test_pictures_of_a_point(mode: str, tmp_path: Path) -> None:
    gray = numpy.array([[0, 10, 0], [10, 60, 10], [0, 10, 0]], numpy.uint8)
    array = gray.astype(numpy.uint16) if mode == "I;16" else gray
    image = Image.fromarray(array)
    (image if mode == "I;16" else image.convert(mode)).save(tmp_path / "k.png")
    kernel = read_kernel(tmp_path / "k.png")
    numpy.testing.assert_allclose(kernel.filter[0, 0].numpy(), gray / 100, atol=1e-6)
    assert kernel.filter.shape[1] == 1


@pytest.mark.parametrize("sides", [(4, 4), (3, 6), (1, 2)])
def test_the_centre_of_even_sides_is_that_of_fftshift(
    sides: tuple[int, int], tmp_path: Path
) -> None:
    array = numpy.zeros(sides)
    array[sides[0] // 2, sides[1] // 2] = 1
    kernel = _read(tmp_path, array)
    middle = kernel.filter[0, 0, kernel.filter.shape[2] // 2, kernel.filter.shape[3] // 2]
    assert float(middle) == 1
    assert all(side % 2 for side in kernel.filter.shape[2:])
    place = f"row {sides[0] // 2}, column {sides[1] // 2}"
    assert place in kernel.remarks[-1]


def test_entries_of_rounding_size(tmp_path: Path) -> None:
    kernel = ROUND / ROUND.sum()
    spectrum = numpy.fft.fft2(numpy.fft.ifftshift(numpy.pad(kernel, 3)))
    for precision in (numpy.complex64, numpy.complex128):
        again = numpy.fft.fftshift(numpy.fft.ifft2(spectrum.astype(precision)).real)
        assert again.min() < 0
        found = _read(tmp_path, again)
        assert float(found.filter.min()) == 0
        numpy.testing.assert_allclose(found.filter[0, 0, 3:-3, 3:-3].numpy(), kernel, atol=1e-6)
        assert not found.remarks


@pytest.mark.parametrize("noise", [0, 0.002, 0.01])
@pytest.mark.parametrize("level", [0.0, 0.02, 0.3])
def test_a_background_is_subtracted(level: float, noise: float, tmp_path: Path) -> None:
    generator = numpy.random.default_rng(0)
    measured = 7 * (ROUND + level + noise * generator.standard_normal(ROUND.shape))
    found = _read(tmp_path, measured)
    error = abs(found.filter[0, 0].numpy() - ROUND / ROUND.sum()).sum()
    assert error < 1e-5 + 10 * noise
    assert any("background" in remark for remark in found.remarks) == (level + noise > 0)


def _computed() -> dict[str, numpy.ndarray]:
    """Whose tails must stay, wherever they are cut."""
    square = AXIS[:, None] ** 2 + AXIS**2
    kernels = {"box": numpy.ones((9, 9)), "moffat": (1 + square / 4) ** -1.5}
    for std in (1, 2, 3, 5, 8):
        for half in (4, 7, 10):
            cut = slice(10 - half, 11 + half)
            kernels[f"gaussian {std} {half}"] = numpy.exp(-square[cut, cut] / (2 * std**2))
    for angle in (0, 20, 45, 90):
        kernels[f"motion {angle}"] = motion(11, angle).filter[0, 0].double().numpy()
    kernels["disc"] = disc(6).filter[0, 0].double().numpy()
    return kernels


@pytest.mark.parametrize("name", _computed())
def test_tails_are_no_background(name: str, tmp_path: Path) -> None:
    kernel = _computed()[name]
    found = _read(tmp_path, kernel / kernel.sum())
    numpy.testing.assert_allclose(found.filter[0, 0].numpy(), kernel / kernel.sum(), atol=1e-7)
    assert not found.remarks


@pytest.mark.parametrize("first", [False, True])
def test_one_kernel_for_each_colour(first: bool, tmp_path: Path) -> None:
    planes = numpy.random.default_rng(0).random((3, 5, 7))
    found = _read(tmp_path, planes if first else numpy.moveaxis(planes, 0, -1))
    expected = planes / planes.sum((1, 2), keepdims=True)
    numpy.testing.assert_allclose(found.filter[0].numpy(), expected, rtol=1e-5)


def test_batches_of_one_are_kernels(tmp_path: Path) -> None:
    numpy.testing.assert_allclose(
        _read(tmp_path, ROUND[None, None]).filter[0, 0].sum(), 1, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (-numpy.ones((3, 3)), "negative entries, down to -1"),
        (ROUND - 0.2 * (ROUND < 0.1), "set what is left of the noise to zero"),
        (numpy.zeros((3, 3)), "sums to zero"),
        (numpy.full((3, 3), numpy.nan), "NaN"),
        (numpy.zeros((0, 3)), "is empty"),
        (numpy.zeros((5, 4, 4)), "has shape"),
        (numpy.ones((3, 3), complex), "of real numbers"),
    ],
    ids=str,
)
def test_what_is_no_blur(array: numpy.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=message):
        _read(tmp_path, array)


def _spread(kernel: torch.Tensor) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Mean and covariance of the place of light, in pixels from the middle."""
    weights = kernel[0, 0].double().numpy()
    rows, columns = (numpy.arange(side) - side // 2 for side in weights.shape)
    places = numpy.stack(numpy.meshgrid(rows, columns, indexing="ij")).reshape(2, -1)
    mean = places @ weights.ravel()
    return mean, (places * weights.ravel()) @ places.T - numpy.outer(mean, mean)


@pytest.mark.parametrize("std", [0.6, 1.6, 3.0])
def test_gaussian_by_its_standard_deviation(std: float) -> None:
    mean, covariance = _spread(gaussian(std).filter)
    numpy.testing.assert_allclose(mean, 0, atol=1e-6)
    numpy.testing.assert_allclose(covariance, std**2 * numpy.eye(2), rtol=0.03, atol=1e-6)


@pytest.mark.parametrize("radius", [1.0, 2.5, 6.0])
def test_disc_by_its_radius(radius: float) -> None:
    kernel = disc(radius).filter
    mean, covariance = _spread(kernel)
    numpy.testing.assert_allclose(mean, 0, atol=1e-6)
    # that of a disc, and of a pixel where light is spread over it
    numpy.testing.assert_allclose(covariance[0, 0], radius**2 / 4 + 1 / 12, atol=0.07)
    inside = kernel[0, 0, kernel.shape[2] // 2, kernel.shape[3] // 2]
    assert float(inside) == pytest.approx(1 / (math.pi * radius**2), rel=0.02)
    assert float(disc(0.4).filter) == 1  # within a pixel


@pytest.mark.parametrize("angle", [0, 30, 45, 90, 135, -20])
@pytest.mark.parametrize("length", [1.0, 5.0, 12.3])
def test_motion_by_length_and_angle(length: float, angle: float) -> None:
    mean, covariance = _spread(motion(length, angle).filter)
    numpy.testing.assert_allclose(mean, 0, atol=1e-6)
    way = numpy.array([-math.sin(math.radians(angle)), math.cos(math.radians(angle))])
    along, across = way @ covariance @ way, way[::-1] @ covariance @ way[::-1]
    assert along == pytest.approx(length**2 / 12, abs=0.26)
    if angle % 90:
        assert covariance[0, 1] == pytest.approx(length**2 / 12 * way[0] * way[1], rel=0.01)
    else:
        assert across < 0.01


@pytest.mark.parametrize("factor", [2, 3, 4, 5])
def test_nothing_moves_before_pixels_are_dropped(factor: int) -> None:
    """A pixel of the small picture lies in the middle of those that became it."""
    from deepinv.physics import Downsampling

    size = (1, 12 * factor, 12 * factor)
    filter = antialiasing(factor)
    physics = Downsampling(img_size=size, filter=filter, factor=factor, padding="replicate")
    ramp = torch.arange(12.0 * factor).expand(1, *size).contiguous()
    for image in (ramp, ramp.mT.contiguous()):
        small = physics.A(image)[0, 0]
        small = small if image is ramp else small.mT
        expected = factor * torch.arange(12.0) + (factor - 1) / 2
        torch.testing.assert_close(small[6, 4:8], expected[4:8], rtol=0, atol=1e-3)


@pytest.mark.parametrize("array", [numpy.eye(5) > 0, numpy.eye(5, dtype="u1"), 255 * numpy.eye(5)])
def test_masks_of_any_numbers(array: numpy.ndarray, tmp_path: Path) -> None:
    numpy.save(tmp_path / "m.npy", array)
    assert torch.equal(read_missing(tmp_path / "m.npy")[0], torch.eye(5) > 0)
    Image.fromarray(numpy.kron(numpy.eye(5), numpy.ones((8, 8))) > 0).save(tmp_path / "m.png")
    assert int(read_missing(tmp_path / "m.png").sum()) == 5 * 64


@pytest.mark.parametrize(("value", "message"), [(0, "is black"), (255, "marks every pixel")])
def test_masks_that_mark_nothing_or_all(value: int, message: str, tmp_path: Path) -> None:
    Image.new("L", (4, 5), value).save(tmp_path / "m.png")
    with pytest.raises(ImageError, match=message):
        read_missing(tmp_path / "m.png")
