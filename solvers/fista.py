"""FISTA: accelerated (projected) gradient descent, convex and strongly convex."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .batch import per_image
from .box import Box
from .contradictions import Evaluation, contradict, contradict_convexity
from .objective import Objective
from .proximal_step import Backtracking, describe_step, proximal_step, starting_constant
from .solver import Solver, State


@dataclass(frozen=True)
class FISTAState(State):
    """`y`: the extrapolated point of the next step; `previous`: the last evaluation."""

    y: Tensor
    momentum: Tensor
    previous: Evaluation
    lipschitz: Tensor
    mu: Tensor


@dataclass(frozen=True)
class FISTA(Solver[FISTAState]):
    """`x_{k+1} = P(y_k - grad F(y_k) / L)`, `y_{k+1} = x_{k+1} + beta_k (x_{k+1} - x_k)`.

    Images with a known modulus `mu > 0` use `beta = (1 - sqrt q) / (1 + sqrt q)`, `q = mu / L`, and
    converge like `(1 - sqrt q)^k` (Beck 2017, Thm 10.42). The others use
    `beta_k = (t_k - 1) / t_{k+1}`, `t_{k+1} = (1 + sqrt(1 + 4 t_k^2)) / 2`, with
    `F(x_k) - F* <= 2 L |x_0 - x*|^2 / (k + 1)^2` (Beck & Teboulle 2009, Thm 4.4). With backtracking
    the constant only grows, as that theorem asks; Thm 10.42 is for one that does not change.

    For an unknown modulus see `FreeFISTA`, which restarts.
    """

    backtracking: Backtracking | None = None

    @property
    def description(self) -> str:
        return f"{type(self).__name__} with {describe_step(self.backtracking)}"

    def init(self, objective: Objective, x: Tensor, box: Box) -> FISTAState:
        batch = x.shape[0]
        nothing = x.new_full((batch,), float("inf"), dtype=torch.float64)
        mu = objective.strong_convexity(x).double().to(x.device).expand(batch)
        if bool((mu < 0).any()):
            raise ValueError(
                "FISTA needs a convex objective, and this one is not known to be convex; choose "
                "GradientDescent or QuasiNewton"
            )
        return FISTAState(
            x=x,
            gap=nothing,
            lower=-nothing,
            stationarity=nothing,
            step_size=nothing,
            evaluations=x.new_zeros(batch, dtype=torch.float64),
            violated=x.new_zeros(batch, dtype=torch.bool),
            value=None,
            y=x,
            momentum=x.new_ones(batch, dtype=torch.float64),
            previous=Evaluation(x, nothing, torch.zeros_like(x)),
            lipschitz=starting_constant(objective, x, self.backtracking),
            mu=mu,
        )

    def step(self, objective: Objective, state: FISTAState, box: Box) -> FISTAState:
        y, search = state.y, self.backtracking
        value, grad = objective.value_and_grad(y)
        step = proximal_step(objective, y, value, grad, state.lipschitz, state.mu, box, search)
        move = step.x - state.x
        root = (state.mu / step.lipschitz).clamp(0, 1).sqrt()
        t = (1 + torch.sqrt(1 + 4 * state.momentum**2)) / 2
        beta = torch.where(state.mu > 0, (1 - root) / (1 + root), (state.momentum - 1) / t)
        evaluation = Evaluation(y, value, grad)
        if search is None:
            violated = contradict(state.previous, evaluation, step.lipschitz)
        else:
            violated, _ = contradict_convexity(
                objective, state.previous, evaluation, step.lipschitz
            )
        return FISTAState(
            x=step.x,
            gap=step.certificate.gap,
            lower=torch.maximum(state.lower, step.certificate.lower),
            stationarity=step.stationarity,
            step_size=step.step_size,
            evaluations=state.evaluations + 1 + step.value_evaluations / 2,
            violated=violated,
            value=None,
            y=step.x + per_image(beta.to(y.dtype), y) * move,
            momentum=t,
            previous=evaluation,
            lipschitz=step.lipschitz,
            mu=state.mu,
        )
