"""The weight of the regularizer that predicts the measurements best, by Stein's unbiased risk estimate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convexreg.models.files import DEFAULT_MODEL, regularizer_of
from convexreg.reconstruction.start import ANCHOR, starting_image
from convexreg.regularizer import ConvexRegularizer
from convexreg.solvers.curvature import Curvature, Preconditioner
from convexreg.solvers.data_terms import LeastSquares, Proximity
from convexreg.solvers.implicit import conjugate_gradient
from convexreg.solvers.loop import minimise
from convexreg.solvers.objective import Sum, inner
from convexreg.solvers.physics_norms import OperatorBounds
from convexreg.solvers.quasi_newton import QuasiNewton

_WEIGHTS = [2.0**exponent for exponent in range(2, -7, -1)]


@torch.no_grad()
def sure_weight(
    y: Tensor,
    physics: Any,
    *,
    sigma: Tensor | float,
    regularizer: ConvexRegularizer | str | Path = DEFAULT_MODEL,
) -> Tensor:
    """The weight `lam` in `[1/64, 4]` with the least estimated prediction risk.

    For `y = A x + noise` of variance `sigma^2` in `m` measurements and the minimiser `x_lam(y)`

        SURE(lam) = |A x_lam - y|^2 - m sigma^2 + 2 sigma^2 div_y(A x_lam)

    is an unbiased estimate of `|A x_lam - A x|^2` (Stein 1981). By the implicit function theorem the
    derivative of `A x_lam` in `y` is `A H^{-1} A^T` with the Hessian `H` of the objective, up to that of the
    anchor of weight 1e-3, and its trace is estimated by `b^T A H^{-1} A^T b` with one vector `b` of random
    signs (Hutchinson 1990; Ramani, Blu & Unser 2008), the same for every weight. The weights are the
    powers of two and the vertex of a parabola through the best three.

    It judges the fit of `A x`, not `x`: what `A` does not transmit has no say. Zeros are taken for places
    without a measurement.

    :param y: measurements `(B, ...)`.
    :param sigma: standard deviation of the noise, a number or one per image.
    :return: `(B,)` in float64.
    """
    model = regularizer_of(regularizer, convex=True)
    level = torch.as_tensor(sigma, dtype=torch.float64, device=y.device).reshape(-1)
    level = level.expand(y.shape[0])
    start = starting_image(y, physics, sigma)
    data = LeastSquares(physics, y, OperatorBounds(float("inf")))
    generator = torch.Generator().manual_seed(0)
    signs = 2.0 * torch.randint(2, (1, *y.shape[1:]), generator=generator) - 1
    probe = signs.to(y) * (y != 0)
    x, risks = start, []
    for weight in _WEIGHTS:
        objective = Sum([data, model.term(level), Proximity(start)], [1.0, weight, ANCHOR])
        x = minimise(objective, x, QuasiNewton(), gtol=1e-4, max_iter=100).x
        misfit = physics.A(x) - y
        solved = _inverse_hessian(model, physics, x, level, weight, objective.curvature(x), probe)
        freedom = inner(probe, physics.A(solved))
        risks.append(inner(misfit, misfit) + 2 * level.square() * freedom)
    return _least(torch.stack(risks))


def _inverse_hessian(
    model: ConvexRegularizer,
    physics: Any,
    x: Tensor,
    sigma: Tensor,
    weight: float,
    curvature: Curvature | None,
    probe: Tensor,
) -> Tensor:
    """`H^{-1} A^T probe` at `x` to a relative residual of 1 %.

    Only the regularizer is differentiated: the physics may be anything with `A` and `A_adjoint`.
    """
    # tensors made in inference mode cannot be differentiated, nor saved for it
    with torch.inference_mode(False), torch.enable_grad():
        point = x.clone().requires_grad_()
        grad = model.grad(point, sigma.clone())

    def product(v: Tensor) -> Tensor:
        (bent,) = torch.autograd.grad(grad, point, v, retain_graph=True)
        return physics.A_adjoint(physics.A(v)) + weight * bent + ANCHOR * v

    preconditioner = None if curvature is None else Preconditioner(curvature)
    return conjugate_gradient(
        product, physics.A_adjoint(probe), tol=1e-2, max_iter=100, preconditioner=preconditioner
    ).solution


def _least(risks: Tensor) -> Tensor:
    """The weight of the least of `(weights, B)` risks, between the grid's by a parabola in `log lam`."""
    best = risks.argmin(0).clamp(1, len(_WEIGHTS) - 2)
    before, here, after = (risks.gather(0, (best + i).unsqueeze(0))[0] for i in (-1, 0, 1))
    bend = before - 2 * here + after
    shift = torch.where(bend > 0, (before - after) / (2 * bend), torch.zeros_like(bend))
    # beyond the ends of the grid the parabola is not to be trusted
    shift = torch.where(bend > 0, shift, torch.sign(before - after)).clamp(-1, 1)
    grid = torch.tensor(_WEIGHTS, dtype=torch.float64, device=risks.device).log2()
    return torch.exp2(grid[best] - shift)
