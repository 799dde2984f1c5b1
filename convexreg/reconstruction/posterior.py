"""Posterior mean and uncertainty of a reconstruction, pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from convexreg.models.files import CONVEX_MODEL, regularizer_of
from convexreg.reconstruction.from_measurements import reconstruct
from convexreg.reconstruction.problem import Problem
from convexreg.reconstruction.result import Reconstruction
from convexreg.solvers.data_terms import WeightedLeastSquares
from convexreg.solvers.deepinv_rules import data_term
from convexreg.solvers.langevin import Moments, sample_moments


@dataclass(frozen=True)
class Posterior:
    """Moments of the posterior, and about its mode.

    :ivar moments: mean, standard deviation and their accuracy, see `solvers.langevin.Moments`.
    :ivar reconstruction: the certified minimiser that the chains started around.
    """

    moments: Moments
    reconstruction: Reconstruction

    def summary(self) -> str:
        """What was done, and how accurate it is."""
        moments = self.moments
        error = 100 * float(moments.relative_error.max())
        of_std = 100 * float(moments.std_error.max())
        # of the image that is furthest off
        energy = 1 + float(max((moments.equipartition - 1).tolist(), key=abs))
        ended = "reached the tolerance" if bool(moments.converged.all()) else "ran out of steps"
        return (
            f"{ended} after {moments.steps} steps of every chain: error of the mean {error:.1f} % of "
            f"the standard deviation, of that {of_std:.1f} %, split R-hat {float(moments.r_hat.max()):.3f}, "
            f"energy {energy:.3f} times what it should be"
        )


def sample_posterior(
    y: Tensor,
    physics: Any,
    *,
    sigma: Tensor | float | None = None,
    regularizer: Any = CONVEX_MODEL,
    lam: Tensor | float | Literal["auto"] = "auto",
    chains: int = 4,
    tol: float = 0.1,
    step: float = 1.0,
    persistence: float = 0.8,
    proven: bool = False,
    max_steps: int = 20000,
    seed: int = 0,
    callback: Callable[[int, Tensor], None] | None = None,
) -> Posterior:
    """Mean and standard deviation of every pixel under the posterior

        p(x | y) ~ exp(-(|A x - y|^2 / 2 + lam R(x; sigma)) / sigma^2).

    It is log-concave, and its mode is what `reconstruct` computes (for operators other than denoising but
    for an anchor). The chains start there, plus noise of `2 sigma`; `step`, `persistence`, `proven` and the
    stopping rule are those of `solvers.langevin.sample_moments`: the step rests on the curvature where the
    chains are, and is checked by their mean energy; sampling ends when the Monte Carlo errors of mean and
    standard deviation are at most `tol` times the standard deviation (rms over the pixels).

    :param y: measurements `(B, ...)`.
    :param physics: a deepinv physics that takes any batch size.
    :param sigma: standard deviation of the noise, one number or one per image; see `reconstruct`.
    :param lam: see `reconstruct`.
    :param proven: let the step rest on the proven Lipschitz constant instead, which takes many times the
        steps; the physics' norm has to be proven then (`solvers.operator_rules`).
    :raises ValueError: measurements that make no sense, or with `proven` a physics without a proven norm.
    """
    model = regularizer_of(regularizer, convex=True)
    mode = reconstruct(y, physics, sigma=sigma, regularizer=model, lam=lam)
    if isinstance(mode.problem.data, WeightedLeastSquares):
        raise ValueError(
            "sampling takes one noise level per image; give sigma, the root of the mean of the variances"
        )
    level = torch.as_tensor(mode.problem.sigma).repeat_interleave(chains, 0)
    generator = torch.Generator(y.device).manual_seed(seed)
    starts = mode.image.repeat_interleave(chains, 0)
    noise = torch.empty_like(starts).normal_(generator=generator)
    weight = mode.lam.repeat_interleave(chains, 0)
    starts = starts + 2 * level.to(y.dtype).reshape(-1, 1, 1, 1) * noise
    data = data_term(physics, y.repeat_interleave(chains, 0))
    moments = sample_moments(
        Problem(data, mode.problem.regularizer, level, weight).objective,
        starts,
        temperature=level.square(),
        chains=chains,
        tol=tol,
        step=step,
        persistence=persistence,
        proven=proven,
        max_steps=max_steps,
        generator=generator,
        callback=callback,
    )
    return Posterior(moments, mode)
