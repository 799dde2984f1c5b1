"""Starting images: closer to the answer than the measurements, image by image."""

from __future__ import annotations

import deepinv
import pytest
import torch
from skimage.data import camera

from convexreg.reconstruction.start import back_projection, local_wiener, starting_image

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


def test_the_better_fit_of_measurements_and_back_projection_is_the_start() -> None:
    """A blurred photograph is its own start; one of another scale is far from what it measures."""
    kernel = torch.tensor([[1.0, 2.0, 1.0], [2.0, 9.0, 2.0], [1.0, 2.0, 1.0]]).double()[None, None]
    kernels = torch.cat([kernel / kernel.sum(), 3 * kernel / kernel.sum()])
    physics = deepinv.physics.Blur(kernels, padding="circular")
    y = physics.A(torch.rand(2, 1, 8, 9).double())
    start = starting_image(y, physics, 0.1)
    assert torch.equal(start[0], y[0])
    # the same image: A^T y is 9 times the blurred image and A^T A 1 is 9
    torch.testing.assert_close(start[1:], physics.A_adjoint(y)[1:] / 9)


@pytest.mark.parametrize("middle", [2.0, 3.0])
def test_images_with_a_negative_response_are_back_projections_to_scale(middle: float) -> None:
    """`A^T A 1` of these kernels is zero, or negative at the border, and cannot be divided by."""
    kernel = torch.tensor([[-1.0, middle, -1.0]] * 3).double()[None, None] / 3
    physics = deepinv.physics.Blur(kernel, padding="valid")
    x = torch.rand(2, 1, 8, 9).double()
    y = physics.A(x)
    ones = physics.A_adjoint(physics.A(torch.ones_like(x)))
    assert ones.min() < -0.1 or ones.abs().max() < 1e-12
    image = physics.A_adjoint(y)
    again = physics.A(image)
    scale = (again * y).sum((1, 2, 3)) / again.square().sum((1, 2, 3))
    expected = scale.reshape(2, 1, 1, 1) * image
    torch.testing.assert_close(starting_image(y, physics, 0.1), expected)


def test_pixels_hardly_seen_get_the_mean_of_the_others() -> None:
    mask = torch.rand(2, 1, 6, 7).double() + 0.5
    mask[:, :, :2], mask[:, :, 2] = 0, 0.05
    physics = deepinv.physics.Inpainting((1, 6, 7), mask=mask)
    x = torch.rand(2, 1, 6, 7).double()
    x[:, :, 2] = 50  # would change the mean
    start = back_projection(physics.A_adjoint(physics.A(x)), torch.ones(2).double(), physics)
    weight, seen = mask[:, :, 3:].square(), x[:, :, 3:]
    mean = (weight * seen).sum((1, 2, 3)) / weight.sum((1, 2, 3))
    torch.testing.assert_close(start[:, :, 3:], seen)
    torch.testing.assert_close(start[:, :, :3], mean.reshape(2, 1, 1, 1).expand(-1, -1, 3, 7))
