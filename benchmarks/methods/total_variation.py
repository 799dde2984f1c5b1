"""Isotropic total variation, `|A x - y|^2 / 2 + lam TV(x)`, solved to high accuracy.

`lam = weight sigma` for denoising and `4 weight sigma^2` elsewhere, so that one is a fair guess.
"""

from __future__ import annotations

import torch

from benchmarks.harness.outcome import Outcome, Result
from benchmarks.problems.table import Measurement

MIN_ITERATIONS, MAX_ITERATIONS, TOLERANCE = 100, 1500, 1e-6
# |D|^2 for forward differences in two dimensions
DIFFERENCES_SQUARED_NORM = 8.0


def reconstruct(measurement: Measurement, weight: float) -> Result:
    """Denoising: deepinv's prox of TV, 1,500 inner iterations or a relative change of 1e-6, in a fresh
    object (it keeps its state from image to image). Otherwise `primal_dual`."""
    lam = weight * measurement.sigma
    if measurement.denoising:
        from deepinv.optim import TVPrior

        prior = TVPrior(def_crit=TOLERANCE, n_it_max=MAX_ITERATIONS)
        return Result(prior.prox(measurement.y, gamma=lam))
    return primal_dual(measurement, 4 * lam * measurement.sigma)


def primal_dual(measurement: Measurement, lam: float) -> Result:
    """Condat & Vu's primal-dual method for `f(x) + lam |D x|_{2,1}` with smooth `f`.

    `x' = x - tau (grad f(x) + D^T u)`, `u' = P(u + s D (2 x' - x))`, `P` the projection on the balls
    of radius `lam`; converges for `1 / tau - s |D|^2 >= L / 2` (Condat 2013, Thm 3.1).
    """
    from deepinv.models import TVDenoiser

    gradient, adjoint = TVDenoiser.nabla, TVDenoiser.nabla_adjoint
    objective = measurement.data_term()
    lipschitz = float(objective.lipschitz(measurement.naive))
    # any positive value converges; this one balances multipliers of size lam with images of order one
    dual_step = 10 * lam
    step = 1 / (lipschitz / 2 + dual_step * DIFFERENCES_SQUARED_NORM)
    x = measurement.naive
    u = torch.zeros_like(gradient(x))
    for iteration in range(1, MAX_ITERATIONS + 1):
        _, grad = objective.value_and_grad(x)
        following = x - step * (grad + adjoint(u))
        u = u + dual_step * gradient(2 * following - x)
        u = u / (u.norm(dim=-1, keepdim=True) / lam).clamp_min(1)
        change = float((following - x).norm() / following.norm())
        x = following
        # the first steps can be zero: at the start the data may fit and the multipliers are zero
        if change < TOLERANCE and iteration >= MIN_ITERATIONS:
            return Result(x, Outcome.CONVERGED, evaluations=iteration)
    return Result(x, Outcome.ITERATION_LIMIT, evaluations=MAX_ITERATIONS)
