"""The proximal operator of a regularizer, solved to a proven distance and differentiable."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from convexreg.networks.base import Sigma
from convexreg.reconstruction.defaults import Tolerance
from convexreg.reconstruction.problem import Regularization, proximal_problem
from convexreg.reconstruction.regularization import check_exact
from convexreg.solvers.batch import per_image, rms
from convexreg.solvers.precision import without_autocast

_MAX_ITER = 500


class LastPoint:
    """The last proximal point that was computed, from which the next one of an iteration is not far.

    What is kept decides where a solve begins, and so its answer only within the tolerance.
    """

    def __init__(self) -> None:
        self._kept: tuple[Tensor, Tensor] | None = None

    def start(self, x: Tensor) -> Tensor:
        """Where to begin for `x`, `(B, ...)`: at the last point, moved as `x` has moved; for images that have
        moved further than their point had been away, at `x`."""
        kept = self._kept
        if kept is None or (kept[0].shape, kept[0].dtype, kept[0].device) != (
            x.shape,
            x.dtype,
            x.device,
        ):
            return x
        before, point = kept
        near = rms(x - before) < rms(point - before)
        return torch.where(per_image(near, x), point + (x - before), x)

    def keep(self, x: Tensor, point: Tensor) -> None:
        """`point` is the proximal point of `x`."""
        self._kept = (x, point)


@without_autocast
def proximal_point(
    regularizer: Regularization,
    x: Tensor,
    *,
    gamma: Tensor,
    sigma: Sigma,
    tol: float,
    last: LastPoint | None = None,
) -> Tensor:
    """`argmin_z F(z)`, `F(z) = |z - x|^2 / 2 + gamma R(z; sigma)`, in the shape of `x`.

    `F` is 1-strongly convex, so that `|z - argmin F| <= |grad F(z)|`: every image is solved until the
    right side is at most `tol` per pixel (rms). The derivatives in `x`, `gamma`, `sigma` and the
    parameters are those of the exact minimiser, to any order (`solvers.implicit`).

    :param x: `(B, C, H, W)`; not changed.
    :param gamma: nonnegative, 0-dim or `(B,)`.
    :param sigma: noise level of the regularizer, one or `(B,)`.
    :param last: where the caller's iteration is; every solve begins at `x` without one.
    :raises ValueError: a negative `gamma`, or a regularizer that `check_exact` refuses.
    """
    if not bool((gamma >= 0).all()):
        raise ValueError(f"gamma must be nonnegative, got {gamma.detach().flatten().tolist()}")
    check_exact(regularizer)
    problem = proximal_problem(x, regularizer, sigma, gamma)
    there = x.detach()
    with torch.no_grad():
        start = there if last is None else last.start(there)
    solution = problem.minimise(start, tolerance=Tolerance(gtol=tol), max_iter=_MAX_ITER)
    if last is not None:
        last.keep(there.clone(), solution.x)
    if not solution.converged:
        reached = float(solution.stationarity.max())
        warnings.warn(
            f"the proximal point is only known to an rms error of {reached:.1e} ({tol:.1e} was asked "
            "for): loosen the tolerance, lower gamma, or compute in float64",
            RuntimeWarning,
            stacklevel=3,
        )
    return problem.differentiable(solution.x)
