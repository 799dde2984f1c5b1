"""Proven bounds as code: duality gaps, and the rates theorems promise.

The loop, the tests and the figures all use these functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .batch import inner
from .box import Box
from .objective import Objective
from .precision import without_autocast


@dataclass(frozen=True, repr=False)
class Certificate:
    """How far a point can be from the minimum, per image.

    `gap` bounds `F(x) - F*` and `lower` bounds `F*` from below; with `mu`-strong convexity
    `distance` bounds `|x - x*|` (2-norm). All `(B,)`, kept in float64; `inf` (and `-inf`) when nothing
    is proven, NaN where the point, the value or the gradient is not finite.

    :ivar dtype: the precision in which the objective was evaluated: the bounds hold to its rounding.
    """

    gap: Tensor
    lower: Tensor
    distance: Tensor
    dtype: torch.dtype

    @property
    def relative_gap(self) -> Tensor:
        """Bound on `(F(x) - F*) / F*`: `gap / lower` where `lower > 0`, else `inf`. A zero gap is zero."""
        return relative_gap(self.gap, self.lower)

    def __repr__(self) -> str:
        """The worst of the batch."""
        return (
            f"Certificate({len(self.gap)} image(s), relative gap <= {float(self.relative_gap.max()):.2g}, "
            f"distance <= {float(self.distance.max()):.2g}, {str(self.dtype).removeprefix('torch.')})"
        )


def relative_gap(gap: Tensor, lower: Tensor) -> Tensor:
    """`gap / lower` where `lower > 0`, zero where the gap is, NaN where one of them is, else `inf`."""
    ratio = torch.where(lower > 0, gap / lower, float("inf"))
    ratio = torch.where(gap <= 0, 0.0, ratio)
    return torch.where(gap.isnan() | lower.isnan(), float("nan"), ratio)


def certificate_at(value: Tensor, grad: Tensor, x: Tensor, mu: Tensor, box: Box) -> Certificate:
    """Certificate of a feasible `x` from the value and gradient there.

    For every `s` in the box `F(s) >= F(x) + <grad, s - x> + mu/2 |s - x|^2`; minimising the right
    side over the box bounds `F*`. Without a box that is `gap = |grad|^2 / (2 mu)`, with `mu = 0` the
    Frank-Wolfe gap (Jaggi 2013). For denoising the former equals the duality gap.
    """
    gap = box.furthest_descent(x, grad, mu)
    return _certificate(value, gap, gap, mu, grad.dtype)


def certificate_after_step(
    value: Tensor, grad: Tensor, y: Tensor, x: Tensor, lipschitz: Tensor, mu: Tensor, box: Box
) -> Certificate:
    """Certificate of a feasible `x` from value and gradient at another point `y`, feasible or not.

    With `F(x) <= F(y) + <grad, x - y> + L/2 |x - y|^2` (true when `L` is a bound on the gradient's
    Lipschitz constant, or when a majorisation test has passed) and the lower bound of
    `certificate_at` taken around `y`. For `x = y - grad / L` it is `|grad|^2 (1/mu - 1/L) / 2`.
    """
    move = x - y
    rise = inner(grad, move) + lipschitz.double() / 2 * inner(move, move)
    slack = box.furthest_descent(y, grad, mu)
    gap = (rise + slack).clamp_min(0)
    return _certificate(value, gap, slack, mu, grad.dtype)


def _certificate(
    value: Tensor, gap: Tensor, slack: Tensor, mu: Tensor, dtype: torch.dtype
) -> Certificate:
    """With `F* >= value - slack`, and the distance from `mu/2 |x - x*|^2 <= F(x) - F* <= gap`."""
    gap = torch.where(value.isfinite(), gap, float("nan"))
    distance = torch.where(mu > 0, (2 * gap / mu.double()).sqrt(), float("inf"))
    return Certificate(gap, value - slack, distance, dtype)


def lower_bound(value: Tensor, grad: Tensor, z: Tensor, mu: Tensor, box: Box) -> Tensor:
    """Lower bound on `F*` from value and gradient at *any* `z`, feasible or not, `(B,)` in float64.

    As in `certificate_at`: `F` lies above the paraboloid `F(z) + <grad, s - z> + mu/2 |s - z|^2`
    (Nesterov 2018, Def. 2.1.3), whose minimum over the box is this. `F(x)` less the bound is a gap of every
    feasible `x`, so that the best bound of all points is to be kept, whether or not `z` is a good answer.
    """
    return value - box.furthest_descent(z, grad, mu)


def gap_above(lower: Tensor, value: Tensor, dtype: torch.dtype) -> Tensor:
    """`F(x) - lower` with a margin for the rounding of `value`, `F(x)` evaluated in `dtype`."""
    return (value - lower + 8 * torch.finfo(dtype).eps * value.abs()).clamp_min(0)


@without_autocast
def certify(
    objective: Objective, x: Tensor, box: Box | None = None, *, support: Tensor | None = None
) -> Certificate:
    """Certificate of the feasible point `x` by one evaluation of `objective`, or at `x` and `support`.

    In float64 the rounding of the gradient is negligible; call it with a float64 objective and point
    to certify the result of a float32 run.

    An image that is not finite, or whose value or gradient is not, has a gap of NaN.

    :param support: where the lower bound is taken from instead (`lower_bound`), of the shape of `x`.
    :raises ValueError: a point outside of the box, of which nothing is proven.
    """
    box = box or Box()
    if bool(((x < box.lower) | (x > box.upper)).any()):
        raise ValueError(f"the point is not in the box [{box.lower:g}, {box.upper:g}]: project it")
    there = x if support is None else support
    value, grad = objective.value_and_grad(there)
    mu = objective.strong_convexity(x).to(value).expand(x.shape[0])
    if support is None or torch.equal(support, x):
        return certificate_at(value, grad, x, mu, box)
    lower, value = lower_bound(value, grad, there, mu, box), objective.value(x)
    gap = gap_above(lower, value, grad.dtype)
    return _certificate(value, gap, gap, mu, grad.dtype)


def gradient_descent_rate(
    iterations: int, lipschitz: float, strong_convexity: float, distance: float
) -> float:
    """Bound on `F(x_k) - F*` for (proximal) gradient descent with step `1/L` (Beck 2017, Thms 10.21, 10.29).

    :param distance: `|x_0 - x*|`.
    """
    if iterations == 0:
        return float("inf")
    convex = lipschitz * distance**2 / (2 * iterations)
    return min(
        convex, lipschitz / 2 * (1 - strong_convexity / lipschitz) ** iterations * distance**2
    )


def fista_rate(iterations: int, lipschitz: float, distance: float) -> float:
    """Bound on `F(x_k) - F*` for FISTA, `2 L |x_0 - x*|^2 / (k + 1)^2` (Beck & Teboulle 2009, Thm 4.4)."""
    if iterations == 0:
        return float("inf")
    return 2 * lipschitz * distance**2 / (iterations + 1) ** 2


def strongly_convex_fista_rate(
    iterations: int, lipschitz: float, strong_convexity: float, distance: float, initial_gap: float
) -> float:
    """`(1 - sqrt(mu / L))^k (F(x_0) - F* + mu/2 |x_0 - x*|^2)` (Beck 2017, Thm 10.42)."""
    rate = 1 - (strong_convexity / lipschitz) ** 0.5
    return rate**iterations * (initial_gap + strong_convexity / 2 * distance**2)


def gradient_norm_rate(iterations: int, lipschitz: float, initial_gap: float) -> float:
    """Bound on `|grad F(x_N)|^2` after a cycle of OGM-G, `4 L (F(x_0) - F*) / (N + 1)^2`
    (Kim & Fessler 2021, Thm 6.1).

    :param initial_gap: `F(x_0) - F*`.
    """
    return 4 * lipschitz * initial_gap / (iterations + 1) ** 2
