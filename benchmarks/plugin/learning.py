"""The regularizer in what deepinv trains and samples with.

A new use is a row of `USES`: a measured deviation from what it should be, and the largest allowed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.plugin.algorithms import PluginProblem
from convexreg.solvers import sample_moments


@dataclass(frozen=True)
class Use:
    """A row of the table.

    :ivar measured: what `deviation` is, in words.
    :ivar allowed: the largest deviation that counts as agreement.
    """

    measured: str
    deviation: Callable[[PluginProblem], float]
    allowed: float


def _derivative(problem: PluginProblem, run: Callable[[Any], Tensor]) -> float:
    """Relative difference of the derivative in the filters to a central difference of `run`."""
    regularizer = copy.deepcopy(problem.regularizer).requires_grad_()
    filters = next(p for name, p in regularizer.named_parameters() if "kernels" in name)
    generator = torch.Generator().manual_seed(0)
    probe = torch.empty_like(problem.y).normal_(generator=generator)
    direction = torch.empty_like(filters).normal_(generator=generator)
    step = 1e-4 * filters.detach().norm() * direction / direction.norm()
    (grad,) = torch.autograd.grad((run(regularizer) * probe).sum(), filters)
    ends = []
    with torch.no_grad():
        for sign in (1, -2):
            filters.add_(sign * step)
            ends.append((run(regularizer) * probe).sum())
    expected = (ends[0] - ends[1]) / 2
    return float(((grad * step).sum() - expected).abs() / expected.abs())


def _unfolded(name: str, problem: PluginProblem, **options: Any) -> float:
    import deepinv

    from convexreg import ConvexPrior

    def run(regularizer: Any) -> Tensor:
        settings = problem.settings(
            prior=ConvexPrior(regularizer, prox_tol=1e-9),
            stepsize=problem.step if name == "GD" else problem.data_step,
            trainable_params=[],
            **options,
        )
        model = getattr(deepinv.optim, name)(**settings).double()
        return model(problem.y, problem.physics)

    return _derivative(problem, run)


def _reconstructor(problem: PluginProblem) -> float:
    return _derivative(problem, lambda regularizer: problem.reconstruction(regularizer, 1e-9))


def _sampled(name: str, problem: PluginProblem) -> float:
    """rms difference of the posterior mean to that of our sampler, over the rms standard deviation."""
    from deepinv.optim import L2
    from deepinv.sampling import sampling_builder

    square = problem.sigma**2
    chains = problem.y.repeat(4, 1, 1, 1)
    objective = problem.variational(len(chains)).objective
    generator = torch.Generator().manual_seed(0)
    ours = sample_moments(
        objective, chains, temperature=square, tol=0.05, persistence=0.8, generator=generator
    )
    sampler = sampling_builder(
        name,
        prior=problem.prior(),
        data_fidelity=L2(sigma=problem.sigma),
        max_iter=4 * ours.steps if name == "ULA" else ours.steps,
        params_algo={
            "step_size": problem.step * square,
            "alpha": problem.lam / square,
            "sigma": problem.sigma,
            "eta": 0.05,
            "inner_iter": 4,
        },
        thinning=1,
        burnin_ratio=0.3,
        clip=None,
        verbose=False,
    )
    mean, _ = sampler.sample(problem.y, problem.physics, x_init=problem.y, seed=0)
    return float((mean - ours.mean).square().mean().sqrt() / ours.std.square().mean().sqrt())


_DERIVATIVE = "derivative in the filters against central differences, relative"
_MEAN = "posterior mean against our sampler's, in standard deviations"

USES: dict[str, Use] = {
    **{
        f"{name}, unfold=True": Use(
            _DERIVATIVE, partial(_unfolded, name, unfold=True, max_iter=4), 1e-3
        )
        for name in ("GD", "PGD", "FISTA", "ADMM", "DRS", "HQS")
    },
    "GD, DEQ=True": Use(_DERIVATIVE, partial(_unfolded, "GD", DEQ=True, max_iter=2000), 5e-2),
    "ConvexReconstructor, trained": Use(_DERIVATIVE, _reconstructor, 1e-3),
    "ULA": Use(_MEAN, partial(_sampled, "ULA"), 0.2),
    "SKRock": Use(_MEAN, partial(_sampled, "SKRock"), 0.2),
}
