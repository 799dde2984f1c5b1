"""FISTA that needs no constants: searched steps, and restarts timed by an estimate of the growth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .batch import inner, per_image
from .box import Box
from .contradictions import Evaluation, contradict_convexity
from .objective import Objective
from .proximal_step import Backtracking, Step, describe_step, proximal_step
from .solver import Solver, State


@dataclass(frozen=True)
class Blocks:
    """Blocks of iterations that have ended, one a column: `F` at their start and end, and their length.

    All `(B, N)`; an end of `-inf` marks a column that is not a block of that image.
    """

    before: Tensor
    after: Tensor
    length: Tensor

    @classmethod
    def of(cls, before: Tensor, after: Tensor, length: Tensor) -> Blocks:
        """One block of every image, from tensors `(B,)`."""
        return cls(before.unsqueeze(1), after.unsqueeze(1), length.unsqueeze(1))

    def followed_by(self, other: Blocks) -> Blocks:
        """The columns of both."""
        return Blocks(
            torch.cat([self.before, other.before], 1),
            torch.cat([self.after, other.after], 1),
            torch.cat([self.length, other.length], 1),
        )


@dataclass(frozen=True)
class FreeFISTAState(State):
    """`previous`: the iterate before `x`; `position` in the block of `length` iterations, which started at
    the value `start`; `growing`: whether the next step may be longer; `blocks`: those that have ended;
    `evaluation`: the last one, at an extrapolated point."""

    previous: Tensor
    value: Tensor
    evaluation: Evaluation
    momentum: Tensor
    lipschitz: Tensor
    growing: Tensor
    mu: Tensor
    position: Tensor
    length: Tensor
    start: Tensor
    blocks: Blocks


@dataclass(frozen=True)
class FreeFISTA(Solver[FreeFISTAState]):
    """Free-FISTA (Aujol, Calatroni, Dossal, Labarriere & Rondepierre 2023, arXiv 2307.14323).

    FISTA whose step grows and shrinks (Calatroni & Chambolle 2019: the momentum follows the ratio of the
    steps, so that every accepted one keeps the `1/k^2` rate), in blocks of `n` iterations. After
    every block the ratio `mu / L` of growth and smoothness is estimated from above by

        q = min_i  4 / (rho (n_i + 1)^2)  (F(r_i) - F(r)) / (F(r_{i+1}) - F(r)),

    with `r_i` where block `i` started and `r` the current point, and the next blocks are twice as long
    if `n <= C / sqrt(q)`, `C = 6.38 / sqrt(rho)`. For functions that grow quadratically around their
    minimisers `F(x_k) - F*` then falls like `exp(-K sqrt(mu / L) k)` without knowing `mu` or `L`.

    The modulus of the objective, where it has one, is used for the certificate alone.

    :param search: first constant and the factors of the search; `rho = 1 / search.increase`.
    """

    search: Backtracking = Backtracking()  # noqa: RUF009 - immutable

    @property
    def description(self) -> str:
        return f"{type(self).__name__} with {describe_step(self.search)}"

    @property
    def _restart_constant(self) -> float:
        return 6.38 * self.search.increase**0.5

    def init(self, objective: Objective, x: Tensor, box: Box) -> FreeFISTAState:
        batch = x.shape[0]
        nothing = x.new_full((batch,), float("inf"), dtype=torch.float64)
        ones = torch.ones_like(nothing)
        length = x.new_full((batch,), int(2 * self._restart_constant), dtype=torch.long)
        value = objective.value(x)
        mu = objective.strong_convexity(x).double().to(x.device).expand(batch)
        if bool((mu < 0).any()):
            raise ValueError(
                "Free-FISTA needs a convex objective, and this one is not known to be convex; choose "
                "GradientDescent or QuasiNewton"
            )
        return FreeFISTAState(
            x=x,
            gap=nothing,
            lower=-nothing,
            stationarity=nothing,
            step_size=nothing,
            evaluations=ones / 2,
            violated=x.new_zeros(batch, dtype=torch.bool),
            previous=x,
            value=value,
            evaluation=Evaluation(x, nothing, torch.zeros_like(x)),
            momentum=ones,
            lipschitz=self.search.initial * ones,
            growing=x.new_zeros(batch, dtype=torch.bool),
            mu=mu,
            position=x.new_zeros(batch, dtype=torch.long),
            length=length,
            start=value,
            blocks=Blocks.of(value, -nothing, length),
        )

    def step(self, objective: Objective, state: FreeFISTAState, box: Box) -> FreeFISTAState:
        taken, evaluation, value, momentum, spare, trials = self._search(objective, state, box)
        violated, _ = contradict_convexity(objective, state.evaluation, evaluation, taken.lipschitz)
        position = state.position + 1
        ended = position == state.length
        blocks, length, start = state.blocks, state.length, state.start
        if bool(ended.any()):
            length = torch.where(ended, self.next_length(blocks, value, length), length)
            after = torch.where(ended, value, -float("inf"))
            blocks = blocks.followed_by(Blocks.of(start, after, state.length))
            start = torch.where(ended, value, start)
        return FreeFISTAState(
            x=taken.x,
            gap=taken.certificate.gap,
            lower=torch.maximum(state.lower, taken.certificate.lower),
            stationarity=taken.stationarity,
            step_size=taken.step_size,
            evaluations=state.evaluations + 1.5 * trials,
            violated=violated,
            previous=torch.where(per_image(ended, taken.x), taken.x, state.x),
            value=value,
            evaluation=evaluation,
            momentum=torch.where(ended, 1.0, momentum),
            lipschitz=taken.lipschitz,
            growing=spare,
            mu=state.mu,
            position=torch.where(ended, 0, position),
            length=length,
            start=start,
            blocks=blocks,
        )

    def next_length(self, blocks: Blocks, value: Tensor, length: Tensor) -> Tensor:
        """Lengths of the next blocks, from those before the current one and the value now, `(B,)`."""
        value = value.unsqueeze(1)
        decay = (blocks.before - value) / (blocks.after - value)
        ratio = 4 * self.search.increase / (blocks.length + 1).double() ** 2 * decay
        # where a block ended at the value of now rounding hides what was gained since
        ratio = torch.where(blocks.after > value, ratio, float("inf")).amin(1)
        short = (ratio > 0) & (ratio <= (self._restart_constant / length.double()) ** 2)
        return torch.where(short, 2 * length, length)

    def _search(
        self, objective: Objective, state: FreeFISTAState, box: Box
    ) -> tuple[Step, Evaluation, Tensor, Tensor, Tensor, Tensor]:
        """The first step that passes the majorisation test, image by image.

        Returns it with the evaluation it starts from, its value and momentum, whether a constant `rho`
        times as large would have passed as well, and the number of trials.
        """
        rho = 1 / self.search.increase
        longer = state.lipschitz * self.search.decrease
        lipschitz = torch.where(state.growing, longer, state.lipschitz)
        pending = torch.ones_like(state.growing)
        trials = torch.zeros_like(lipschitz)
        attempts = 0
        while True:
            attempts += 1
            trials = trials + pending
            ratio = lipschitz / state.lipschitz
            momentum = (1 + torch.sqrt(1 + 4 * ratio * state.momentum**2)) / 2
            beta = per_image(((state.momentum - 1) / momentum).to(state.x.dtype), state.x)
            y = state.x + beta * (state.x - state.previous)
            at_y, grad = objective.value_and_grad(y)
            step = proximal_step(objective, y, at_y, grad, lipschitz, state.mu, box, None)
            value = objective.value(step.x)
            move = step.x - y
            quadratic = lipschitz / 2 * inner(move, move)
            excess = value - at_y - inner(grad, move)
            # what float64 sums of terms rounded to the dtype of x cannot resolve
            eps = 4 * torch.finfo(y.dtype).eps
            rounding = eps * (at_y.abs() / y[0].numel() ** 0.5 + (value - at_y).abs())
            pending = ~(value.isfinite() & (excess <= quadratic + rounding))
            if attempts == self.search.limit or not pending.any():
                break
            lipschitz = torch.where(pending, lipschitz * self.search.increase, lipschitz)
        taken = step.certified_only_where(~pending, value)
        spare = excess <= rho * quadratic
        return taken, Evaluation(y, at_y, grad), value, momentum, spare, trials
