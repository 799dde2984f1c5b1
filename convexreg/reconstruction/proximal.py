"""The proximal operator of a regularizer, solved to a proven distance and differentiable."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from convexreg.networks.base import Sigma
from convexreg.regularizer import ConvexRegularizer
from convexreg.solvers.curvature import Preconditioner
from convexreg.solvers.data_terms import Proximity
from convexreg.solvers.implicit import ImplicitSolution
from convexreg.solvers.loop import minimise
from convexreg.solvers.objective import Sum, per_image
from convexreg.solvers.quasi_newton import QuasiNewton

_MAX_ITER = 500


def proximal_point(
    regularizer: ConvexRegularizer, x: Tensor, *, gamma: Tensor, sigma: Sigma, tol: float
) -> Tensor:
    """`argmin_z F(z)`, `F(z) = |z - x|^2 / 2 + gamma R(z; sigma)`, in the shape of `x`.

    `F` is 1-strongly convex, so that `|z - argmin F| <= |grad F(z)|`: every image is solved until the
    right side is at most `tol` per pixel (rms). The derivative in `x`, `gamma`, `sigma` and the
    parameters is that of the exact minimiser (`solvers.implicit`).

    :param x: `(B, C, H, W)`; not changed.
    :param gamma: nonnegative, 0-dim or `(B,)`.
    :param sigma: noise level of the regularizer, one or `(B,)`.
    :raises ValueError: a negative `gamma`.
    """
    if not bool((gamma >= 0).all()):
        raise ValueError(f"gamma must be nonnegative, got {gamma.detach().flatten().tolist()}")
    with torch.no_grad():
        objective = Sum([Proximity(x.detach()), regularizer.term(sigma)], [1.0, gamma.detach()])
        solution = minimise(objective, x.detach(), QuasiNewton(), gtol=tol, max_iter=_MAX_ITER)
    if not bool(solution.converged.all()):
        reached = float(solution.stationarity.max())
        warnings.warn(
            f"the proximal point is only known to an rms error of {reached:.1e} ({tol:.1e} was asked "
            "for): loosen the tolerance, lower gamma, or compute in float64",
            RuntimeWarning,
            stacklevel=3,
        )
    differentiated = torch.is_grad_enabled() and any(
        isinstance(tensor, Tensor) and tensor.requires_grad
        for tensor in (x, gamma, sigma, *regularizer.parameters())
    )
    if not differentiated:
        return solution.x
    weight = per_image(gamma.to(x.device, x.dtype), x)
    with torch.no_grad():
        curvature = objective.curvature(solution.x)
    derivative = ImplicitSolution(
        preconditioner=None if curvature is None else Preconditioner(curvature)
    )
    return derivative.attach(lambda z: z - x + weight * regularizer.grad(z, sigma), solution.x)
