"""Arrays and tensors in, the same kind out."""

from __future__ import annotations

import warnings

import numpy
import pytest
import torch
from skimage import data

import convexreg
from convexreg.restoration.picture import denoised
from tests.tables import over

CLEAN = data.camera()[100:140, 100:144] / 255.0
NOISY = CLEAN + 0.1 * numpy.random.default_rng(0).standard_normal(CLEAN.shape)
MODEL = "mgradnet-m"


def counts(white: float, kind: str) -> numpy.ndarray:
    return numpy.round(NOISY.clip(0, 1) * white).astype(kind)


def roughness(image: numpy.ndarray) -> float:
    return float(numpy.abs(numpy.diff(image, axis=-2)).mean())


IMAGES = {
    "float64": NOISY,
    "float16": NOISY.astype(numpy.float16),
    "floats to 255": 255 * NOISY,
    "tiny floats": 1e-6 * NOISY,
    "8 bits": counts(255, "uint8"),
    "16 bits": counts(65535, "uint16"),
    "12 of 16 bits": counts(4095, "uint16"),
    "foreign byte order": counts(65535, ">u2"),
    "signed": counts(3000, "int16"),
    "wide": counts(255, "int64"),
    "backwards": NOISY[::-1],
    "colour": numpy.dstack([NOISY] * 3),
    "bands": numpy.dstack([NOISY] * 2),
    "stack": numpy.stack([NOISY, NOISY]),
    "stack of colour": numpy.stack([numpy.dstack([NOISY] * 3)] * 2),
    "tensor": torch.from_numpy(NOISY),
    "tensor of bytes": torch.from_numpy(counts(255, "uint8")),
    "colour tensor": torch.from_numpy(NOISY).expand(3, -1, -1),
    "batch": torch.from_numpy(NOISY).expand(2, 1, -1, -1),
}


@over("image", IMAGES)
def test_the_same_kind_comes_back_less_noisy(image):
    result = convexreg.denoise(image, model=MODEL)
    assert type(result) is type(image)
    assert result.dtype == image.dtype
    assert result.shape == image.shape
    before, after = (numpy.asarray(each, dtype=float) for each in (image, result))
    assert roughness(after) < 0.4 * roughness(before)
    assert abs(after.mean() - before.mean()) < 0.01 * numpy.abs(before).max()


def test_the_scale_makes_no_difference():
    one = convexreg.denoise(NOISY.astype(numpy.float32), 0.1, model=MODEL)
    eight = convexreg.denoise(counts(255, "uint8"), 0.1, model=MODEL)
    white = convexreg.denoise(255 * NOISY, 0.1, white=255, model=MODEL)
    assert abs(255 * one - eight).mean() < 4  # what clipping costs
    assert abs(255 * one - white).max() < 0.1


def test_stacks_are_picture_by_picture():
    other = NOISY[::-1].copy()
    stack = convexreg.denoise(numpy.stack([NOISY, other]), [0.1, 0.05], model=MODEL)
    for image, level, result in zip((NOISY, other), (0.1, 0.05), stack, strict=True):
        alone = convexreg.denoise(image, level, model=MODEL)
        numpy.testing.assert_allclose(result, alone, atol=1e-6)
    swapped = numpy.moveaxis(numpy.dstack([NOISY] * 3), -1, 0)
    axis = convexreg.denoise(swapped, 0.1, model=MODEL, channel_axis=0)
    usual = convexreg.denoise(numpy.moveaxis(swapped, 0, -1), 0.1, model=MODEL)
    gray = convexreg.denoise(NOISY, 0.1, model=MODEL)
    numpy.testing.assert_array_equal(usual, numpy.dstack([gray] * 3))
    numpy.testing.assert_allclose(numpy.moveaxis(axis, 0, -1), usual, atol=1e-6)


def test_maps_and_photons():
    level = numpy.full(CLEAN.shape, 0.1)
    one = convexreg.denoise(NOISY, 0.1, model=MODEL)
    numpy.testing.assert_allclose(convexreg.denoise(NOISY, level, model=MODEL), one, atol=1e-6)
    photons = numpy.random.default_rng(0).poisson(50 * CLEAN) + 100
    for image, gain in ((photons.astype("uint16"), "auto"), ((photons - 100) / 50, 0.02)):
        result = convexreg.denoise(image, gain=gain, model=MODEL)
        clean = CLEAN if gain == 0.02 else 50 * CLEAN + 100
        assert ((result - clean) ** 2).mean() < ((image - clean) ** 2).mean() / 5


def test_without_noise_there_is_a_copy():
    ramp = torch.linspace(0, 1, 64).expand(1, 64, 64)
    assert denoised(ramp, 1e-5).result is None
    with pytest.warns(UserWarning, match="the picture is copied"):
        assert (convexreg.denoise(numpy.full((32, 32), 7, "uint8")) == 7).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convexreg.denoise(NOISY, model=MODEL)


@pytest.mark.parametrize("boundary", ["valid", "circular"])
def test_deblur(boundary):
    kernel = numpy.ones((3, 3))
    sharp = convexreg.deblur(counts(255, "uint8"), kernel, 0.1, boundary=boundary, model=MODEL)
    assert sharp.shape == NOISY.shape
    assert sharp.dtype == numpy.uint8


REFUSED = {
    "level of bytes": ((counts(255, "uint8"), 25), ValueError, "divide by 255"),
    "negative": ((NOISY, -0.1), ValueError, "sigma must be positive"),
    "word": ((NOISY, "auto"), ValueError, "None to estimate it"),
    "map": ((NOISY, numpy.ones((3, 3))), ValueError, "one per pixel"),
    "truth": ((NOISY > 0, None), TypeError, "integers or floats"),
    "complex": ((NOISY + 1j, None), TypeError, "integers or floats"),
    "list": (([1.0], None), TypeError, "NumPy array or a tensor"),
    "line": ((NOISY[0], None), ValueError, "an image is"),
    "nan": ((NOISY * numpy.nan, None), ValueError, "NaN"),
}


@over("case", REFUSED)
def test_refusals(case):
    arguments, kind, message = case
    with pytest.raises(kind, match=message):
        convexreg.denoise(*arguments, model=MODEL)


ROUND = numpy.exp(-(numpy.arange(-4, 5) ** 2) / 4)
ROUND = ROUND[:, None] * ROUND
MEASURED = numpy.pad(ROUND, 4) + 0.1

KERNELS = {
    "even": (numpy.ones((2, 4)), "centre is taken at row 1, column 2"),
    "integers": (numpy.ones((3, 3), "uint8"), None),
    "rounding below zero": (ROUND - 1e-9, None),
    "background": (MEASURED, "background"),
    "tensor of PyTorch": (torch.from_numpy(ROUND)[None, None], None),
    "one for each colour": (numpy.dstack([ROUND] * 2 + [numpy.eye(9)]), None),
    "the same as tensor": (torch.from_numpy(numpy.stack([ROUND] * 2 + [numpy.eye(9)])), None),
}


@over("case", KERNELS)
def test_kernels_as_people_have_them(case):
    kernel, remark = case
    colour = numpy.dstack([CLEAN] * 3)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        sharp = convexreg.deblur(colour, kernel, 0.02, model=MODEL, accuracy="fast")
    assert sharp.shape == colour.shape
    assert [remark in str(each.message) for each in said] == [True] * (remark is not None)
    assert (sharp[..., 0] == sharp[..., 2]).all() == (numpy.asarray(kernel).ndim != 3)


NO_KERNELS = {
    "zero": (numpy.zeros((3, 3)), "sums to zero"),
    "negative": (-numpy.eye(3), "negative entries"),
    "line": (numpy.ones(3), "has shape"),
    "empty": (numpy.ones((0, 3)), "empty"),
    "words": (numpy.array([["a"]]), "real numbers"),
    "colour": (numpy.dstack([numpy.eye(3), numpy.ones((3, 3)), numpy.eye(3)]), "3 channels"),
    "large": (numpy.ones((99, 99)), "larger than the photograph"),
}


@over("case", NO_KERNELS)
def test_refusals_of_kernels(case):
    kernel, message = case
    with pytest.raises(ValueError, match=message):
        convexreg.deblur(NOISY, kernel, 0.1)
