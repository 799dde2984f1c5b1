"""What a reconstruction method returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from benchmarks.harness.outcome import Outcome


@dataclass(frozen=True)
class Result:
    """An image and how it was reached.

    :ivar evaluations: gradient evaluations, or whatever the method counts; NaN for none.
    :ivar certified: proven relative gap of the objective; NaN where nothing is claimed.
    """

    image: Tensor
    outcome: Outcome = Outcome.FINISHED
    evaluations: float = float("nan")
    certified: float = float("nan")
