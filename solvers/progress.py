"""What is told of a solve on its way."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .certificates import relative_gap
from .solver import State


@dataclass(frozen=True)
class Progress:
    """What a callback sees after every iteration: the whole batch in its order, nothing of the solver's own.

    Images `(B, ...)`, whether they go on, and numbers `(B,)` as in `State`. Safe and cheap to keep: memory
    for one batch of images.

    :ivar done: share of the way to the tolerance, on a logarithmic scale, from the first iteration on that
        has a bound; one for images that have stopped.
    """

    iteration: int
    x: Tensor
    value: Tensor | None
    relative_gap: Tensor
    gap: Tensor
    stationarity: Tensor
    step_size: Tensor
    evaluations: Tensor
    active: Tensor
    done: Tensor
    seconds: float

    @classmethod
    def of(
        cls, iteration: int, state: State, active: Tensor, done: Tensor, seconds: float
    ) -> Progress:
        """That of a batch in a state."""
        return cls(
            iteration,
            state.x,
            state.value,
            relative_gap(state.gap, state.lower),
            state.gap,
            state.stationarity,
            state.step_size,
            state.evaluations,
            active,
            done,
            seconds,
        )
