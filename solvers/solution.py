"""What a solve returns, and what it raises."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from .certificates import Certificate


class Status(IntEnum):
    """How an image's solve ended."""

    RUNNING = 0
    CONVERGED = 1
    MAX_ITERATIONS = 2
    TIME_LIMIT = 3
    STAGNATED = 4
    NOT_FINITE = 5
    BOUND_VIOLATED = 6

    @property
    def failed(self) -> bool:
        """Whether the result cannot be used."""
        return self in (Status.NOT_FINITE, Status.BOUND_VIOLATED)

    @property
    def message(self) -> str:
        """What happened, what it usually means and what to change."""
        return _MESSAGES[self]


_MESSAGES = {
    Status.RUNNING: "the solver has not stopped",
    Status.CONVERGED: "the tolerance asked for was reached",
    Status.MAX_ITERATIONS: "the iteration limit was reached before the tolerance; the certificate says "
    "how good the result is. Raise max_iter, or loosen the tolerance",
    Status.TIME_LIMIT: "the time limit was reached before the tolerance; the certificate says how good "
    "the result is. Raise time_limit, or loosen the tolerance",
    Status.STAGNATED: "the iterates no longer change at this floating-point precision, and the tolerance "
    "is not reached. Loosen it, or solve in float64",
    Status.NOT_FINITE: "the objective or its gradient became NaN or infinite. Check the measurements and "
    "the model's weights for non-finite numbers; the last finite iterate is returned",
    Status.BOUND_VIOLATED: "two evaluations contradict what is stated of the objective. Either its gradient "
    "is not that of its value (often an adjoint that is not the adjoint), or it is not convex, or, with "
    "fixed steps, the Lipschitz constant is too small: correct it, or use backtracking",
}


class SolverError(RuntimeError):
    """A solve failed. `solution` holds what was reached."""

    def __init__(self, solution: Solution) -> None:
        failures = sorted({int(code) for code in solution.status if Status(int(code)).failed})
        text = "; ".join(
            f"{Status(code).name} for image(s) "
            f"{torch.nonzero(solution.status == code).flatten().tolist()}: {Status(code).message}"
            for code in failures
        )
        super().__init__(text)
        self.solution = solution


@dataclass(frozen=True, repr=False)
class Solution:
    """Result of `minimise`; everything but `x` is one number per image, `(B,)`.

    :ivar x: the images, `(B, ...)`.
    :ivar status: `Status` codes.
    :ivar iterations: steps taken.
    :ivar evaluations: gradient evaluations (a value-only evaluation counts as half).
    :ivar certificate: bounds on the distance to the minimum, to rounding of the dtype used.
    :ivar stationarity: norm of the gradient (with a box, of the gradient mapping), per pixel (rms).
    :ivar seconds: wall time of the whole batch.
    :ivar support: where the certificate's lower bound comes from (`certificates.certify`), of the shape of
        `x`, or `None` of solvers that do not keep it.
    """

    x: Tensor
    status: Tensor
    iterations: Tensor
    evaluations: Tensor
    certificate: Certificate
    stationarity: Tensor
    seconds: float
    support: Tensor | None = None

    @property
    def converged(self) -> bool:
        """Whether every image reached the tolerance; `status` has them one by one."""
        return bool((self.status == Status.CONVERGED).all())

    def __repr__(self) -> str:
        """How it ended, and the largest numbers of the batch."""
        codes = Counter(Status(int(code)).name for code in self.status)
        ends = ", ".join(f"{count} {name}" for name, count in codes.items())
        return (
            f"Solution({len(self.status)} image(s): {ends}; {int(self.iterations.max())} iterations, "
            f"{float(self.evaluations.max()):g} evaluations, {self.seconds:.2g} s; {self.certificate!r})"
        )
