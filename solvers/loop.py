"""The one loop: it stops, checks and reports; solvers only step."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from .batch import per_image
from .box import Box
from .certificates import Certificate
from .objective import Objective
from .solution import Solution, SolverError, Status


@dataclass(frozen=True)
class State:
    """Progress of a solve. Every tensor has the batch as its first dimension.

    :ivar x: the current answer, feasible.
    :ivar gap: proven bound on `F(x) - F*`, `(B,)`, `inf` when there is none.
    :ivar lower: proven lower bound on `F*`, `(B,)`.
    :ivar stationarity: rms of the gradient mapping, `(B,)`.
    :ivar step_size: rms of the last change over rms of `x`, `(B,)`.
    :ivar evaluations: gradient evaluations so far, `(B,)`; a value alone counts one half.
    :ivar violated: an evaluation contradicted the stated constants, `(B,)` booleans.
    """

    x: Tensor
    gap: Tensor
    lower: Tensor
    stationarity: Tensor
    step_size: Tensor
    evaluations: Tensor
    violated: Tensor


S = TypeVar("S", bound=State)


class Solver(ABC, Generic[S]):
    """Hyper-parameters of a method; progress lives in the state, control in the loop."""

    @abstractmethod
    def init(self, objective: Objective, x: Tensor, box: Box) -> S:
        """The state at the feasible start `x`.

        :raises ValueError: the objective lacks what the method needs.
        """

    @abstractmethod
    def step(self, objective: Objective, state: S, box: Box) -> S:
        """One iteration of every image."""


@dataclass(frozen=True)
class Progress:
    """What a callback sees after every iteration; per-image tensors `(B,)`."""

    iteration: int
    state: State
    relative_gap: Tensor
    active: Tensor
    seconds: float


@torch.no_grad()
def minimise(
    objective: Objective,
    x0: Tensor,
    solver: Solver[S],
    *,
    box: Box | None = None,
    gap_tol: float | None = None,
    gtol: float | None = None,
    max_iter: int = 1000,
    time_limit: float | None = None,
    callback: Callable[[Progress], None] | None = None,
    throw: bool = True,
) -> Solution:
    """Minimise `objective` from `x0`, every image by its own rules.

    An image stops, and no longer changes, as soon as its certified relative gap is at most `gap_tol`
    or the rms of its gradient mapping at most `gtol`.

    :param x0: start, `(B, ...)`; projected on the box.
    :param callback: called with a `Progress` after every iteration.
    :param throw: raise when an image fails; otherwise its status says so.
    :raises ValueError: no tolerance given, `gap_tol` for a problem without a certificate, or numbers that
        make no sense.
    :raises SolverError: a value became NaN or infinite, or contradicted the stated constants.
    """
    started = time.perf_counter()
    box = box or Box()
    _check_request(objective, x0, box, gap_tol, gtol, max_iter, time_limit)
    box = box.representable(x0.dtype)
    state = solver.init(objective, box.project(x0), box)
    batch = x0.shape[0]
    status = torch.full((batch,), int(Status.RUNNING), device=x0.device)
    iterations = torch.zeros(batch, dtype=torch.long, device=x0.device)

    def settle(code: Status, where: Tensor) -> None:
        status[(status == Status.RUNNING) & where] = int(code)

    everywhere = torch.ones(batch, dtype=torch.bool, device=x0.device)
    for iteration in range(1, max_iter + 1):
        active = status == Status.RUNNING
        proposed = solver.step(objective, state, box)
        finite = torch.isfinite(proposed.x).reshape(batch, -1).all(1)
        finite &= ~torch.isnan(proposed.gap) & torch.isfinite(proposed.stationarity)
        finite &= proposed.lower < float("inf")
        settle(Status.NOT_FINITE, ~finite)
        state = _advance(active & finite, proposed, state)
        iterations += active.long()
        relative = _relative_gap(state)
        reached = torch.zeros_like(everywhere)
        if gap_tol is not None:
            reached |= relative <= gap_tol
        if gtol is not None:
            reached |= state.stationarity <= gtol
        settle(Status.BOUND_VIOLATED, state.violated)
        settle(Status.CONVERGED, reached)
        settle(Status.STAGNATED, state.step_size <= torch.finfo(x0.dtype).eps / 8)
        if time_limit is not None and time.perf_counter() - started > time_limit:
            settle(Status.TIME_LIMIT, everywhere)
        if callback is not None:
            seconds = time.perf_counter() - started
            callback(Progress(iteration, state, relative, status == Status.RUNNING, seconds))
        if not (status == Status.RUNNING).any():
            break
    settle(Status.MAX_ITERATIONS, everywhere)
    mu = objective.strong_convexity(x0).double().expand(batch)
    distance = torch.where(mu > 0, (2 * state.gap / mu).sqrt(), float("inf"))
    solution = Solution(
        state.x,
        status,
        iterations,
        state.evaluations,
        Certificate(state.gap, state.lower, distance),
        state.stationarity,
        time.perf_counter() - started,
    )
    if throw and any(Status(int(code)).failed for code in status):
        raise SolverError(solution)
    return solution


def _check_request(
    objective: Objective,
    x0: Tensor,
    box: Box,
    gap_tol: float | None,
    gtol: float | None,
    max_iter: int,
    time_limit: float | None,
) -> None:
    if gap_tol is None and gtol is None:
        raise ValueError("give gap_tol (certified relative gap) or gtol (rms of the gradient)")
    for name, number in (("gap_tol", gap_tol), ("gtol", gtol), ("max_iter", max_iter)):
        if number is not None and not number > 0:
            raise ValueError(f"{name} must be positive, got {number}")
    if time_limit is not None and not time_limit >= 0:
        raise ValueError(f"time_limit must be seconds, zero or more, got {time_limit}")
    if not x0.is_floating_point() or not x0.numel():
        raise ValueError(
            f"the start must be a floating-point tensor of at least one image, got {x0.dtype} "
            f"{tuple(x0.shape)}"
        )
    mu = objective.strong_convexity(x0)
    provable = bool((mu >= 0).all()) if box.bounded else bool((mu > 0).all())
    if gap_tol is not None and gtol is None and not provable:
        raise ValueError(
            "gap_tol needs a certificate, and this objective has none: it is not known to be strongly "
            "convex, or convex within a bounded box. Give a bounded box to a convex one, or stop on gtol"
        )


def _relative_gap(state: State) -> Tensor:
    return Certificate(state.gap, state.lower, state.gap).relative_gap


def _advance(active: Tensor, new: S, old: S) -> S:
    """The new state for active images, the old one for the others."""
    if bool(active.all()):
        return new
    merged = {
        field.name: torch.where(
            per_image(active, getattr(new, field.name)),
            getattr(new, field.name),
            getattr(old, field.name),
        )
        for field in fields(new)
        if isinstance(getattr(new, field.name), Tensor)
    }
    return replace(new, **merged)
