"""OGM-G: a first-order method whose last gradient is guaranteed to be small at the optimal rate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from .batch import per_image, rms
from .box import Box
from .certificates import certificate_at
from .contradictions import Evaluation, contradict
from .objective import Objective
from .proximal_step import describe_step, starting_constant
from .solver import Solver, State


@dataclass(frozen=True)
class OGMGState(State):
    """Value and gradient at `x`; `y`: the last gradient step; `position` within the cycle."""

    value: Tensor
    grad: Tensor
    y: Tensor
    lipschitz: Tensor
    mu: Tensor
    position: int


@dataclass(frozen=True)
class OGMG(Solver[OGMGState]):
    """OGM-G (Kim & Fessler 2021) in cycles of `cycle` steps, for objectives without strong convexity.

    `y_{i+1} = x_i - grad F(x_i) / L`,
    `x_{i+1} = y_{i+1} + b_i (y_{i+1} - y_i) + c_i (y_{i+1} - x_i)`, with the proven `L`.

    Guarantee (Thm 6.1 there): over a cycle of `N` steps from `x_0`
    `|grad F(x_N)|^2 <= 4 L (F(x_0) - F*) / (N + 1)^2`
    (`solvers.certificates.gradient_norm_rate`), within a factor of the lower bound for every first-order
    method; a FISTA run of `N` steps before it gives the rate `1 / N^4`. The next cycle starts from `x_N`.

    :param cycle: `N`; the guarantee is about the last point of a cycle, not about those on the way.
    """

    cycle: int = 50

    @property
    def description(self) -> str:
        return f"{type(self).__name__} with {describe_step(None)}"

    @cached_property
    def _coefficients(self) -> list[tuple[float, float]]:
        """`b_i, c_i` for `i = 0 .. N - 1` from the backward recursion of `theta`."""
        theta = [1.0]
        for i in reversed(range(self.cycle)):
            theta.append((1 + (1 + (8 if i == 0 else 4) * theta[-1] ** 2) ** 0.5) / 2)
        theta.reverse()
        return [
            (
                (here - 1) * (2 * after - 1) / (here * (2 * here - 1)),
                (2 * after - 1) / (2 * here - 1),
            )
            for here, after in pairwise(theta)
        ]

    def init(self, objective: Objective, x: Tensor, box: Box) -> OGMGState:
        """:raises ValueError: a box, a cycle of no step, or an objective not known to be convex."""
        mu = objective.strong_convexity(x).double().to(x.device).expand(x.shape[0])
        if not box.everything or self.cycle < 1 or bool((mu < 0).any()):
            raise ValueError(
                "OGM-G minimises convex functions without constraints, in cycles of at least one step; "
                "with a box choose QuasiNewton or FISTA"
            )
        value, grad = objective.value_and_grad(x)
        certificate = certificate_at(value, grad, x, mu, box)
        return OGMGState(
            x=x,
            gap=certificate.gap,
            lower=certificate.lower,
            stationarity=rms(grad),
            step_size=torch.full_like(value, float("inf")),
            evaluations=torch.ones_like(value),
            violated=torch.zeros_like(value, dtype=torch.bool),
            value=value,
            grad=grad,
            y=x,
            lipschitz=starting_constant(objective, x, None),
            mu=mu,
            position=0,
        )

    def step(self, objective: Objective, state: OGMGState, box: Box) -> OGMGState:
        b, c = self._coefficients[state.position]
        y = state.x - per_image((1 / state.lipschitz).to(state.x.dtype), state.x) * state.grad
        x = y + b * (y - state.y) + c * (y - state.x)
        value, grad = objective.value_and_grad(x)
        certificate = certificate_at(value, grad, x, state.mu, box)
        ended = state.position + 1 == self.cycle
        return OGMGState(
            x=x,
            gap=certificate.gap,
            lower=torch.maximum(state.lower, certificate.lower),
            stationarity=rms(grad),
            step_size=rms(x - state.x) / rms(x).clamp_min(1e-30),
            evaluations=state.evaluations + 1,
            violated=contradict(
                Evaluation(state.x, state.value, state.grad),
                Evaluation(x, value, grad),
                state.lipschitz,
            ),
            value=value,
            grad=grad,
            y=x if ended else y,
            lipschitz=state.lipschitz,
            mu=state.mu,
            position=0 if ended else state.position + 1,
        )
