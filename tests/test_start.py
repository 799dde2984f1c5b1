"""Starting images: closer to the answer than the measurements, image by image."""

from __future__ import annotations

import deepinv
import pytest
import torch
from skimage.data import camera

from convexreg.start import local_wiener, starting_image

DENOISING = deepinv.physics.Denoising()


@pytest.mark.parametrize("sigma", [5 / 255, 25 / 255, 50 / 255])
def test_wiener_removes_noise(sigma: float) -> None:
    clean = torch.from_numpy(camera()[100:196, 200:296] / 255).float()[None, None]
    noisy = clean + sigma * torch.randn_like(clean)
    start = starting_image(noisy, DENOISING, sigma)
    assert (start - clean).square().mean() < 0.7 * (noisy - clean).square().mean()


def test_wiener_limits() -> None:
    image = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(local_wiener(image, 1e-9), image)
    constant = torch.full((1, 1, 16, 16), 0.3)
    torch.testing.assert_close(local_wiener(constant, 0.1), constant)
    tiny = torch.rand(1, 1, 1, 2)
    assert local_wiener(tiny, 0.1).shape == tiny.shape


def test_each_image_by_itself() -> None:
    images, sigma = torch.rand(3, 1, 20, 24), torch.tensor([0.02, 0.1, 0.3], dtype=torch.float64)
    together = starting_image(images, DENOISING, sigma)
    alone = [starting_image(images[k : k + 1], DENOISING, sigma[k]) for k in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-6)
