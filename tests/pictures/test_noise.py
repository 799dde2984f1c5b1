"""Estimated noise: right wherever there is noise, and doubted where it is not white."""

from __future__ import annotations

from contextlib import suppress

import numpy
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage import data

from convexreg.pictures.blocks import NoNoise, PictureTooSmall
from convexreg.pictures.noise import estimate_noise, estimate_sigma
from convexreg.pictures.noise_curve import estimate_noise_curve
from convexreg.pictures.photon_noise import estimate_photon_noise
from tests.tables import over

CLEAN = data.camera() / 255.0
SHAPE = CLEAN.shape


def noise(level: float) -> numpy.ndarray:
    return level * numpy.random.default_rng(0).standard_normal(SHAPE)


def picture(array: numpy.ndarray) -> torch.Tensor:
    return torch.from_numpy(numpy.ascontiguousarray(array)).float()[None]


def exposed(array: numpy.ndarray) -> numpy.ndarray:
    return numpy.round(array.clip(0, 1) * 255) / 255


def covered(array: numpy.ndarray, share: float, value: float) -> numpy.ndarray:
    result = array.copy()
    result[:, : int(share * SHAPE[1])] = value
    return result


def framed(array: numpy.ndarray) -> numpy.ndarray:
    result = numpy.full(SHAPE, 0.9)
    result[60:-60, 80:-80] = array[60:-60, 80:-80]
    return result


DISTURBED = {
    "floats": lambda noisy: noisy,
    "8 bits": exposed,
    "30 % white": lambda noisy: covered(exposed(noisy), 0.3, 1.0),
    "50 % white": lambda noisy: covered(exposed(noisy), 0.5, 1.0),
    "80 % black": lambda noisy: covered(exposed(noisy), 0.8, 0.0),
    "50 % gray": lambda noisy: covered(exposed(noisy), 0.5, 128 / 255),
    "border": lambda noisy: exposed(framed(noisy)),
    "saturated below white": lambda noisy: numpy.minimum(exposed(noisy), 200 / 255),
    "repeated column": lambda noisy: numpy.where(
        numpy.arange(SHAPE[1]) < 160, noisy[:, 160:161], noisy
    ),
    "counts": lambda noisy: numpy.round(300 * noisy + 100),
}


@over("disturbed", DISTURBED)
def test_levels_are_those_of_the_places_with_noise(disturbed):
    unit = 300 if disturbed is DISTURBED["counts"] else 1
    found = estimate_noise(picture(disturbed(CLEAN + noise(0.1))))
    assert found.sigma == pytest.approx(0.1 * unit, rel=0.12)
    assert found.white


def test_planes_have_levels_of_their_own():
    planes = torch.cat([picture(0.5 + noise(level)) for level in (0.02, 0.05, 0.1)])
    assert estimate_noise(planes).levels == pytest.approx((0.02, 0.05, 0.1), rel=0.05)
    assert estimate_sigma(planes) == pytest.approx((0.0129 / 3) ** 0.5, rel=0.05)


def test_shared_noise_is_doubted():
    smooth = gaussian_filter(noise(1), 0.7)
    found = estimate_noise(picture(CLEAN + 0.1 * smooth / smooth.std()))
    assert not found.white
    assert found.sigma < 0.06
    assert found.sigma < found.advised <= max(found.coarse) * 1.01


@pytest.mark.parametrize(("gain", "read_out"), [(0.02, 0.02), (0.05, 0.0), (0.0, 0.05)])
@pytest.mark.parametrize("black", [0.0, 0.3])
def test_photon_noise(gain, read_out, black):
    random = numpy.random.default_rng(0)
    counts = gain * random.poisson(CLEAN / gain) if gain else CLEAN
    noisy = counts + noise(read_out) + black
    found = estimate_photon_noise(picture(noisy))
    assert found.gain == pytest.approx(gain, rel=0.2, abs=2e-3)
    for brightness in (0.2, 0.7):
        right = gain * brightness + read_out**2
        assert found.gain * (brightness + black) + found.floor == pytest.approx(right, rel=0.4)


GROWING = {"photons": (0.02, 0.02, True), "bright": (0.002, 0.0, True)}
GROWING |= {f"{255 * level:.0f}/255": (0.0, level, False) for level in (10 / 255, 0.1, 0.2)}


@over("case", GROWING)
def test_whether_noise_grows_with_the_brightness(case):
    """In any unit, whatever black is."""
    gain, read_out, growing = case
    random = numpy.random.default_rng(0)
    noisy = (gain * random.poisson(CLEAN / gain) if gain else CLEAN) + noise(read_out)
    for scale, black in ((1, 0), (4000, 100)):
        found = estimate_photon_noise(picture(scale * noisy + black))
        assert found.fit.evident == growing


def test_noise_that_falls_with_the_brightness():
    """Of strength from 30 to 4/255; and white noise is not taken for it."""
    right = 30 / 255 * numpy.exp(-2 * CLEAN)
    for scale, black in ((1, 0), (4000, 100)):
        pixels = picture(scale * (CLEAN + right * noise(1.0)) + black)
        found = estimate_noise_curve(pixels)
        assert found.fit.evident
        levels = found.levels(pixels)[0].numpy() / scale
        assert levels.shape == SHAPE
        assert numpy.median(abs(levels / right - 1)) < 0.1
    for level in (0.05, 0.1, 0.2):
        with suppress(NoNoise):
            assert not estimate_noise_curve(picture(CLEAN + noise(level))).fit.evident


@pytest.mark.parametrize("width", [0.6, 0.8])
def test_noise_that_neighbours_share_is_seen_over_more_pixels(width):
    smooth = gaussian_filter(noise(1.0), width)
    found = estimate_noise(picture(CLEAN + 0.05 * smooth / smooth.std()))
    assert found.sigma < 0.03
    assert found.advised == pytest.approx(0.05, rel=0.25)


def test_where_there_is_none():
    with pytest.raises(NoNoise, match="no noise"):
        estimate_noise(torch.full((1, 32, 32), 0.5))
    with pytest.raises(NoNoise, match="too little of different brightness"):
        estimate_photon_noise(0.5 + 0 * torch.rand(1, 18, 18) + picture(noise(0.01))[:, :18, :18])
    with pytest.raises(PictureTooSmall, match="15 x 40"):
        estimate_noise(torch.rand(1, 15, 40))
