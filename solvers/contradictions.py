"""What two evaluations tell: whether they can be those of a convex function at all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .batch import inner, norm
from .objective import Objective


@dataclass(frozen=True)
class Evaluation:
    """Value `(B,)` and gradient of an objective at `x`."""

    x: Tensor
    value: Tensor
    grad: Tensor


def contradict(a: Evaluation, b: Evaluation, lipschitz: Tensor) -> Tensor:
    """Whether two evaluations cannot come from a convex function with that Lipschitz constant.

    For such functions `F(a) >= F(b) + <grad F(b), a - b> + |grad F(a) - grad F(b)|^2 / (2 L)`
    (Nesterov 2018, Thm 2.1.5), and the same with `a` and `b` exchanged; tested to rounding, without
    another evaluation. `(B,)` booleans.
    """
    difference = a.grad - b.grad
    return _broken(a, b, lipschitz, inner(difference, difference) / (2 * lipschitz))


def contradict_convexity(
    objective: Objective, a: Evaluation, b: Evaluation, constant: Tensor
) -> tuple[Tensor, Tensor]:
    """Whether two evaluations cannot come from any convex function: `F(a) < F(b) + <grad F(b), a - b>`.

    Rounding grows with the Lipschitz constant. A first test takes the largest secant constant seen so
    far, `constant`; only where it fails the objective is asked for its proven one. Where none is
    known, a quarter of `|a - b| |grad F(a) - grad F(b)|` is excused as well: rounding of gradients
    cannot be told from their change then.

    Returns the verdicts, `(B,)` booleans, and the constant that is known now.
    """
    distance, change = norm(a.x - b.x), norm(a.grad - b.grad)
    secant = change / distance
    constant = torch.maximum(constant, torch.where(secant.isfinite(), secant, 0.0))
    suspected = _broken(a, b, constant, torch.zeros_like(constant))
    if not suspected.any():
        return suspected, constant
    proven = objective.lipschitz(a.x).to(constant).expand_as(constant)
    known = proven.isfinite()
    constant = torch.maximum(constant, torch.where(known, proven, 0.0))
    return _broken(a, b, constant, torch.where(known, 0.0, -distance * change / 4)), constant


def _broken(a: Evaluation, b: Evaluation, lipschitz: Tensor, gain: Tensor) -> Tensor:
    """Whether `F(a) < F(b) + <grad F(b), a - b> + gain`, or the same exchanged, beyond rounding.

    Rounding is that of the sums, and that of what cancels before them: where data are met closely, the
    residual is a difference of numbers of the size of the data, so that gradients are wrong by
    `eps L |x|` however small they are, and values by that times `|x|`. Infinite values excuse everything.
    """
    eps = torch.finfo(a.x.dtype).eps
    move = a.x - b.x
    size = a.value.abs() + b.value.abs()
    rise, up, down = a.value - b.value, inner(b.grad, move), inner(a.grad, move)
    allowed = 100 * eps * size
    if not bool(((rise + allowed < up + gain) | (-rise + allowed < -down + gain)).any()):
        return torch.zeros_like(rise, dtype=torch.bool)  # without the other excuses
    length, far = move.abs(), torch.maximum(norm(a.x), norm(b.x))
    reach = far + norm(a.grad - b.grad) / lipschitz + (2 * size / lipschitz).sqrt()
    allowed = allowed + 10 * eps * lipschitz * far * reach

    def fails(rise: Tensor, slope: Tensor, grad: Tensor) -> Tensor:
        return rise + allowed + 100 * eps * inner(grad.abs(), length) < slope + gain

    return fails(rise, up, b.grad) | fails(-rise, -down, a.grad)
