"""Algorithms of deepinv with our prior, and deepinv's own tests with it put in."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import deepinv
import pytest
import torch
from deepinv.optim import GD, L2, PGD
from deepinv.sampling import sampling_builder
from torch import Tensor

from benchmarks.plugin.algorithms import ALGORITHMS, Algorithm, PluginProblem
from benchmarks.plugin.operators import descend, operators
from convexreg import ConvexPrior, ModelConfig
from tests.problems import scenes, small_regularizer
from tests.tables import over

SIZE = (12, 10)


@pytest.fixture(scope="module")
def solved() -> tuple[PluginProblem, Tensor]:
    torch.manual_seed(0)
    problem = PluginProblem.build(small_regularizer(), scenes(1, *SIZE))
    return problem, problem.minimiser()


@over("algorithm", ALGORITHMS)
def test_every_algorithm_finds_the_minimiser(algorithm: Algorithm, solved):
    problem, minimiser = solved
    assert algorithm.error(problem, algorithm.run(problem), minimiser) < 1e-6


def test_gradient_descent_is_monotone_on_every_operator():
    regularizer = small_regularizer().float()
    runs = [descend(regularizer, *row, steps=6) for row in operators()]
    assert len(runs) >= 48
    assert [run.operator for run in runs if not run.monotone] == []
    assert all(run.decrease > 0 for run in runs)


@pytest.fixture(scope="module")
def upstream():
    """deepinv's own test module, which finds its dummies next to it."""
    folder = str(Path(deepinv.__path__[0]) / "tests")
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module("deepinv.tests.test_optim")
    finally:
        sys.path.remove(folder)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("algorithm", ["PGD", "HQS", "DRS", "ADMM", "PDCP", "FISTA"])
def test_deepinvs_own_test_of_priors(algorithm, upstream, monkeypatch):
    """`test_priors_algo`, which asks for convergence with step and weight one at noise level one."""
    size = (3, 21, 17)
    config = ModelConfig(channels=(1, 4, 8), kernel_sizes=(3, 3), sigma_max=1.0)
    prior = ConvexPrior(config.build().requires_grad_(False))
    monkeypatch.setattr(upstream, "get_prior", lambda *args, **kwargs: prior)
    images = [{"x": scenes(1, *size[1:], channels=3)[0].float()}]
    upstream.test_priors_algo(algorithm, "ConvexPrior", size, images, torch.device("cpu"))


@pytest.mark.parametrize("algorithm", ["GD", "PGD", "HQS", "ADMM", "FISTA", "DRS"])
def test_unfolded_algorithms_have_the_right_gradient(algorithm, solved):
    """In the step size and in the weights of the regularizer."""
    problem, _ = solved
    regularizer = small_regularizer().requires_grad_()
    prior = ConvexPrior(regularizer, prox_tol=1e-9)
    step = problem.step if algorithm == "GD" else 0.5
    model = getattr(deepinv.optim, algorithm)(
        data_fidelity=L2(),
        prior=prior,
        stepsize=step,
        lambda_reg=problem.lam,
        g_param=problem.sigma,
        max_iter=3,
        unfold=True,
        trainable_params=["stepsize", "lambda", "g_param"],
    ).double()
    weights = [p for name, p in model.named_parameters() if "kernels" in name]
    scalars = [model.init_params_algo[key][0] for key in ("stepsize", "lambda", "g_param")]
    assert len(weights) == 2
    probe = torch.randn_like(problem.y)

    def projected() -> Tensor:
        return (model(problem.y, problem.physics) * probe).sum()

    moved = [weights[0], *scalars]
    grads = torch.autograd.grad(projected(), moved)
    for parameter, grad in zip(moved, grads, strict=True):
        step = 1e-4 * parameter.detach().abs() * torch.randn_like(parameter).sign()
        with torch.no_grad():
            parameter.add_(step)
            above = projected()
            parameter.sub_(2 * step)
            difference = (above - projected()) / 2
            parameter.add_(step)
        torch.testing.assert_close((grad * step).sum(), difference, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("name", ["ULA", "SKRock"])
def test_samplers_are_stable_at_the_proven_step(name, solved):
    problem, minimiser = solved
    sigma = problem.sigma
    fidelity = L2(sigma=sigma)
    parameters = {
        "step_size": problem.step * sigma**2,
        "alpha": problem.lam / sigma**2,
        "sigma": sigma,
        "eta": 0.05,
        "inner_iter": 3,
    }
    sampler = sampling_builder(
        name,
        prior=problem.prior(),
        data_fidelity=fidelity,
        max_iter=300,
        params_algo=parameters,
        thinning=1,
        burnin_ratio=0.3,
        clip=None,
        verbose=False,
    )
    mean, variance = sampler.sample(problem.y, problem.physics, x_init=minimiser, seed=0)
    assert (mean - minimiser).square().mean().sqrt() < sigma
    assert 0.1 * sigma < variance.sqrt().mean() < 2 * sigma


def test_an_algorithm_can_take_a_level_per_image(solved):
    problem, _ = solved
    y = problem.y.repeat(2, 1, 1, 1)
    sigma = torch.tensor([0.05, 0.2]).double()
    settings = problem.settings(stepsize=0.9, max_iter=20)
    together = PGD(**{**settings, "g_param": [sigma] * 20})(y, problem.physics)
    for index in range(2):
        alone = PGD(**{**settings, "g_param": float(sigma[index])})(problem.y, problem.physics)
        torch.testing.assert_close(together[index : index + 1], alone, rtol=0, atol=1e-5)


def test_the_cost_is_the_objective(solved):
    problem, _ = solved
    settings = problem.settings(stepsize=problem.step, max_iter=4)
    image, metrics = GD(**settings)(problem.y, problem.physics, compute_metrics=True)
    residual = problem.physics.A(image) - problem.y
    energy = problem.regularizer.energy(image, problem.sigma)
    expected = residual.square().sum() / 2 + problem.lam * energy[0]
    assert metrics["cost"][0][-1] == pytest.approx(float(expected))
