"""Preconditioned limited-memory quasi-Newton method, with or without a box."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .batch import inner, per_image, rms
from .box import Box
from .certificates import certificate_at, gap_above, lower_bound
from .contradictions import Evaluation
from .curvature import Curvature, SumPreconditioner
from .extrapolation import evaluate_some, reduced_rank_extrapolation
from .limited_memory import Pair, two_loop_recursion
from .line_search import LineSearch
from .objective import Objective
from .solver import Solver, State

_IN_SIGHT = 30.0
"""How many times a gap may exceed the tolerance for a better lower bound to be looked for."""


@dataclass(frozen=True)
class QuasiNewtonState(State):
    """Value and gradient at `x`, the pairs (newest last) and the initial matrix, a preconditioner to scale.

    `constant` is the largest Lipschitz constant that the evaluations so far have shown, infinite where the
    objective is not said to be convex and nothing can contradict it. `trust` is how many times too large
    the gap after an extrapolation was beside what had been expected.
    The loop never reactivates an image, so pairs need not be kept from changing after it stopped.
    """

    value: Tensor
    grad: Tensor
    mu: Tensor
    constant: Tensor
    trust: Tensor
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
            trust=torch.ones_like(nothing),
            support=x,
            decrement=nothing,
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
        free = box.free_variables(state.x, state.grad)
        # another application of the preconditioner costs more than a scale of every iteration's own gains
        kept = (
            preconditioner is not None and preconditioner is state.preconditioner and free.ndim == 0
        )
        scale = state.scale if kept and len(state.pairs) > 1 else None
        direction, scale = two_loop_recursion(state.pairs, preconditioner, state.grad, free, scale)
        slope = inner(direction, state.grad)
        if free.ndim > 0:
            direction = direction + (1 - free) * state.grad
        start = Evaluation(state.x, state.value, state.grad)
        search = LineSearch(objective, start, state.constant, box)
        search.along(direction, slope, free, self.armijo, self.max_halvings)
        x, value, grad = search.x, search.value, search.grad
        move = x - state.x
        pair = Pair.of(move, grad - state.grad)
        certificate = certificate_at(value, grad, x, state.mu, box)
        lower, support = _better(state, certificate.lower, x)
        return QuasiNewtonState(
            x=x,
            gap=torch.minimum(certificate.gap, gap_above(lower, value, x.dtype)),
            lower=lower,
            support=support,
            decrement=slope / 2,
            stationarity=rms(box.gradient_mapping(x, grad, torch.ones_like(value))),
            step_size=rms(move) / rms(x).clamp_min(1e-30),
            evaluations=evaluations + search.trials,
            violated=search.violated,
            value=value,
            grad=grad,
            mu=state.mu,
            constant=search.constant,
            trust=state.trust,
            iteration=state.iteration + 1,
            pairs=(*state.pairs, pair)[-self.memory :],
            preconditioner=preconditioner,
            scale=scale,
        )

    def sharpened(
        self,
        objective: Objective,
        state: QuasiNewtonState,
        box: Box,
        gap_tol: float,
        wanted: Tensor,
    ) -> QuasiNewtonState:
        """With the lower bound at the affine combination of the last iterates that has the smallest
        combined gradient (`extrapolation`), where that is expected to end the solve.

        The bound is a theorem at any point (`certificates.lower_bound`), once value and gradient are
        evaluated there; what the combination promises only decides whether they are.
        """
        wanted = wanted & (state.gap <= _IN_SIGHT * gap_tol * state.value)
        if len(state.pairs) < 2 or not wanted.any():
            return state
        moves, changes = zip(*((pair.move, pair.change) for pair in state.pairs), strict=True)
        free = box.free_variables(state.x, state.grad)
        there = reduced_rank_extrapolation(state.x, state.grad, moves, changes, free)
        z = box.project(there.x)
        expected = box.furthest_descent(z, there.grad, state.mu) - there.rise
        wanted = wanted & (state.trust * expected <= gap_tol * (state.value - expected))
        if not wanted.any():
            return state
        value, grad = evaluate_some(objective, z, wanted)
        bound = torch.where(wanted, lower_bound(value, grad, z, state.mu, box), state.lower)
        lower, support = _better(state, bound, z)
        gap = torch.where(wanted, gap_above(lower, state.value, z.dtype), state.gap)
        trust = (state.value - bound) / expected.clamp_min(1e-300)
        return replace(
            state,
            gap=torch.minimum(state.gap, gap),
            lower=lower,
            support=support,
            evaluations=state.evaluations + wanted,
            trust=torch.where(wanted & trust.isfinite(), trust, state.trust),
        )


def _better(state: QuasiNewtonState, bound: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """The better lower bound, the state's or one at `z`, and where it comes from."""
    better = bound > state.lower
    assert state.support is not None
    return (
        torch.where(better, bound, state.lower),
        torch.where(per_image(better, z), z, state.support),
    )


def _cost(curvature: Curvature | None) -> float:
    return 0.0 if curvature is None else curvature.evaluations
