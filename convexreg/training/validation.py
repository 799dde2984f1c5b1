"""Validation during training: the PSNR that reconstructions by the exact minimiser reach."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

import torch
from torch import Tensor

from convexreg.models.config import AnyRegularizer
from convexreg.reconstruction.from_measurements import reconstruct
from convexreg.solvers.operators import Identity

VALIDATION_SIGMAS = (5 / 255, 15 / 255, 25 / 255, 50 / 255)


def validation_psnr(regularizer: AnyRegularizer, images: Sequence[Tensor]) -> dict[str, float]:
    """Mean PSNR at 5, 15, 25 and 50/255, where the model knows the level, keyed by 255 times it.

    :param images: `(1, H, W)` each; the noise of the n-th has the seed n, from 1.
    """
    low, high = regularizer.sigma_range or (0.0, 1.0)
    levels = [s for s in VALIDATION_SIGMAS if low <= s * (1 + 1e-6) and s <= high * (1 + 1e-6)]
    return {
        f"{255 * sigma:g}": mean(
            float(denoised_psnr(regularizer, image, sigma, seed))
            for seed, image in enumerate(images, 1)
        )
        for sigma in levels
    }


def denoised_psnr(
    regularizer: AnyRegularizer, image: Tensor, sigma: float, seed: int, *, gap_tol: float = 1e-4
) -> Tensor:
    """PSNR of the minimiser for `image` `(1, H, W)` plus seeded noise, 0-dim in dB.

    The noise is one `randn` in the image's shape from a CPU generator seeded with `seed`.
    """
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    noisy = (image + sigma * noise.to(image.device)).unsqueeze(0)
    result = reconstruct(
        noisy, Identity(), sigma=sigma, regularizer=regularizer, gap_tol=gap_tol, anchor=0.0
    )
    error = (result.image - image).double().square().mean()
    return -10 * error.log10()
