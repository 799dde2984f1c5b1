"""What a solver is: hyper-parameters, and a step from one state to the next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from torch import Tensor

from .box import Box
from .objective import Objective


@dataclass(frozen=True)
class State:
    """Progress of a solve. Every tensor has the batch as its first dimension, or is the same for all images.

    Whatever a solver adds is taken apart image by image when some have stopped (`solvers.batches`).

    :ivar x: the current answer, feasible.
    :ivar gap: proven bound on `F(x) - F*`, `(B,)`, `inf` when there is none.
    :ivar lower: proven lower bound on `F*`, `(B,)`.
    :ivar stationarity: rms of the gradient mapping, `(B,)`.
    :ivar step_size: rms of the last change over rms of `x`, `(B,)`.
    :ivar evaluations: gradient evaluations so far, `(B,)`; a value alone counts one half.
    :ivar violated: an evaluation contradicted the stated constants, `(B,)` booleans.
    :ivar value: `F(x)`, `(B,)`, or `None` of solvers that do not evaluate their iterates.
    :ivar support: point whose value and gradient give `lower` (`certificates.lower_bound`), of the shape of
        `x`, or `None` of solvers that do not keep it.
    :ivar decrement: estimate of `F(x) - F*`, half the squared Newton decrement with the solver's matrix,
        `(B,)`, or `None` of solvers without one. Nothing is proven of it.
    """

    x: Tensor
    gap: Tensor
    lower: Tensor
    stationarity: Tensor
    step_size: Tensor
    evaluations: Tensor
    violated: Tensor
    value: Tensor | None
    support: Tensor | None = field(default=None, kw_only=True)
    decrement: Tensor | None = field(default=None, kw_only=True)


S = TypeVar("S", bound=State)


class Solver(ABC, Generic[S]):
    """Hyper-parameters of a method; progress lives in the state, control in the loop."""

    @property
    def description(self) -> str:
        """The method and where its steps come from, in a line; of other solvers their name alone."""
        return type(self).__name__

    @abstractmethod
    def init(self, objective: Objective, x: Tensor, box: Box) -> S:
        """The state at the feasible start `x`.

        :raises ValueError: the objective lacks what the method needs.
        """

    @abstractmethod
    def step(self, objective: Objective, state: S, box: Box) -> S:
        """One iteration of every image."""

    def sharpened(
        self, objective: Objective, state: S, box: Box, gap_tol: float, wanted: Tensor
    ) -> S:
        """The state with a better lower bound for the images `wanted`, `(B,)` booleans, where the method
        knows one that would end the solve and is worth its evaluations."""
        return state
