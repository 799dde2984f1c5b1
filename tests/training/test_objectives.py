"""Training objectives: they learn, and their derivatives are exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from deepinv.loss.metric import PSNR
from torch import Tensor

from convexreg import ConvexRegularizer
from convexreg.models.config import ARCHITECTURES, Architecture
from convexreg.training.objectives import Accuracy, Equilibrium, TrainingObjective, Unrolled
from tests.problems import scenes, small_regularizer
from tests.tables import over
from tests.training.trainings import OBJECTIVES, config


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@over("build", OBJECTIVES)
def test_every_objective_learns(
    build: Callable[[], TrainingObjective], architecture: Architecture
) -> None:
    """The loss of a fixed batch goes down."""
    objective, regularizer = build(), config(architecture).build()
    clean = scenes(4, 12, 12).float()
    sigma = torch.tensor([0.03, 0.05, 0.1, 0.15])
    noisy = clean + sigma.reshape(-1, 1, 1, 1) * torch.randn_like(clean)
    optimizer = torch.optim.Adam(regularizer.parameters(), lr=2e-2)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = objective.loss(regularizer, clean, noisy, sigma)
        loss.backward()
        objective.after_backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05
    denoised = objective.denoise(regularizer, noisy, sigma, noisy).detach()
    assert (PSNR()(denoised, clean) > PSNR()(noisy, clean)).all()


@pytest.mark.parametrize("emphasis", [0.0, 1e-6, 0.5, 1.0])
def test_loss_is_the_transformed_error(emphasis: float) -> None:
    """Relative to what is typical: the same at every noise level, if the errors grow like it."""

    class Nothing(TrainingObjective):
        def denoise(
            self, regularizer: ConvexRegularizer, noisy: Tensor, sigma: Tensor, start: Tensor
        ) -> Tensor:
            return noisy

    sigma = torch.tensor([5.0, 15.0, 25.0]) / 255
    clean, error = torch.rand(3, 1, 5, 5), 0.03 * torch.randn(3, 1, 5, 5)
    loss = Nothing().loss(small_regularizer(), clean, clean + error, sigma, emphasis=emphasis)
    relative = error.flatten(1).square().mean(1) * 10**2.86 * (25 / (255 * sigma)) ** 1.23
    expected = (relative**emphasis - 1) / emphasis if emphasis > 1e-3 else relative.log()
    torch.testing.assert_close(loss, expected.mean(), rtol=1e-5, atol=1e-5)


def test_unrolled_approaches_the_equilibrium() -> None:
    regularizer = small_regularizer()
    clean = scenes(3)
    noisy = clean + 0.1 * torch.randn_like(clean)
    sigma = torch.tensor([0.05, 0.1, 0.2]).double()
    exact = Equilibrium(Accuracy(1e-12, 1e-10, 300)).denoise(regularizer, noisy, sigma, noisy)
    distances = [
        float((Unrolled(steps).denoise(regularizer, noisy, sigma, noisy) - exact).detach().norm())
        for steps in (1, 5, 20, 80)
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-5
    with pytest.raises(ValueError, match="at least one step"):
        Unrolled(0)


def test_unrolled_steps_have_the_momentum_of_a_strongly_convex_problem() -> None:
    """With `mu = 1` and `L = 1 + |grad R|_Lip`: two steps, written down."""
    regularizer, noisy = small_regularizer(), scenes(2) + 0.1 * torch.randn(2, 1, 7, 8).double()
    sigma, start = torch.tensor([0.05, 0.2]).double(), torch.rand_like(noisy)
    root = (1 + regularizer.lipschitz(sigma=sigma)).sqrt().reshape(2, 1, 1, 1)

    def descended(x: Tensor) -> Tensor:
        return x - (x - noisy + regularizer.grad(x, sigma)) / root**2

    first = descended(start)
    second = descended(first + (root - 1) / (root + 1) * (first - start))
    for steps, expected in ((1, first), (2, second)):
        x = Unrolled(steps).denoise(regularizer, noisy, sigma, start)
        torch.testing.assert_close(x, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("architecture", "tolerance"), [("mgradnet-m", 1e-5), ("crr", 1e-4)])
def test_equilibrium_gradient_is_that_of_the_exactly_solved_problem(
    architecture: Architecture, tolerance: float
) -> None:
    """To 1e-5; with splines to 1e-4, because the differences step over knots."""
    regularizer = small_regularizer(architecture).requires_grad_(True)
    clean = scenes(3, 5, 6)
    noisy = clean + 0.1 * torch.randn_like(clean)
    sigma = torch.tensor([0.05, 0.1, 0.2]).double()
    exact = Equilibrium(Accuracy(1e-15, 1e-11, 200))
    exact.loss(regularizer, clean, noisy, sigma).backward()
    exact.after_backward()
    assert exact.diagnostics["backward_residual"] <= 1e-11
    for name, parameter in regularizer.named_parameters():
        assert parameter.grad is not None, name
        direction, start, step = torch.randn_like(parameter), parameter.data.clone(), 1e-6
        losses = []
        for sign in (1, -1):
            parameter.data = start + sign * step * direction
            with torch.no_grad():
                losses.append(exact.loss(regularizer, clean, noisy, sigma).item())
        parameter.data = start
        expected = (losses[0] - losses[1]) / (2 * step)
        measured = float((parameter.grad * direction).sum())
        assert measured == pytest.approx(expected, rel=tolerance, abs=1e-7), name


def test_equilibrium_reports_its_accuracy() -> None:
    regularizer = small_regularizer().requires_grad_(True)
    noisy = scenes(2) + 0.1 * torch.randn(2, 1, 7, 8).double()
    objective = Equilibrium(Accuracy(1e-6, 1e-3))
    objective.loss(regularizer, scenes(2), noisy, torch.tensor([0.05, 0.1])).backward()
    objective.after_backward()
    assert objective.diagnostics["forward_relative_gap"] <= 1e-6
    assert objective.diagnostics["backward_residual"] <= 1e-3
    assert objective.diagnostics["forward_evaluations"] > 1
    assert objective.diagnostics["backward_iterations"] >= 1
