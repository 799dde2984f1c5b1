"""The proximal operator of a regularizer, solved to a proven distance and differentiable."""

from __future__ import annotations

import warnings

from torch import Tensor

from convexreg.networks.base import Sigma
from convexreg.reconstruction.defaults import Tolerance
from convexreg.reconstruction.problem import Regularization, proximal_problem
from convexreg.solvers.precision import without_autocast

_MAX_ITER = 500


@without_autocast
def proximal_point(
    regularizer: Regularization, x: Tensor, *, gamma: Tensor, sigma: Sigma, tol: float
) -> Tensor:
    """`argmin_z F(z)`, `F(z) = |z - x|^2 / 2 + gamma R(z; sigma)`, in the shape of `x`.

    `F` is 1-strongly convex, so that `|z - argmin F| <= |grad F(z)|`: every image is solved until the
    right side is at most `tol` per pixel (rms). The derivatives in `x`, `gamma`, `sigma` and the
    parameters are those of the exact minimiser, to any order (`solvers.implicit`).

    :param x: `(B, C, H, W)`; not changed.
    :param gamma: nonnegative, 0-dim or `(B,)`.
    :param sigma: noise level of the regularizer, one or `(B,)`.
    :raises ValueError: a negative `gamma`.
    """
    if not bool((gamma >= 0).all()):
        raise ValueError(f"gamma must be nonnegative, got {gamma.detach().flatten().tolist()}")
    problem = proximal_problem(x, regularizer, sigma, gamma)
    solution = problem.minimise(x.detach(), tolerance=Tolerance(gtol=tol), max_iter=_MAX_ITER)
    if not solution.converged:
        reached = float(solution.stationarity.max())
        warnings.warn(
            f"the proximal point is only known to an rms error of {reached:.1e} ({tol:.1e} was asked "
            "for): loosen the tolerance, lower gamma, or compute in float64",
            RuntimeWarning,
            stacklevel=3,
        )
    return problem.differentiable(solution.x)
