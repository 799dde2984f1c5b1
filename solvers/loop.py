"""The one loop: it stops, checks and reports; solvers only step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from .batch import per_image
from .batches import take
from .box import Box
from .certificates import Certificate, relative_gap
from .objective import Objective
from .precision import without_autocast
from .progress import Progress
from .solution import Solution, SolverError, Status
from .solver import S, Solver, State


@without_autocast
@torch.no_grad()
def minimise(
    objective: Objective,
    x0: Tensor,
    solver: Solver[S],
    *,
    box: Box | None = None,
    gap_tol: float | None = None,
    gtol: float | None = None,
    decrement_tol: float | None = None,
    max_iter: int = 1000,
    time_limit: float | None = None,
    callback: Callable[[Progress], None] | None = None,
    throw: bool = True,
) -> Solution:
    """Minimise `objective` from `x0`, every image by its own rules.

    An image stops, and no longer changes, as soon as its certified relative gap is at most `gap_tol`,
    the rms of its gradient mapping at most `gtol`, or the relative gap that the solver estimates
    (`State.decrement`, if it does) at most `decrement_tol`. Where the objective can be taken apart
    (`Objective.subset`) images that have stopped are not evaluated any more.

    :param x0: start, `(B, ...)`; projected on the box.
    :param callback: called with a `Progress` after every iteration.
    :param throw: raise when an image fails; otherwise its status says so.
    :raises ValueError: no tolerance given, `gap_tol` for a problem without a certificate, numbers that
        make no sense, or a gradient that is not that of the value (`Objective.check`).
    :raises SolverError: a value became NaN or infinite, or contradicted the stated constants.
    """
    started = time.perf_counter()
    box = box or Box()
    _check_request(objective, x0, box, gap_tol, gtol, decrement_tol, max_iter, time_limit)
    box = box.representable(x0.dtype)
    start = box.project(x0)
    objective.check(start)
    state, whole, divisible = solver.init(objective, start, box), objective, True
    batch, device = x0.shape[0], x0.device
    reached = _common(state)
    present = torch.arange(batch, device=device, dtype=torch.long)  # images that `state` is about
    status = torch.full((batch,), int(Status.RUNNING), device=device, dtype=torch.long)
    begun = torch.full_like(reached.gap, float("inf"))
    iterations = torch.zeros_like(status)
    for iteration in range(1, max_iter + 1):
        codes = status[present]
        active = codes == Status.RUNNING
        proposed = solver.step(objective, state, box)
        finite = _finite(proposed)
        state = _advance(active & finite, proposed, state)
        if gap_tol is not None:
            wanted = active & finite & ~_within(state, gap_tol, gtol, decrement_tol)
            state = solver.sharpened(objective, state, box, gap_tol, wanted)
        late = time_limit is not None and time.perf_counter() - started > time_limit
        for code, where in (
            (Status.NOT_FINITE, ~finite),
            (Status.BOUND_VIOLATED, state.violated),
            (Status.CONVERGED, _within(state, gap_tol, gtol, decrement_tol)),
            (Status.STAGNATED, state.step_size <= torch.finfo(x0.dtype).eps / 8),
            (Status.TIME_LIMIT, torch.full_like(active, late)),
        ):
            codes = codes.masked_fill((codes == Status.RUNNING) & where, int(code))
        status[present], iterations[present] = codes, iterations[present] + active.long()
        reached = _put(reached, present, state)
        if callback is not None:
            left = _way_left(reached, gap_tol, gtol, decrement_tol)
            begun = torch.where(begun.isfinite(), begun, left)
            running, seconds = status == Status.RUNNING, time.perf_counter() - started
            done = torch.where(running, (1 - left / begun).nan_to_num(0.0).clamp(0, 1), 1.0)
            callback(Progress.of(iteration, reached, running, done, seconds))
        going = codes == Status.RUNNING
        count = int(going.sum())
        if not count:
            break
        if count < len(present) and divisible:
            smaller = whole.subset(present[going])
            divisible = smaller is not None
            if smaller is not None:
                state = take(state, going.nonzero().flatten(), len(present))
                objective, present = smaller, present[going]
    status[status == Status.RUNNING] = int(Status.MAX_ITERATIONS)
    mu = whole.strong_convexity(x0).to(reached.gap).expand(batch)
    distance = torch.where(mu > 0, (2 * reached.gap / mu).sqrt(), float("inf"))
    solution = Solution(
        reached.x,
        status,
        iterations,
        reached.evaluations,
        Certificate(reached.gap, reached.lower, distance, x0.dtype),
        reached.stationarity,
        time.perf_counter() - started,
        reached.support,
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
    decrement_tol: float | None,
    max_iter: int,
    time_limit: float | None,
) -> None:
    if gap_tol is None and gtol is None:
        raise ValueError("give gap_tol (certified relative gap) or gtol (rms of the gradient)")
    for name, number in (
        ("gap_tol", gap_tol),
        ("gtol", gtol),
        ("decrement_tol", decrement_tol),
        ("max_iter", max_iter),
    ):
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


def _finite(state: State) -> Tensor:
    """Images of which everything reported is a number; gaps may be infinite."""
    finite = torch.isfinite(state.x).flatten(1).all(1) & torch.isfinite(state.stationarity)
    return finite & ~torch.isnan(state.gap) & (state.lower < float("inf"))


def _within(
    state: State, gap_tol: float | None, gtol: float | None, decrement_tol: float | None
) -> Tensor:
    """Images that have reached a tolerance."""
    within = torch.zeros_like(state.violated)
    if gap_tol is not None:
        within |= relative_gap(state.gap, state.lower) <= gap_tol
    if gtol is not None:
        within |= state.stationarity <= gtol
    if decrement_tol is not None and state.decrement is not None and state.value is not None:
        within |= state.decrement <= decrement_tol * state.value
    return within


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


def _common(state: State) -> State:
    """Without what the solver has added."""
    return State(**{field.name: getattr(state, field.name) for field in fields(State)})


def _put(whole: State, present: Tensor, state: State) -> State:
    """The state of the whole batch, with news of the images `present`."""
    if len(present) == len(whole.x):
        return _common(state)

    def put(old: Tensor | None, new: Tensor | None) -> Tensor | None:
        return None if old is None or new is None else old.index_copy(0, present, new)

    news: dict[str, Any] = {
        field.name: put(getattr(whole, field.name), getattr(state, field.name))
        for field in fields(State)
    }
    return State(**news)


def _way_left(
    state: State, gap_tol: float | None, gtol: float | None, decrement_tol: float | None
) -> Tensor:
    """How many times e what decides when to stop is too large, `(B,)`."""
    ways = []
    if gap_tol is not None:
        ways.append(relative_gap(state.gap, state.lower) / gap_tol)
    if gtol is not None:
        ways.append(state.stationarity / gtol)
    if decrement_tol is not None and state.decrement is not None and state.value is not None:
        estimate = torch.where(state.value > 0, state.decrement / state.value, float("inf"))
        ways.append(estimate / decrement_tol)
    return torch.stack(ways).amin(0).log().clamp_min(0)
