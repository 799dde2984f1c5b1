"""Preconditioned limited-memory quasi-Newton method, with or without a box."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .batch import inner, per_image, rms
from .box import Box
from .certificates import certificate_at
from .curvature import Preconditioner, SumPreconditioner
from .loop import Solver, State
from .objective import Objective

_NEAR = 1e-6
"""How near a bound a pixel is held at most, relative to the box or one. The proof takes any number; holding
pixels that are not at the bound costs line searches, and this is as far as 30 halvings reach."""


@dataclass(frozen=True)
class Pair:
    """A move, the change of the gradient along it, and `1 / <move, change>` (zero: not usable)."""

    move: Tensor
    change: Tensor
    rho: Tensor

    @classmethod
    def of(cls, move: Tensor, change: Tensor) -> Pair:
        """The pair, usable if the curvature along the move is clearly positive."""
        product = inner(move, change)
        usable = product > 1e-10 * (inner(move, move) * inner(change, change)).sqrt()
        return cls(move, change, torch.where(usable, 1 / product, 0.0))

    def rho_within(self, free: Tensor) -> Tensor:
        """`1 / <move, change>` over the free variables, zero where the pair says too little of them.

        Among them the curvature is that of a move of them only; the whole pairs would give a block of the
        inverse Hessian, far too long steps. Usable is a pair where neither `<move, change> / <move, move>`
        nor `<move, change> / <change, change>` is too small a fraction of the whole pair's, which bounds
        the matrix.
        """
        move, change = free * self.move, free * self.change
        product = inner(move, change)
        share = torch.maximum(
            inner(move, move) / inner(self.move, self.move),
            inner(change, change) / inner(self.change, self.change),
        )
        usable = (self.rho > 0) & (product * self.rho > 1e-10 * share)
        return torch.where(usable, 1 / product, 0.0)


@dataclass(frozen=True)
class QuasiNewtonState(State):
    """Value and gradient at `x`, the pairs (newest last) and the initial matrix.

    The loop never reactivates an image, so pairs need not be kept from changing after it stopped.
    """

    value: Tensor
    grad: Tensor
    mu: Tensor
    iteration: int
    pairs: tuple[Pair, ...]
    preconditioner: Preconditioner | None


@dataclass(frozen=True)
class QuasiNewton(Solver[QuasiNewtonState]):
    """L-BFGS whose initial matrix is the inverse of a curvature model of the objective.

    `x_{k+1} = P(x_k - t p_k)`, `p_k = H_k grad F(x_k)`, where `H_k` applies the last `memory` pairs to
    the preconditioner (`solvers.curvature`; a multiple of the identity for objectives without a
    model). `t` starts at one and is halved until the Armijo condition holds.

    Guarantees. Without a box and with `mu > 0`: `H_k` has eigenvalues in a fixed positive interval
    and the iterates converge linearly to the minimiser (Liu & Nocedal 1989, Thm 7.1, whose
    conditions Armijo backtracking meets by Byrd & Nocedal 1989, Thm 3.2). With a box and `mu > 0`: the
    matrix is applied to the free variables only, the others, at or near a bound that the gradient holds
    them at, take gradient steps (two-metric projection), and the iterates converge to the minimiser
    (Bertsekas 1982, Prop. 2; `Pair.rho_within` bounds the matrices). Both as long as `max_halvings` suffice.
    With `mu = 0` no step increases the objective, and what is proven of the result is its certificate.

    :param memory: pairs kept.
    :param refresh: iterations after which the model is rebuilt at the current image; it is built at
        the start as well. Each build is counted as a gradient evaluation.
    """

    memory: int = 10
    refresh: tuple[int, ...] = (5, 40)
    armijo: float = 1e-4
    max_halvings: int = 30

    def __post_init__(self) -> None:
        if self.memory < 1 or self.max_halvings < 1 or not 0 < self.armijo < 0.5:
            raise ValueError(
                f"the quasi-Newton method needs memory >= 1, max_halvings >= 1 and 0 < armijo < 1/2: {self}"
            )

    def init(self, objective: Objective, x: Tensor, box: Box) -> QuasiNewtonState:
        batch = x.shape[0]
        nothing = x.new_full((batch,), float("inf"), dtype=torch.float64)
        value, grad = objective.value_and_grad(x)
        curvature = objective.curvature(x)
        return QuasiNewtonState(
            x=x,
            gap=nothing,
            lower=-nothing,
            stationarity=nothing,
            step_size=nothing,
            evaluations=x.new_full((batch,), 1.0 + (curvature is not None), dtype=torch.float64),
            violated=x.new_zeros(batch, dtype=torch.bool),
            value=value,
            grad=grad,
            mu=objective.strong_convexity(x).double().to(x.device).expand(batch),
            iteration=0,
            pairs=(),
            preconditioner=None if curvature is None else SumPreconditioner(curvature),
        )

    def step(self, objective: Objective, state: QuasiNewtonState, box: Box) -> QuasiNewtonState:
        preconditioner, evaluations = state.preconditioner, state.evaluations
        if preconditioner is not None and state.iteration in self.refresh:
            curvature = objective.curvature(state.x)
            assert curvature is not None
            preconditioner, evaluations = SumPreconditioner(curvature), evaluations + 1
        free = _free_variables(state.x, state.grad, box)
        direction = _apply(state.pairs, preconditioner, state.grad, free)
        slope = inner(direction, state.grad)
        direction = direction + (1 - free) * state.grad
        x, value, grad, trials = self._search(objective, state, direction, slope, free, box)
        move, change = x - state.x, grad - state.grad
        pair = Pair.of(move, change)
        certificate = certificate_at(value, grad, x, state.mu, box)
        return QuasiNewtonState(
            x=x,
            gap=certificate.gap,
            lower=torch.maximum(state.lower, certificate.lower),
            stationarity=rms(box.gradient_mapping(x, grad, torch.ones_like(value))),
            step_size=rms(move) / rms(x).clamp_min(1e-30),
            evaluations=evaluations + trials,
            violated=state.violated,
            value=value,
            grad=grad,
            mu=state.mu,
            iteration=state.iteration + 1,
            pairs=(*state.pairs, pair)[-self.memory :],
            preconditioner=preconditioner,
        )

    def _search(
        self,
        objective: Objective,
        state: QuasiNewtonState,
        direction: Tensor,
        slope: Tensor,
        free: Tensor,
        box: Box,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The first `P(x - t direction)`, `t = 1, 1/2, ...`, with enough decrease, per image.

        An image for which none is found keeps its point; its value is NaN if the last trial's was not
        finite. Returns point, value, gradient and the
        evaluations used.
        """
        t = torch.ones_like(slope)
        pending = torch.ones_like(state.violated)
        x, value, grad = state.x, state.value, state.grad
        trials = torch.zeros_like(slope)
        rounding = 4 * torch.finfo(x.dtype).eps * state.value.abs() / x[0].numel() ** 0.5
        for _ in range(self.max_halvings):
            trial = box.project(state.x - per_image(t.to(x.dtype), x) * direction)
            its_value, its_grad = objective.value_and_grad(trial)
            trials = trials + pending.double()
            bound = inner((1 - free) * state.grad, state.x - trial)
            enough = its_value <= state.value - self.armijo * (t * slope + bound) + rounding
            accepted = pending & enough
            if bool(accepted.all()):
                return trial, its_value, its_grad, trials
            x = torch.where(per_image(accepted, x), trial, x)
            grad = torch.where(per_image(accepted, x), its_grad, grad)
            value = torch.where(accepted, its_value, value)
            pending = pending & ~enough
            if not pending.any():
                break
            t = t / 2
        # no step however short gives a number: that is not stagnation
        lost = pending & ~torch.isfinite(its_value)
        return x, torch.where(lost, float("nan"), value), grad, trials


def _free_variables(x: Tensor, grad: Tensor, box: Box) -> Tensor:
    """One for pixels that can move, zero for those that the gradient holds at a bound.

    Those near it, closer than the projected gradient is long, are held as well (Bertsekas 1982, eq. 32):
    the direction would be cut short by a pixel that leaves the box at once.
    """
    if box.everything:
        return torch.ones((), dtype=x.dtype, device=x.device)
    width = min(box.upper - box.lower, 1.0)
    progress = rms(x - box.project(x - grad))
    near = per_image(progress.clamp_max(_NEAR * width).to(x.dtype), x)
    held = ((x <= box.lower + near) & (grad > 0)) | ((x >= box.upper - near) & (grad < 0))
    return (~held).to(x.dtype)


def _apply(
    pairs: tuple[Pair, ...], preconditioner: Preconditioner | None, grad: Tensor, free: Tensor
) -> Tensor:
    """The two-loop recursion (Nocedal 1980), `H_k grad`, with everything restricted to the free variables.

    :param free: one or zero per pixel, or 0-dim when all are free.
    """

    def restricted(v: Tensor) -> Tensor:
        return v if free.ndim == 0 else free * v

    def preconditioned(v: Tensor) -> Tensor:
        return v if preconditioner is None else restricted(preconditioner(v))

    rhos = [pair.rho if free.ndim == 0 else pair.rho_within(free) for pair in pairs]
    q, alphas = restricted(grad), []
    for pair, rho in zip(reversed(pairs), reversed(rhos), strict=True):
        alpha = rho * inner(pair.move, q)
        alphas.append(alpha)
        q = q - restricted(per_image(alpha.to(q.dtype), q) * pair.change)
    r = preconditioned(q)
    if pairs:
        newest = restricted(pairs[-1].change)
        size = rhos[-1] * inner(newest, preconditioned(newest))
        r = r * per_image(torch.where(size > 0, 1 / size, 1.0).to(r.dtype), r)
    for pair, rho, alpha in zip(pairs, rhos, reversed(alphas), strict=True):
        beta = rho * inner(pair.change, r)
        r = r + restricted(per_image((alpha - beta).to(r.dtype), r) * pair.move)
    return r
