"""FISTA that needs no constants: searched steps, and restarts timed by an estimate of the growth."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .batch import inner, per_image
from .box import Box
from .loop import Solver, State
from .objective import Objective
from .proximal_step import Backtracking, Step, proximal_step

Blocks = tuple[tuple[float, int], ...]
"""Of every block of iterations between restarts: the value of `F` where it starts, and its length."""


@dataclass(frozen=True)
class FreeFISTAState(State):
    """`previous`: the iterate before `x`; `position` in the block of `length` iterations; `growing`:
    whether the next step may be longer; `blocks`, one history per image, the current block last."""

    previous: Tensor
    value: Tensor
    momentum: Tensor
    lipschitz: Tensor
    growing: Tensor
    mu: Tensor
    position: Tensor
    length: Tensor
    blocks: tuple[Blocks, ...]


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
    def _restart_constant(self) -> float:
        return 6.38 * self.search.increase**0.5

    def init(self, objective: Objective, x: Tensor, box: Box) -> FreeFISTAState:
        batch = x.shape[0]
        nothing = x.new_full((batch,), float("inf"), dtype=torch.float64)
        ones = torch.ones_like(nothing)
        length = int(2 * self._restart_constant)
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
            momentum=ones,
            lipschitz=self.search.initial * ones,
            growing=x.new_zeros(batch, dtype=torch.bool),
            mu=mu,
            position=x.new_zeros(batch, dtype=torch.long),
            length=x.new_full((batch,), length, dtype=torch.long),
            blocks=tuple(((float(start), length),) for start in value),
        )

    def step(self, objective: Objective, state: FreeFISTAState, box: Box) -> FreeFISTAState:
        taken, value, momentum, spare, trials = self._search(objective, state, box)
        position = state.position + 1
        ended = position == state.length
        blocks, lengths = list(state.blocks), state.length.tolist()
        for image in ended.nonzero().flatten().tolist():
            lengths[image] = self._next_length(blocks[image], float(value[image]))
            blocks[image] = (*blocks[image], (float(value[image]), lengths[image]))
        return FreeFISTAState(
            x=taken.x,
            gap=taken.certificate.gap,
            lower=torch.maximum(state.lower, taken.certificate.lower),
            stationarity=taken.stationarity,
            step_size=taken.step_size,
            evaluations=state.evaluations + 1.5 * trials,
            violated=state.violated,
            previous=torch.where(per_image(ended, taken.x), taken.x, state.x),
            value=value,
            momentum=torch.where(ended, 1.0, momentum),
            lipschitz=taken.lipschitz,
            growing=spare,
            mu=state.mu,
            position=torch.where(ended, 0, position),
            length=torch.tensor(lengths, device=state.length.device),
            blocks=tuple(blocks),
        )

    def _next_length(self, blocks: Blocks, value: float) -> int:
        """Length of the next block, from the blocks so far and the value now."""
        length = blocks[-1][1]
        ratio = float("inf")
        for (before, count), (after, _) in pairwise(blocks):
            if after > value:  # otherwise rounding hides what was gained since
                decay = (before - value) / (after - value)
                ratio = min(ratio, 4 * self.search.increase / (count + 1) ** 2 * decay)
        return 2 * length if 0 < ratio <= (self._restart_constant / length) ** 2 else length

    def _search(
        self, objective: Objective, state: FreeFISTAState, box: Box
    ) -> tuple[Step, Tensor, Tensor, Tensor, Tensor]:
        """The first step that passes the majorisation test, image by image.

        Returns it with its value and momentum, whether a constant `rho` times as large would have
        passed as well, and the number of trials. Where none passes the gap is `inf`, NaN if the last
        value was not finite.
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
        unknown = torch.where(value.isfinite(), float("inf"), float("nan"))
        taken = step.certified_only_where(~pending, unknown)
        return taken, value, momentum, excess <= rho * quadratic, trials
