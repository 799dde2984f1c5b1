"""Noise of luminance and colour differences, found in a picture and given."""

from __future__ import annotations

import numpy
import pytest
import torch
from skimage import data
from torch import Tensor

import convexreg
from convexreg import ColourNoise
from convexreg.networks.colour import in_colour
from convexreg.restoration.noise import noise_of
from tests.cli.command import run


def photograph() -> Tensor:
    return torch.from_numpy(data.astronaut()[:256, 100:356]).permute(2, 0, 1) / 255


def noisy(luminance: float, chroma: float) -> Tensor:
    levels = torch.tensor([luminance, chroma, chroma]).reshape(3, 1, 1)
    clean = photograph()
    return clean + in_colour((levels * torch.randn_like(clean))[None])[0]


@pytest.mark.parametrize("levels", [(0.06, 0.012), (0.03, 0.01), (0.02, 0.06)])
def test_levels_that_differ_are_found(levels: tuple[float, float]) -> None:
    found = noise_of(noisy(*levels), None, of_planes=True)
    assert found.colour is not None
    assert found.colour.luminance == pytest.approx(levels[0], rel=0.15)
    assert found.colour.chroma == pytest.approx(levels[1], rel=0.15)
    assert found.rms == pytest.approx(ColourNoise(*levels).level, rel=0.15)
    assert "of the luminance" in found.notes[0]


@pytest.mark.parametrize("level", [0.01, 0.03, 0.1])
def test_white_noise_is_one_level(level: float) -> None:
    assert noise_of(noisy(level, level), None, of_planes=True).colour is None
    assert noise_of(noisy(0.06, 0.006), None).colour is None


def test_arrays_are_denoised_by_levels_that_are_given_or_found() -> None:
    """Better than with one level, and alike."""
    clean, picture = photograph()[:, 96:160, 60:124], noisy(0.08, 0.02)[:, 96:160, 60:124]

    def error(**options) -> float:
        restored = convexreg.denoise(picture, model="mgradnet-m-colour", **options)
        return float((restored - clean).square().mean())

    one = error(sigma=ColourNoise(0.08, 0.02).level)
    assert error(sigma=ColourNoise(0.08, 0.02)) < 0.8 * one
    with pytest.warns(UserWarning, match="noise of the luminance"):
        assert error() < 0.8 * one


def test_the_command_line_takes_two_levels(tmp_path, capsys) -> None:
    picture, restored = tmp_path / "a.npy", tmp_path / "b.npy"
    numpy.save(picture, noisy(0.06, 0.02)[:, :48, :48].permute(1, 2, 0).numpy())
    command = ("denoise", picture, "-o", restored, "-m", "mgradnet-m-colour", "--json", "--sigma")
    assert run(*command, "0.06,0.02") == 0
    assert '"sigma_of_colour": 0.02' in capsys.readouterr().out
    assert run(*command, "1,2,3") == 2
    assert "one noise level, or two" in capsys.readouterr().err
