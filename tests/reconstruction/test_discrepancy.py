"""The weight chosen by the discrepancy principle."""

from __future__ import annotations

import deepinv
import torch

from convexreg import ConvexReconstructor, reconstruct
from convexreg.reconstruction.discrepancy import discrepancy_weight
from tests.problems import scenes, small_regularizer


def test_the_misfit_is_that_of_the_noise_or_the_weight_is_one():
    regularizer = small_regularizer()
    for name, parameter in regularizer.named_parameters():
        if "log_slope" in name:
            parameter.data.add_(3)
    kernel = torch.ones(1, 1, 3, 3).double() / 9
    physics = deepinv.physics.Blur(kernel, padding="circular")
    exact = physics.A(scenes(3, 12, 10))
    sigma = torch.tensor([0.01, 0.05, 0.4]).double()
    y = exact + sigma.reshape(3, 1, 1, 1) * torch.randn_like(exact)
    lam = discrepancy_weight(y, physics, sigma=sigma, regularizer=regularizer)
    assert ((lam >= 1 / 64) & (lam <= 1)).all()
    assert (lam < 1).any()

    def misfit(weight) -> torch.Tensor:
        x = reconstruct(y, physics, sigma=sigma, regularizer=regularizer, lam=weight).image
        return (physics.A(x) - y).square().mean((1, 2, 3)).sqrt() / sigma

    assert (misfit(lam) <= 1.01).all()
    assert ((misfit((1.15 * lam).clamp_max(1)) >= 0.99) | (lam == 1)).all()
    for index in range(3):
        alone = discrepancy_weight(
            y[index : index + 1], physics, sigma=float(sigma[index]), regularizer=regularizer
        )
        torch.testing.assert_close(alone, lam[index : index + 1], rtol=0.08, atol=0)
    model = ConvexReconstructor(regularizer, sigma=0.05, lam="discrepancy")
    chosen = reconstruct(y[1:2], physics, sigma=0.05, regularizer=regularizer, lam=lam[1:2]).image
    torch.testing.assert_close(model(y[1:2], physics), chosen, rtol=0, atol=0.01)


def test_only_measured_pixels_count():
    """Half of them missing: the misfit allowed is that of the other half."""
    regularizer = small_regularizer()
    for name, parameter in regularizer.named_parameters():
        if "log_slope" in name:
            parameter.data.add_(3)
    clean = scenes(1, 8, 7)
    mask = (torch.rand(1, 1, 8, 7) > 0.5).double()
    physics = deepinv.physics.Inpainting((1, 8, 7), mask=mask)
    y = physics.A(clean + 0.05 * torch.randn_like(clean))
    lam = discrepancy_weight(y, physics, sigma=0.05, regularizer=regularizer)
    assert lam < 1
    x = reconstruct(y, physics, sigma=0.05, regularizer=regularizer, lam=lam).image
    misfit = (physics.A(x) - y).square().sum() / mask.sum()
    assert 0.8 * 0.05 < misfit.sqrt() <= 1.01 * 0.05
