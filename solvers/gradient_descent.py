"""(Projected) gradient descent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .box import Box
from .contradictions import Evaluation, contradict, contradict_convexity
from .objective import Objective
from .proximal_step import Backtracking, describe_step, proximal_step, starting_constant
from .solver import Solver, State


@dataclass(frozen=True)
class GradientDescentState(State):
    """`value` and `grad` at `x`; `lipschitz` of the last step."""

    value: Tensor
    grad: Tensor
    lipschitz: Tensor
    mu: Tensor


@dataclass(frozen=True)
class GradientDescent(Solver[GradientDescentState]):
    """`x_{k+1} = P(x_k - grad F(x_k) / L)`, with the proven `L` or a backtracked one.

    Guarantee: `F(x_k) - F* <= L |x_0 - x*|^2 / (2 k)`, and linear convergence with factor
    `1 - mu / L` when `F` is `mu`-strongly convex (`solvers.certificates.gradient_descent_rate`).
    """

    backtracking: Backtracking | None = None

    @property
    def description(self) -> str:
        return f"{type(self).__name__} with {describe_step(self.backtracking)}"

    def init(self, objective: Objective, x: Tensor, box: Box) -> GradientDescentState:
        batch = x.shape[0]
        nothing = x.new_full((batch,), float("inf"), dtype=torch.float64)
        value, grad = objective.value_and_grad(x)
        return GradientDescentState(
            x=x,
            gap=nothing,
            lower=-nothing,
            stationarity=nothing,
            step_size=nothing,
            evaluations=x.new_ones(batch, dtype=torch.float64),
            violated=x.new_zeros(batch, dtype=torch.bool),
            value=value,
            grad=grad,
            lipschitz=starting_constant(objective, x, self.backtracking),
            mu=objective.strong_convexity(x).double().to(x.device).expand(batch),
        )

    def step(
        self, objective: Objective, state: GradientDescentState, box: Box
    ) -> GradientDescentState:
        search = self.backtracking
        trial = state.lipschitz if search is None else state.lipschitz * search.decrease
        step = proximal_step(
            objective, state.x, state.value, state.grad, trial, state.mu, box, search
        )
        value, grad = objective.value_and_grad(step.x)
        before = Evaluation(state.x, state.value, state.grad)
        after = Evaluation(step.x, value, grad)
        # nothing contradicts what is not said to be convex
        constant = torch.where(state.mu >= 0, step.lipschitz, float("inf"))
        if search is None:
            violated = contradict(before, after, constant)
        else:
            violated, _ = contradict_convexity(objective, before, after, constant)
        return GradientDescentState(
            x=step.x,
            gap=step.certificate.gap,
            lower=torch.maximum(state.lower, step.certificate.lower),
            stationarity=step.stationarity,
            step_size=step.step_size,
            evaluations=state.evaluations + 1 + step.value_evaluations / 2,
            violated=violated,
            value=value,
            grad=grad,
            lipschitz=step.lipschitz,
            mu=state.mu,
        )
