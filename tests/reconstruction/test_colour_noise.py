"""Noise of one level in the luminance and of another one in the colour differences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from convexreg import AdaptiveRegularizer, ColourNoise, reconstruct
from convexreg.networks.colour import in_colour, in_planes
from convexreg.networks.colour_network import CONTRAST
from convexreg.reconstruction.defaults import Tolerance
from convexreg.solvers.operators import Identity
from tests.tables import perturbed
from tests.test_regularizer import BLOCKS, SMALL

NOISE = ColourNoise(0.03, 0.11)


class Halved(Identity):
    """Not the identity."""

    def A(self, x: Tensor) -> Tensor:
        return x / 2

    A_adjoint = A


def model(adaptive: bool = False):
    config = replace(SMALL, chroma=BLOCKS, adaptive=adaptive, weight_width=4)
    return perturbed(config.build_adaptive() if adaptive else config.build(), 0.1)


def noisy(noise: ColourNoise = NOISE) -> Tensor:
    levels = torch.tensor([noise.luminance, noise.chroma, noise.chroma]).reshape(3, 1, 1)
    ramp = torch.linspace(0, 1, 19, dtype=torch.float64).expand(2, 3, 14, 19)
    return ramp + in_colour(levels * torch.randn_like(ramp))


@pytest.mark.parametrize("adaptive", [False, True])
def test_two_levels_that_are_one_change_nothing(adaptive: bool) -> None:
    y, own = noisy(), model(adaptive)
    options = {"regularizer": own, "gap_tol": 1e-11}
    mine = reconstruct(y, Identity(), sigma=ColourNoise(0.08, 0.08), **options)
    one = reconstruct(y, Identity(), sigma=0.08, **options)
    torch.testing.assert_close(mine.image, one.image, rtol=0, atol=1e-6)


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_problem_of_the_whole_has_that_minimum_and_certificate(adaptive: bool) -> None:
    result = reconstruct(
        noisy(), Identity(), sigma=NOISE, regularizer=model(adaptive), gap_tol=1e-11
    )
    assert result.converged
    problem = result.problem
    again = problem.minimise(result.image, tolerance=Tolerance(gap_tol=1e-11))
    torch.testing.assert_close(result.image, again.x, rtol=0, atol=1e-5)
    value = problem.objective.value(result.image)
    gaps = result.certificate.gap + again.certificate.gap
    assert bool((value - again.certificate.lower <= gaps + 1e-14 * value).all())


def test_certificates_are_those_of_the_parts() -> None:
    """In float32 as well, where the bound of the whole would be a hundred times as loose."""
    noise = ColourNoise(0.12, 0.01)
    y = noisy(noise).float()
    result = reconstruct(y, Identity(), sigma=noise, regularizer=model().float())
    assert result.converged
    exact = result.problem.exact(result.image)
    least = exact.minimise(result.image.double(), tolerance=Tolerance(gap_tol=1e-10))
    excess = exact.objective.value(result.image.double()) - least.certificate.lower
    assert bool((excess <= result.certificate.gap + least.certificate.gap).all())


def test_either_part_is_denoised_at_its_level() -> None:
    y, own = noisy(), model()
    planes = in_planes(
        reconstruct(y, Identity(), sigma=NOISE, regularizer=own, gap_tol=1e-11).image
    )
    luminance = in_planes(y)[:, :1] / CONTRAST
    alone = reconstruct(
        luminance,
        Identity(),
        sigma=NOISE.luminance / CONTRAST,
        regularizer=own,
        gap_tol=1e-11,
    )
    torch.testing.assert_close(planes[:, :1], CONTRAST * alone.image, rtol=0, atol=1e-5)
    other = reconstruct(y, Identity(), sigma=NOISE.chroma, regularizer=own, gap_tol=1e-11)
    torch.testing.assert_close(planes[:, 1:], in_planes(other.image)[:, 1:], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ColourNoise(0.1, 0.0), "positive and finite, got 0.1 and 0.0"),
        (lambda: reconstruct(noisy()[:, :1], Identity(), sigma=NOISE), "denoising colour images"),
        (lambda: reconstruct(noisy(), Halved(), sigma=NOISE), "denoising colour images"),
        (
            lambda: reconstruct(noisy(), Identity(), sigma=NOISE, regularizer="mgradnet-m"),
            "need a model for colour images",
        ),
        (
            lambda: reconstruct(
                noisy(), Identity(), sigma=ColourNoise(0.001, 0.9), regularizer=model()
            ),
            "900 times as strong are farther apart",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_adaptive_models_share_their_parameters() -> None:
    own = model(True)
    twin = own.with_noise_ratios(0.5, 1.2)
    assert isinstance(twin, AdaptiveRegularizer)
    assert {id(p) for p in twin.parameters()} == {id(p) for p in own.parameters()}
    assert own.second.network.ratios == (1.0, 1.0)
