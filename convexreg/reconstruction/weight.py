"""The weight of the regularizer from the measurements: by the noise level, or by the estimated risk.

A rule takes a problem of least squares and a start, and returns one weight per image, `(B,)` in float64.
Problems are solved roughly, to an rms of the gradient of 1e-4, with the problem's own anchor and box.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from convexreg.reconstruction.defaults import Tolerance
from convexreg.reconstruction.problem import Problem
from convexreg.solvers.batch import inner
from convexreg.solvers.data_terms import DataTerm, LeastSquares
from convexreg.solvers.objective import Objective

_SMALLEST, _BISECTIONS = 2.0**-6, 6
WEIGHTS = [2.0**exponent for exponent in range(2, -7, -1)]
"""What `sure_weight` tries."""
_ROUGH = Tolerance(gtol=1e-4)


@torch.no_grad()
def discrepancy_weight(problem: Problem, start: Tensor) -> Tensor:
    """The largest weight `lam <= 1` whose reconstruction fits the measurements as the noise lets it:

        |A x_lam - y|^2 <= m sigma^2      (Morozov 1966)

    with `m` the number of measurements (zeros are taken for places without one). The misfit of minimisers
    grows with `lam` for every convex regularizer, so that bisection on a logarithmic scale finds it,
    between 1/64 and 1, to 7 %, but for what rough solves and an anchor leave open. Where no such weight
    fits it is 1/64. One is what denoising asks for; operators that lose more need less.
    """
    data, level = _data(problem), _level(problem, start)
    allowed = (data.y != 0).flatten(1).sum(1) * level.square()
    low = torch.full_like(level, _SMALLEST)
    high = weight = torch.ones_like(level)
    x = start
    for _ in range(_BISECTIONS + 1):
        x = problem.with_weight(weight).minimise(x, tolerance=_ROUGH, max_iter=40).x
        misfit = data.operator.A(x) - data.y
        fits = inner(misfit, misfit) <= allowed
        low, high = torch.where(fits, weight, low), torch.where(fits, high, weight)
        if bool((low == high).all()):
            break
        weight = (low * high).sqrt()
    return low


@torch.no_grad()
def sure_weight(problem: Problem, start: Tensor) -> Tensor:
    """The weight `lam` in `[1/64, 4]` with the least estimated prediction risk.

    For `y = A x + noise` of variance `sigma^2` in `m` measurements and the minimiser `x_lam(y)`

        SURE(lam) = |A x_lam - y|^2 - m sigma^2 + 2 sigma^2 div_y(A x_lam)

    is an unbiased estimate of `|A x_lam - A x|^2` (Stein 1981). By the implicit function theorem the
    derivative of `A x_lam` in `y` is `A H^{-1} A^T` with the Hessian `H` of the objective (with a box, of
    the pixels strictly inside of it), taking the anchor's centre for given, and its trace is estimated by
    `b^T A H^{-1} A^T b` with one vector `b` of random signs (Hutchinson 1990; Ramani, Blu & Unser 2008),
    the same for every weight. The weights are the powers of two and the vertex of a parabola through the
    best three.

    It judges the fit of `A x`, not `x`: what `A` does not transmit has no say. Zeros are taken for places
    without a measurement.
    """
    data, level = _data(problem), _level(problem, start)
    generator = torch.Generator().manual_seed(0)
    shape = (1, *data.y.shape[1:])
    signs = 2.0 * torch.randint(2, shape, generator=generator, device="cpu") - 1
    probe = signs.to(data.y) * (data.y != 0)
    x, risks = start, []
    for weight in WEIGHTS:
        here = problem.with_weight(weight)
        x = here.minimise(x, tolerance=_ROUGH, max_iter=100).x
        misfit = data.operator.A(x) - data.y
        moved = here.inverse_hessian(x, data.operator.A_adjoint(probe), tol=1e-2, max_iter=100)
        freedom = inner(probe, data.operator.A(moved.solution))
        risks.append(inner(misfit, misfit) + 2 * level.square() * freedom)
    return least_risk(torch.stack(risks))


WEIGHT_RULES: dict[str, Callable[[Problem, Tensor], Tensor]] = {
    "discrepancy": discrepancy_weight,
    "sure": sure_weight,
}


def likelihood_scale(data: Objective, level: Tensor) -> Tensor:
    """How many times `|A x - y|^2 / 2` a data term is where the noise has that level, `(B,)`: what the weight
    has to be multiplied by.

    Negative log-likelihoods are about `1 / sigma^2` times it. With photon counts (peaks 3, 20 and 100; blur,
    denoising, tomography; two photographs) that was 0.13 dB worse on average than the best of half, 0.7, 1,
    1.4 and 2 times it, and so was one for weighted least squares.

    :raises ValueError: a data term of which that is not known.
    """
    scale = data.scale(level) if isinstance(data, DataTerm) else None
    if scale is None:
        raise ValueError(
            f"the data term {type(data).__name__} needs lam as a number: the noise level says nothing about "
            "its weight"
        )
    return scale


def _data(problem: Problem) -> LeastSquares:
    if not isinstance(problem.data, LeastSquares):
        raise TypeError(
            "the rules for the weight are of least squares; for "
            f"{type(problem.data).__name__} give lam as a number"
        )
    return problem.data


def _level(problem: Problem, x: Tensor) -> Tensor:
    """The noise level of every image."""
    level = torch.as_tensor(problem.sigma, dtype=torch.float64, device=x.device)
    return level.reshape(-1).expand(x.shape[0])


def least_risk(risks: Tensor) -> Tensor:
    """The weight of the least of `(weights, B)` risks, between the grid's by a parabola in `log lam`."""
    best = risks.argmin(0).clamp(1, len(WEIGHTS) - 2)
    before, here, after = (risks.gather(0, (best + i).unsqueeze(0))[0] for i in (-1, 0, 1))
    bend = before - 2 * here + after
    shift = torch.where(bend > 0, (before - after) / (2 * bend), torch.zeros_like(bend))
    # beyond the ends of the grid the parabola is not to be trusted
    shift = torch.where(bend > 0, shift, torch.sign(before - after)).clamp(-1, 1)
    grid = torch.tensor(WEIGHTS, dtype=torch.float64, device=risks.device).log2()
    return torch.exp2(grid[best] - shift)
