"""Starting images: closer to the answer than the measurements, image by image."""

from __future__ import annotations

import deepinv
import pytest
import torch
from skimage.data import camera

from convexreg.reconstruction import from_measurements, noise_gain, start
from convexreg.reconstruction.start import is_identity, local_wiener, starting_image
from tests.problems import scenes

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


def test_pixels_hardly_seen_are_filled_from_those_around_them() -> None:
    """A hole in a ramp becomes a ramp, to a few hundredths, whatever lies in it."""
    ramp = torch.linspace(0.2, 0.8, 24).double().expand(2, 1, 20, 24).clone()
    mask = torch.ones(2, 1, 20, 24).double()
    mask[:, :, 6:12, 8:14], mask[:, :, 12:14, 8:14] = 0, 0.05
    physics = deepinv.physics.Inpainting((1, 20, 24), mask=mask)
    measured = ramp.clone()
    measured[:, :, 12:14, 8:14] = 50
    start = starting_image(physics.A(measured), physics, 0.02)
    seen = mask > 0.1
    torch.testing.assert_close(start[seen], ramp[seen])
    assert (start - ramp).abs().max() < 0.06


def test_nothing_but_one_pixel_seen() -> None:
    mask = torch.zeros(1, 1, 5, 7).double()
    mask[..., 2, 3] = 1
    physics = deepinv.physics.Inpainting((1, 5, 7), mask=mask)
    start = starting_image(physics.A(torch.full((1, 1, 5, 7), 0.4).double()), physics, 0.02)
    torch.testing.assert_close(start, torch.full_like(start, 0.4))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_holes_are_holes_for_every_image(share: float) -> None:
    """`A^T y = y` for the zeros in the holes: yet this is no denoising, and no start is black there."""
    mask = (torch.rand(1, 1, 32, 32) >= share).double()
    mask[..., 5:12, 20:30] *= share == 0
    physics = deepinv.physics.Inpainting((1, 32, 32), mask=mask)
    assert is_identity(physics, mask) == (share == 0)
    y = physics.A(torch.full((1, 1, 32, 32), 0.7).double())
    assert torch.equal(physics.A_adjoint(y), y)
    start = starting_image(y, physics, 0.02)
    assert (start - 0.7).abs().max() < 1e-6


def test_whether_it_is_denoising_is_asked_once(monkeypatch) -> None:
    asked: list[bool] = []

    def counted(physics, x) -> bool:
        asked.append(is_identity(physics, x))
        return asked[-1]

    monkeypatch.setattr(from_measurements, "is_identity", counted)
    monkeypatch.setattr(noise_gain, "is_identity", counted)
    monkeypatch.setattr(start, "is_identity", counted)
    x = scenes(1, 12, 11).float()
    blur = deepinv.physics.Blur(torch.ones(1, 1, 3, 3) / 9, padding="circular")
    for physics, expected in ((DENOISING, True), (blur, False)):
        from_measurements.reconstruct(physics.A(x), physics, sigma=0.1, accuracy="fast")
        assert asked == [expected]
        asked.clear()
