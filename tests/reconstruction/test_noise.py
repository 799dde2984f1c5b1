"""Noise that is not equally strong everywhere: given, or said by the physics."""

from __future__ import annotations

import deepinv
import pytest
import torch
from deepinv.physics import Blur, Denoising, Inpainting, PoissonGaussianNoise, PoissonNoise
from skimage import data

from convexreg import ConvexReconstructor, reconstruct
from convexreg.reconstruction.noise import measurement_noise
from convexreg.reconstruction.posterior import sample_posterior
from convexreg.solvers import Identity
from convexreg.solvers.data_terms import WeightedLeastSquares
from tests.problems import scenes, small_regularizer
from tests.tables import over


def psnr(image, clean) -> float:
    return float(-10 * torch.log10((image - clean).square().mean()))


def photograph(side: int) -> torch.Tensor:
    corner = torch.from_numpy(data.camera()[100 : 100 + side, 100 : 100 + side].copy())
    return corner.float()[None, None] / 255


def photons(clean: torch.Tensor, gain: float, sigma: float) -> torch.Tensor:
    return gain * torch.poisson(clean / gain) + sigma * torch.randn_like(clean)


def test_a_map_of_one_level_is_that_level() -> None:
    y, regularizer = scenes(2), small_regularizer()
    one = reconstruct(y, Identity(), sigma=0.1, regularizer=regularizer)
    levels = torch.full_like(y, 0.1)
    same = reconstruct(y, Identity(), sigma=levels, regularizer=regularizer)
    torch.testing.assert_close(same.image, one.image)
    assert not isinstance(same.problem.data, WeightedLeastSquares)


@over("channels", {"gray": 1, "colour": 3})
def test_maps_are_certified_and_images_are_alone(channels) -> None:
    y = scenes(2, 12, 12, channels) + 0.05 * torch.randn(2, channels, 12, 12).double()
    levels = 0.02 + 0.2 * torch.rand(2, 1, 12, 12).double()
    regularizer = small_regularizer()
    options = {"regularizer": regularizer, "gap_tol": 1e-6}
    together = reconstruct(y, Identity(), sigma=levels, **options)
    assert together.converged
    grad = together.problem.exact(y).objective.grad(together.image)
    assert float(grad.abs().max()) < 1e-2
    for i in range(2):
        alone = reconstruct(y[i : i + 1], Identity(), sigma=levels[i : i + 1], **options)
        torch.testing.assert_close(together.image[i : i + 1], alone.image, rtol=0, atol=1e-3)


def test_a_map_is_better_than_one_level() -> None:
    clean = photograph(64)
    levels = torch.full_like(clean, 0.03)
    levels[..., 32:] = 0.15
    y = clean + levels * torch.randn_like(clean)
    one = reconstruct(y, Denoising(), sigma=float(levels.square().mean().sqrt()))
    assert psnr(reconstruct(y, Denoising(), sigma=levels).image, clean) > psnr(one.image, clean) + 1


MIXED = {
    "photons": (PoissonNoise(0.05), 0.05, 0.0),
    "both": (PoissonGaussianNoise(gain=0.02, sigma=0.05), 0.02, 0.05),
}


@over("model", MIXED)
def test_the_noise_of_a_physics_is_all_of_it(model) -> None:
    """As good as with the exact variances, and better than with one level."""
    noise, gain, sigma = model
    clean = photograph(64)
    y = photons(clean, gain, sigma)
    physics = Denoising(noise)
    result = reconstruct(y, physics)
    variance = gain * clean.clamp_min(1 / 255) + sigma**2
    exact = reconstruct(y, Denoising(), sigma=variance.sqrt())
    one = reconstruct(y, Denoising(), sigma=float(variance.mean().sqrt()))
    assert result.converged
    assert psnr(result.image, clean) > psnr(exact.image, clean) - 0.3
    assert psnr(result.image, clean) > psnr(one.image, clean) - 0.1
    torch.testing.assert_close(ConvexReconstructor()(y, physics), result.image)


def test_blurred_photons() -> None:
    clean = photograph(48)
    kernel = torch.ones(1, 1, 3, 3) / 9
    physics = Blur(kernel, padding="circular", noise_model=PoissonGaussianNoise(0.01, 0.01))
    y = photons(physics.A(clean), 0.01, 0.01)
    result = reconstruct(y, physics, lam=0.25)
    assert result.converged
    assert psnr(result.image, clean) > psnr(y, clean)


def test_holes_have_no_say() -> None:
    mask = (torch.rand(1, 24, 24) > 0.5).float()
    physics = Inpainting((1, 24, 24), mask=mask, noise_model=PoissonGaussianNoise(0.01, 0.01))
    y = mask * torch.full((1, 1, 24, 24), 0.5)
    level = measurement_noise(None, physics, y).level
    assert abs(float(level) - (0.01 * 0.5 + 0.01**2) ** 0.5) < 0.02


@over(
    "model",
    {
        "gamma": deepinv.physics.GammaNoise(),
        "uniform": deepinv.physics.UniformNoise(),
        "not normalized": PoissonNoise(0.1, normalize=False),
        "salt and pepper": deepinv.physics.SaltPepperNoise(),
    },
)
def test_other_noise_models_are_refused(model) -> None:
    with pytest.raises(ValueError, match="give sigma"):
        reconstruct(torch.rand(1, 1, 16, 16), Denoising(model))


def test_sampling_takes_one_level() -> None:
    y = scenes(1)
    with pytest.raises(ValueError, match="one noise level per image"):
        sample_posterior(
            y, Denoising(PoissonNoise(0.1)), regularizer=small_regularizer(), max_steps=1
        )
