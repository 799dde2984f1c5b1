"""One proximal gradient step from any point, with a proven or a searched step size."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .batch import inner, per_image, rms
from .box import Box
from .certificates import Certificate, certificate_after_step
from .objective import Objective


@dataclass(frozen=True)
class Backtracking:
    """Search for the local constant by the majorisation test.

    A step `x = P(y - grad / L)` is accepted when `F(x) <= F(y) + <grad, x - y> + L/2 |x - y|^2`, to
    rounding: then everything proven for steps of size `1/L` holds for it (Beck & Teboulle 2009,
    section 4). `L` is multiplied by `increase` on failure and by `decrease` after a success.
    """

    initial: float = 1.0
    increase: float = 2.0
    decrease: float = 0.9
    limit: int = 60

    def __post_init__(self) -> None:
        if not (self.initial > 0 and self.increase > 1 and 0 < self.decrease <= 1 <= self.limit):
            raise ValueError(
                f"backtracking needs initial > 0, increase > 1, 0 < decrease <= 1 and limit >= 1: {self}"
            )


def describe_step(search: Backtracking | None) -> str:
    """How a method finds the length of its steps, in words."""
    return "the proven step 1/L" if search is None else "backtracking"


@dataclass(frozen=True)
class Step:
    """Where a step led, `x`, with the constant it was taken with and what it proves."""

    x: Tensor
    lipschitz: Tensor
    certificate: Certificate
    stationarity: Tensor
    step_size: Tensor
    value_evaluations: Tensor

    def certified_only_where(self, passed: Tensor, value: Tensor) -> Step:
        """Without a certificate for images whose majorisation test has not passed.

        Their gap is `inf`, and NaN if the last `value` was not finite.
        """
        unknown = torch.full_like(value, float("inf")).where(value.isfinite(), float("nan"))
        gap = torch.where(passed, self.certificate.gap, unknown)
        distance = torch.where(passed, self.certificate.distance, unknown)
        return replace(self, certificate=replace(self.certificate, gap=gap, distance=distance))


def starting_constant(objective: Objective, x: Tensor, search: Backtracking | None) -> Tensor:
    """The constant of the first step, `(B,)` in float64.

    :raises ValueError: a fixed step asked for and no Lipschitz constant proven.
    """
    if search is not None:
        return x.new_full((x.shape[0],), search.initial, dtype=torch.float64)
    bound = objective.lipschitz(x).double().to(x.device).expand(x.shape[0])
    if not torch.isfinite(bound).all():
        raise ValueError(
            "the objective has no proven Lipschitz constant; choose a solver with "
            "backtracking=Backtracking()"
        )
    return bound


def proximal_step(
    objective: Objective,
    y: Tensor,
    value: Tensor,
    grad: Tensor,
    lipschitz: Tensor,
    mu: Tensor,
    box: Box,
    search: Backtracking | None,
) -> Step:
    """`x = P(y - grad / L)`, with `L` increased per image until the majorisation test passes.

    Where it does not within the limit of the search, nothing is certified: the gap is `inf`, and NaN
    if the last value was not finite.
    """
    x = box.project(y - grad * per_image((1 / lipschitz).to(y.dtype), y))
    attempts = torch.zeros_like(value)
    untested = torch.full_like(value, search is not None, dtype=torch.bool)
    rise = torch.zeros_like(value)
    limit, increase = (0, 1.0) if search is None else (search.limit, search.increase)
    for _ in range(limit):
        attempts = attempts + untested
        move = x - y
        rise = objective.value(x) - value
        model = inner(grad, move) + lipschitz / 2 * inner(move, move)
        # What float64 sums of terms rounded to the dtype of x cannot resolve.
        rounding = 4 * torch.finfo(y.dtype).eps * (value.abs() / y[0].numel() ** 0.5 + rise.abs())
        untested = untested & ~(rise.isfinite() & (rise <= model + rounding))
        if not untested.any():
            break
        lipschitz = torch.where(untested, lipschitz * increase, lipschitz)
        x = box.project(y - grad * per_image((1 / lipschitz).to(y.dtype), y))
    certificate = certificate_after_step(value, grad, y, x, lipschitz, mu, box)
    stationarity = rms(box.gradient_mapping(y, grad, lipschitz))
    step_size = rms(x - y) / rms(x).clamp_min(1e-30)
    step = Step(x, lipschitz, certificate, stationarity, step_size, attempts)
    if search is None:
        return step
    return step.certified_only_where(~untested, rise)
