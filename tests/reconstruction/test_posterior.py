"""Langevin sampling: known moments, stability, and errors that are what they claim."""

from __future__ import annotations

from itertools import pairwise

import deepinv
import pytest
import torch
from torch import Tensor

from convexreg import ConvexRegularizer
from convexreg.networks import potentials
from convexreg.networks.modular import GradientModule
from convexreg.networks.operators import Convolution
from convexreg.reconstruction.posterior import sample_posterior
from convexreg.solvers import Objective, Sum
from convexreg.solvers.langevin import sample_moments
from convexreg.solvers.moments import Moments, Visit
from tests.problems import Quadratic, scenes, small_regularizer, spectra, spectrum_matrix
from tests.tables import perturbed

CHAINS = 4


def gaussian(batch: int = 3, size: int = 6, condition: float = 5.0) -> tuple[Quadratic, Tensor]:
    """`F` of Gaussians repeated for every chain, and their covariances at temperature one."""
    spectrum = spectra(batch, size, (condition,))
    matrix = spectrum_matrix(spectrum)
    centre = torch.randn(batch, size).double()
    parts = [matrix, centre, torch.zeros_like(centre), spectrum.amax(1) * 1.0001, spectrum.amin(1)]
    objective = Quadratic(*(part.repeat_interleave(CHAINS, 0) for part in parts))
    return objective, torch.linalg.inv(matrix)


@pytest.mark.parametrize("persistence", [0.0, 0.8])
@pytest.mark.parametrize("step", [0.5, 1.0, 1.9])
def test_moments_of_a_gaussian_are_exact_at_every_stable_step(step, persistence):
    objective, covariance = gaussian()
    temperature = 0.04
    starts = objective.centre + torch.randn_like(objective.centre)
    moments = sample_moments(
        objective, starts, temperature=temperature, tol=0.05, step=step, persistence=persistence
    )
    assert moments.converged.all()
    expected = (temperature * covariance.diagonal(dim1=1, dim2=2)).sqrt()
    torch.testing.assert_close(moments.std, expected, rtol=0.15, atol=0)
    error = moments.mean - objective.centre[::CHAINS]
    # the claimed standard error is the true one: z scores have mean square one
    assert 0.2 < (error / moments.error).square().mean() < 4
    assert (error.square().mean(1).sqrt() < 0.2 * moments.std.square().mean(1).sqrt()).all()


class _Ball(Objective):
    """`sum sqrt(1 + x^2)`: convex, with slopes that change from place to place."""

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        root = (1 + x.square()).sqrt()
        return root.flatten(1).sum(1), x / root

    def lipschitz(self, x: Tensor) -> Tensor:
        return torch.ones((), dtype=torch.float64)

    def strong_convexity(self, x: Tensor) -> Tensor:
        return torch.zeros((), dtype=torch.float64)


def test_chains_with_the_same_noise_never_move_apart():
    distances = []
    for steps in (2, 4, 16, 64, 256):
        ends = []
        for start in (-8.0, 8.0):
            moments = sample_moments(
                _Ball(),
                torch.full((2, 1), start).double(),
                temperature=0.5,
                chains=2,
                step=1.99,
                tol=1e-9,
                max_steps=steps,
                generator=torch.Generator().manual_seed(3),
            )
            ends.append(moments.mean)
        distances.append(float((ends[0] - ends[1]).abs()))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < distances[0] / 2


class _Misleading(_Ball):
    """`sum cosh x`: the curvature at the centre says nothing of places where the density is."""

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.cosh().flatten(1).sum(1), x.sinh()

    def lipschitz(self, x: Tensor) -> Tensor:
        return torch.full((), float("inf"), dtype=torch.float64)


def test_the_curvature_at_the_starts_serves_without_a_proof():
    """Gaussians: exact at any stable step; the energy is what it has to be."""
    objective, covariance = gaussian()
    objective.largest = torch.full_like(objective.largest, float("inf"))
    starts = objective.centre + torch.randn_like(objective.centre)
    settings = {"temperature": 0.04, "tol": 0.05, "persistence": 0.6}
    moments = sample_moments(objective, starts, proven=False, **settings)
    assert moments.converged.all()
    expected = (0.04 * covariance.diagonal(dim1=1, dim2=2)).sqrt()
    torch.testing.assert_close(moments.std, expected, rtol=0.2, atol=0)
    assert (moments.std_error < 0.05).all()
    assert ((moments.equipartition - 1).abs() < 5 * moments.equipartition_error + 0.02).all()


def test_a_step_that_is_too_long_is_halved():
    """From the centre, at a temperature where curvatures are hundreds of times as large as there."""
    grid = torch.linspace(-12, 12, 60001).double()
    weight = torch.exp((1 - grid.cosh()) / 50)
    expected = ((weight * grid.square()).sum() / weight.sum()).sqrt()
    rounds: list[int] = []
    moments = sample_moments(
        _Misleading(),
        0.1 * torch.randn(8, 400).double(),
        temperature=50.0,
        chains=8,
        tol=0.03,
        step=1.0,
        persistence=0.5,
        proven=False,
        callback=lambda steps, error: rounds.append(steps),
    )
    lengths = [after - before for before, after in pairwise([0, *rounds])]
    assert any(after < before for before, after in pairwise(lengths))
    assert moments.converged.all()
    torch.testing.assert_close(moments.std.square().mean().sqrt(), expected, rtol=0.03, atol=0)


def test_density_that_is_not_gaussian():
    """Against quadrature; the bias is of second order in the step."""
    grid = torch.linspace(-30, 30, 60001).double()
    weight = torch.exp(1 - (1 + grid.square()).sqrt())
    expected = ((weight * grid.square()).sum() / weight.sum()).sqrt()
    moments = sample_moments(
        _Ball(), 4 * torch.randn(64, 20).double(), temperature=1.0, chains=64, tol=0.01, step=0.5
    )
    assert moments.converged.all()
    torch.testing.assert_close(moments.std.square().mean().sqrt(), expected, rtol=0.03, atol=0)


def test_what_makes_no_sense_is_refused():
    objective, _ = gaussian(1)
    for change in (
        {"step": 2.0},
        {"persistence": 1.0},
        {"chains": 1},
        {"tol": 0.0},
        {"chains": 3},
        {"max_steps": 1},
        {"temperature": 0.0},
    ):
        with pytest.raises(ValueError, match="sampling needs"):
            sample_moments(objective, objective.centre, **{"temperature": 1.0, **change})
    objective.largest = torch.full_like(objective.largest, float("inf"))
    with pytest.raises(ValueError, match="no proven Lipschitz constant"):
        sample_moments(Sum([objective], [1.0]), objective.centre, temperature=1.0)


def test_posterior_of_images():
    """Inpainted pixels are less certain than measured ones, each image at its own noise level."""
    clean = scenes(2, 10, 9)
    mask = torch.ones(1, 1, 10, 9).double()
    mask[..., 3:7, 3:6] = 0
    physics = deepinv.physics.Inpainting((1, 10, 9), mask=mask)
    sigma = torch.tensor([0.05, 0.2]).double()
    y = physics.A(clean + sigma.reshape(2, 1, 1, 1) * torch.randn_like(clean))
    rounds: list[int] = []
    posterior = sample_posterior(
        y,
        physics,
        sigma=sigma,
        regularizer=small_regularizer("crr"),
        lam=20.0,
        callback=lambda steps, error: rounds.append(steps),
    )
    moments = posterior.moments
    assert moments.mean.shape == moments.std.shape == clean.shape
    assert rounds == [32 * (2**k - 1) for k in range(1, len(rounds) + 1)]
    assert rounds[-1] == moments.steps
    assert moments.converged.all()
    assert (moments.equipartition - 1).abs().max() < 0.05
    assert moments.r_hat.shape == (2,)
    known, lost = mask.bool().expand(2, -1, -1, -1), (mask == 0).expand(2, -1, -1, -1)
    for index in range(2):
        std = moments.std[index]
        assert std[lost[index]].mean() > std[known[index]].mean()
        assert std[known[index]].mean() <= sigma[index] * 1.1
    assert "split R-hat" in posterior.summary()
    assert posterior.reconstruction.image.shape == clean.shape


@pytest.mark.parametrize("lam", [0.0, 3.0])
def test_posterior_of_a_gaussian_prior_is_known(lam):
    """With curvature `k` the standard deviation is `sigma / sqrt(1 + lam k)`: `sigma` without a prior."""
    operator = Convolution((1, 1), (1,), zero_mean=False)
    module = GradientModule(operator, potentials.Quadratic(), bias=False)
    regularizer = perturbed(ConvexRegularizer(module), 0.0)
    operator.kernels[0].fill_(0.8)
    curvature = regularizer.grad(torch.ones(1, 1, 1, 1).double()).item()
    assert curvature == pytest.approx(0.64)
    sigma = torch.tensor([0.05, 0.3]).double()
    posterior = sample_posterior(
        scenes(2, 10, 9), deepinv.physics.Denoising(), sigma=sigma, regularizer=regularizer, lam=lam
    )
    rms = posterior.moments.std.square().mean((1, 2, 3)).sqrt()
    torch.testing.assert_close(rms, sigma / (1 + lam * curvature) ** 0.5, rtol=0.03, atol=0)


def test_half_chains_are_pooled_as_in_the_book():
    """Gelman et al. 2013, section 11.4: `n` samples in each of `m` half-chains."""
    distributions, chains, count = 3, 2, 5
    shape = (2, distributions, chains, count, 4)
    centres = torch.randn(2, distributions, chains, 1, 4).double()
    samples = centres + torch.randn(shape).double()
    energies = torch.rand(2, distributions, chains).double()
    halves = [
        Visit(half.mean(2).flatten(0, 1), half.var(2, correction=0).flatten(0, 1), energy.flatten())
        for half, energy in zip(samples, energies, strict=True)
    ]
    moments = Moments.pooled(halves, chains, count, 10, 0.1)
    # (distributions, m, n, pixels)
    pooled = samples.transpose(0, 1).flatten(1, 2)
    within, between = pooled.var(2).mean(1), pooled.mean(2).var(1)
    variance = (count - 1) / count * within + between
    error = between / (2 * chains)
    torch.testing.assert_close(moments.mean, pooled.mean((1, 2)))
    torch.testing.assert_close(moments.std, variance.sqrt())
    torch.testing.assert_close(moments.error, error.sqrt())
    torch.testing.assert_close(moments.relative_error, (error.mean(1) / variance.mean(1)).sqrt())
    torch.testing.assert_close(moments.r_hat, (variance.mean(1) / within.mean(1)).sqrt())
    torch.testing.assert_close(moments.equipartition, energies.mean((0, 2)))
    torch.testing.assert_close(moments.effective_samples, variance.mean(1) / error.mean(1))
