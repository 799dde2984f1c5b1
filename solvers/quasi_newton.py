"""Preconditioned limited-memory quasi-Newton method, with or without a box."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .batch import inner, per_image, rms
from .box import Box
from .certificates import certificate_at
from .contradictions import Evaluation, contradict_convexity
from .curvature import Curvature, SumPreconditioner
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
    """Value and gradient at `x`, the pairs (newest last) and the initial matrix, a preconditioner to scale.

    `constant` is the largest Lipschitz constant that the evaluations so far have shown, infinite where the
    objective is not said to be convex and nothing can contradict it.
    The loop never reactivates an image, so pairs need not be kept from changing after it stopped.
    """

    value: Tensor
    grad: Tensor
    mu: Tensor
    constant: Tensor
    iteration: int
    pairs: tuple[Pair, ...]
    preconditioner: SumPreconditioner | None
    scale: Tensor


@dataclass(frozen=True)
class QuasiNewton(Solver[QuasiNewtonState]):
    """L-BFGS whose initial matrix is the inverse of a curvature model of the objective.

    `x_{k+1} = P(x_k - t p_k)`, `p_k = H_k grad F(x_k)`, where `H_k` applies the last `memory` pairs to
    the preconditioner (`solvers.curvature`; a multiple of the identity for objectives without a
    model). `t` starts at one and is halved until the Armijo condition holds.

    Guarantees. Without a box and with `mu > 0` the iterates converge linearly to the minimiser. With `q`
    for what the first loop of the recursion leaves of the gradient `g`, and `P` for the preconditioner,
    which need not be linear, `<g, p> = <q, P(q)> + sum_i rho_i <s_i, q_i>^2` and
    `g = q + sum_i rho_i <s_i, q_i> y_i`. All that the proof of Liu & Nocedal (1989, Thm 7.1) uses of pairs is
    `mu |s|^2 <= <s, y>` and `|y|^2 <= L <s, y>`, true of every `mu`-strongly convex function with an
    `L`-Lipschitz gradient (Nesterov 2018, Thms 2.1.10, 2.1.5), without the two continuous derivatives that
    their theorem asks for and spline and Huber potentials lack. So `rho_i` and the maps above are bounded,
    `<g, p> >= c |g|^2` and `|p| <= C |g|` with `c, C > 0`, Armijo steps are bounded below, and each gains
    a fixed fraction of `|g|^2 >= 2 mu (F - F*)`.
    With a box and `mu > 0` everything is restricted to the free variables, the others, at or near a bound
    that the gradient holds them at, take gradient steps (two-metric projection), and the iterates converge
    to the minimiser (Bertsekas 1982, Prop. 2; `Pair.rho_within` bounds the matrices).
    An image for which `max_halvings` find no step takes the proven one, `P(x - grad / L)`, if that
    decreases the value; objectives without a proven `L` converge as long as the halvings suffice.
    With `mu = 0` no step increases the objective, and what is proven of the result is its certificate.

    :param memory: pairs kept.
    :param refresh: iterations after which the model is rebuilt at the current image; it is built at
        the start as well. Each build is counted as what it says to cost.
    """

    memory: int = 10
    refresh: tuple[int, ...] = (2, 5, 10, 20, 40)
    armijo: float = 1e-4
    max_halvings: int = 30

    def __post_init__(self) -> None:
        if self.memory < 1 or self.max_halvings < 1 or not 0 < self.armijo < 0.5:
            raise ValueError(
                f"the quasi-Newton method needs memory >= 1, max_halvings >= 1 and 0 < armijo < 1/2: {self}"
            )

    @property
    def description(self) -> str:
        return f"{type(self).__name__}, line search, no bound on |A| needed"

    def init(self, objective: Objective, x: Tensor, box: Box) -> QuasiNewtonState:
        batch = x.shape[0]
        nothing = x.new_full((batch,), float("inf"), dtype=torch.float64)
        value, grad = objective.value_and_grad(x)
        curvature = objective.curvature(x)
        mu = objective.strong_convexity(x).double().to(x.device).expand(batch)
        return QuasiNewtonState(
            x=x,
            gap=nothing,
            lower=-nothing,
            stationarity=nothing,
            step_size=nothing,
            evaluations=x.new_full((batch,), 1.0 + _cost(curvature), dtype=torch.float64),
            violated=x.new_zeros(batch, dtype=torch.bool),
            value=value,
            grad=grad,
            mu=mu,
            constant=torch.where(mu >= 0, 0.0, nothing),
            iteration=0,
            pairs=(),
            preconditioner=None if curvature is None else SumPreconditioner(curvature),
            scale=torch.ones_like(value),
        )

    def step(self, objective: Objective, state: QuasiNewtonState, box: Box) -> QuasiNewtonState:
        preconditioner, evaluations = state.preconditioner, state.evaluations
        if preconditioner is not None and state.iteration in self.refresh:
            curvature = objective.curvature(state.x)
            assert curvature is not None
            preconditioner, evaluations = (
                SumPreconditioner(curvature),
                evaluations + _cost(curvature),
            )
        free = _free_variables(state.x, state.grad, box)
        # another application of the preconditioner costs more than a scale of every iteration's own gains
        kept = (
            preconditioner is not None and preconditioner is state.preconditioner and free.ndim == 0
        )
        scale = state.scale if kept and len(state.pairs) > 1 else None
        direction, scale = _apply(state.pairs, preconditioner, state.grad, free, scale)
        slope = inner(direction, state.grad)
        if free.ndim > 0:
            direction = direction + (1 - free) * state.grad
        search = _Search(objective, state, box)
        search.along(direction, slope, free, self.armijo, self.max_halvings)
        x, value, grad = search.x, search.value, search.grad
        move = x - state.x
        pair = Pair.of(move, grad - state.grad)
        certificate = certificate_at(value, grad, x, state.mu, box)
        return QuasiNewtonState(
            x=x,
            gap=certificate.gap,
            lower=torch.maximum(state.lower, certificate.lower),
            stationarity=rms(box.gradient_mapping(x, grad, torch.ones_like(value))),
            step_size=rms(move) / rms(x).clamp_min(1e-30),
            evaluations=evaluations + search.trials,
            violated=search.violated,
            value=value,
            grad=grad,
            mu=state.mu,
            constant=search.constant,
            iteration=state.iteration + 1,
            pairs=(*state.pairs, pair)[-self.memory :],
            preconditioner=preconditioner,
            scale=scale,
        )


class _Search:
    """A search for a better point, image by image: what it found, and what it spent and saw.

    :ivar pending: images without a new point; they keep theirs.
    :ivar violated: images of which a trial contradicts convexity.
    """

    def __init__(self, objective: Objective, state: QuasiNewtonState, box: Box) -> None:
        self.objective, self.state, self.box = objective, state, box
        self.x, self.value, self.grad = state.x, state.value, state.grad
        self.constant = state.constant
        self.trials = torch.zeros_like(state.value)
        self.violated = torch.zeros_like(state.violated)
        self.pending = torch.ones_like(state.violated)

    def along(
        self, direction: Tensor, slope: Tensor, free: Tensor, armijo: float, halvings: int
    ) -> None:
        """The first `P(x - t direction)`, `t = 1, 1/2, ...`, with enough decrease, else the proven step.

        An image for which neither is found has a value of NaN if the last trial's was not finite.
        """
        state, t = self.state, torch.ones_like(slope)
        rounding = 4 * torch.finfo(self.x.dtype).eps * state.value.abs() / self.x[0].numel() ** 0.5
        last = state.value
        for _ in range(halvings):
            trial = self._evaluate(state.x - per_image(t.to(self.x.dtype), self.x) * direction)
            last = trial.value
            bound = inner((1 - free) * state.grad, state.x - trial.x)
            limit = state.value - armijo * (t * slope + bound) + rounding
            self._accept(trial, last <= limit)
            if not self.pending.any():
                return
            t = t / 2
        proven = self.objective.lipschitz(state.x).to(slope).expand_as(slope)
        self.pending, lost = self.pending & proven.isfinite(), self.pending & ~last.isfinite()
        if self.pending.any():
            step = per_image((1 / proven).to(self.x.dtype), self.x) * state.grad
            trial = self._evaluate(state.x - step)
            self._accept(trial, trial.value < state.value)
            lost = lost & (self.pending | ~proven.isfinite())
        # no step however short gives a number: that is not stagnation
        self.value = torch.where(lost, float("nan"), self.value)

    def _evaluate(self, x: Tensor) -> Evaluation:
        x, state = self.box.project(x), self.state
        trial = Evaluation(x, *self.objective.value_and_grad(x))
        self.trials = self.trials + self.pending.double()
        start = Evaluation(state.x, state.value, state.grad)
        violated, constant = contradict_convexity(self.objective, start, trial, self.constant)
        # an image that has its point sees no more trials: it would not alone either
        self.violated = self.violated | (violated & self.pending)
        self.constant = torch.where(self.pending, constant, self.constant)
        return trial

    def _accept(self, trial: Evaluation, enough: Tensor) -> None:
        accepted = self.pending & enough
        self.pending = self.pending & ~enough
        if bool(accepted.all()):
            self.x, self.value, self.grad = trial.x, trial.value, trial.grad
            return
        where = per_image(accepted, self.x)
        self.x = torch.where(where, trial.x, self.x)
        self.grad = torch.where(where, trial.grad, self.grad)
        self.value = torch.where(accepted, trial.value, self.value)


def _cost(curvature: Curvature | None) -> float:
    return 0.0 if curvature is None else curvature.evaluations


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
    pairs: tuple[Pair, ...],
    preconditioner: SumPreconditioner | None,
    grad: Tensor,
    free: Tensor,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The two-loop recursion (Nocedal 1980), `H_k grad`, with everything restricted to the free variables.

    :param free: one or zero per pixel, or 0-dim when all are free.
    :param scale: factor of the preconditioner, `(B,)`. By default the newest pair's: `<y, s> = <y, P y>`.
    :return: the direction, and the scale.
    """

    def restricted(v: Tensor) -> Tensor:
        return v if free.ndim == 0 else free * v

    def preconditioned(v: Tensor) -> Tensor:
        return v if preconditioner is None else restricted(preconditioner(v))

    rhos = [pair.rho if free.ndim == 0 else pair.rho_within(free) for pair in pairs]
    q, alphas = restricted(grad).clone(), []
    for pair, rho in zip(reversed(pairs), reversed(rhos), strict=True):
        alpha = rho * inner(pair.move, q)
        alphas.append(alpha)
        q.addcmul_(per_image(alpha.to(q.dtype), q), restricted(pair.change), value=-1)
    r = preconditioned(q)
    if scale is None:
        scale = torch.ones(len(grad), dtype=torch.float64, device=grad.device)
        if pairs:
            newest = restricted(pairs[-1].change)
            size = rhos[-1] * inner(newest, preconditioned(newest))
            scale = torch.where(size > 0, 1 / size, scale)
    r.mul_(per_image(scale.to(r.dtype), r))
    for pair, rho, alpha in zip(pairs, rhos, reversed(alphas), strict=True):
        beta = rho * inner(pair.change, r)
        r.addcmul_(per_image((alpha - beta).to(r.dtype), r), restricted(pair.move))
    return r, scale
