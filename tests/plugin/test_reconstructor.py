"""The certified reconstruction as a model of deepinv."""

from __future__ import annotations

import copy

import deepinv
import pytest
import torch
from deepinv.optim import L2
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from convexreg import ConvexReconstructor, reconstruct
from tests.plugin.conftest import SIGMA, SIZE, blur
from tests.problems import scenes
from tests.tables import over


class _Pairs(Dataset):
    """Images for `deepinv.test` and `Trainer`."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": self.images[index]}


@pytest.fixture
def noisy_blur():
    physics = blur(torch.float32)
    physics.noise_model = deepinv.physics.GaussianNoise(0.05)
    return physics


def test_reconstructor_reports_the_iterations_of_every_image(regularizer, noisy_blur, images):
    model = ConvexReconstructor(regularizer.float(), gap_tol=1e-3)
    x = torch.cat([scenes(1, *SIZE), torch.full((1, 1, *SIZE), 0.4).double()]).float()
    y = noisy_blur(x)
    image, metrics = model(y, noisy_blur, x_gt=x, compute_metrics=True)
    sigma = noisy_blur.noise_model.sigma
    result = reconstruct(y, noisy_blur, sigma=sigma, regularizer=regularizer, gap_tol=1e-3)
    assert torch.equal(image, result.image)
    assert torch.equal(model(y, noisy_blur), image)
    seen = []
    watched = ConvexReconstructor(regularizer, gap_tol=1e-3, callback=seen.append)
    assert torch.equal(watched(y, noisy_blur, compute_metrics=True)[0], image)
    assert len(seen) == int(result.iterations.max())
    for index in range(2):
        count = int(result.iterations[index])
        assert {name: len(lists[index]) - count for name, lists in metrics.items()} == {
            "psnr": 1,
            "residual": 0,
            "relative_gap": 0,
            "cost": 0,
        }
        assert metrics["relative_gap"][index][-1] <= 1e-3
        assert metrics["cost"][index] == sorted(metrics["cost"][index], reverse=True)


def test_reconstructor_in_test_and_trainer(regularizer, noisy_blur, tmp_path):
    """Training through the exact minimiser repairs a regularizer that is far too strong."""
    for name, parameter in regularizer.float().named_parameters():
        if "log_slope" in name:
            parameter.data.add_(3)
    loader = DataLoader(_Pairs(scenes(4, *SIZE).float()), batch_size=2)
    model = ConvexReconstructor(regularizer, gap_tol=1e-3)
    settings = {
        "metrics": [deepinv.metric.PSNR()],
        "online_measurements": True,
        "plot_images": False,
        "device": "cpu",
        "non_blocking_transfers": False,
        "verbose": False,
        "show_progress_bar": False,
    }

    def score(**options) -> float:
        torch.manual_seed(1)
        return deepinv.test(model, loader, noisy_blur, **settings, **options)["PSNR"]

    before = score(plot_convergence_metrics=True, save_folder=tmp_path)
    assert list(tmp_path.rglob("curves.png"))
    optimizer = torch.optim.Adam(model.requires_grad_().parameters(), lr=0.1)
    losses = [deepinv.loss.SupLoss()]
    deepinv.Trainer(
        model, noisy_blur, optimizer, loader, epochs=8, losses=losses, save_path=None, **settings
    ).train()
    assert score() > before + 1


@over("options", {"least-squares": {}, "fidelity": {"fidelity": L2(sigma=0.5), "lam": 0.2}})
def test_reconstructor_has_the_derivative_of_the_exact_minimiser(options, regularizer):
    physics = blur()
    y = physics.A(scenes(1, *SIZE)).requires_grad_()
    model = ConvexReconstructor(regularizer, sigma=SIGMA, gap_tol=1e-12, anchor=0.1, **options)
    probe, direction = torch.randn_like(y), torch.randn_like(y)
    (grad,) = torch.autograd.grad((model(y, physics) * probe).sum(), y)
    with torch.no_grad():
        step = 1e-4 * direction
        difference = model(y + step, physics) - model(y - step, physics)
        expected = (difference * probe).sum() / 2
    torch.testing.assert_close((grad * step).sum(), expected, rtol=1e-3, atol=0)
    boxed = ConvexReconstructor(regularizer, sigma=SIGMA, box=(0.0, 1.0))
    with pytest.raises(ValueError, match="without a box"):
        boxed(y, physics)


def test_the_noise_level_is_that_of_the_noise_model(regularizer, images):
    physics = blur()
    model = ConvexReconstructor(regularizer)
    with pytest.raises(ValueError, match="give sigma"):
        model(images, physics)
    physics.noise_model = deepinv.physics.GammaNoise()
    with pytest.raises(ValueError, match="GammaNoise"):
        model(images, physics)
    physics.noise_model = deepinv.physics.GaussianNoise(SIGMA)
    told = ConvexReconstructor(regularizer, sigma=SIGMA)(images, physics)
    torch.testing.assert_close(model(images, physics), told, rtol=0, atol=1e-6)


def test_gradients_reach_a_float32_model_from_float64_measurements(regularizer):
    model = ConvexReconstructor(regularizer.float().requires_grad_(), sigma=SIGMA)
    physics = blur()
    y = physics.A(scenes(1, *SIZE)).requires_grad_()
    image = model(y, physics)
    assert image.dtype == torch.float64
    image.square().sum().backward()
    exact = ConvexReconstructor(copy.deepcopy(regularizer).double(), sigma=SIGMA)
    other = y.detach().clone().requires_grad_()
    exact(other, physics).square().sum().backward()
    assert y.grad is not None
    torch.testing.assert_close(y.grad, other.grad, rtol=1e-5, atol=1e-7)
    found = [(p.grad, q.grad) for p, q in zip(model.parameters(), exact.parameters(), strict=True)]
    assert all(grad is not None and grad.dtype == torch.float32 for grad, _ in found)
    for grad, right in found:
        torch.testing.assert_close(grad, right.float(), rtol=1e-3, atol=1e-4)
