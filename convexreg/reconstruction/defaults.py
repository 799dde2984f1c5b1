"""What is done where nothing else is asked for: one table, for everybody.

Which model is used is said in `models.files`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ANCHOR = 1e-3
"""Weight of an anchor at the starting image where nothing else makes a problem strongly convex; it changes a
PSNR by hundredths of a decibel."""

GOOD_ANCHOR = 0.03
"""Weight of the anchor at a good first solution: of the same effect, and bounds are as much tighter. Another
starting image moves that solution, and the result, by an rms of some thousandths."""

MAX_ITER = 1000
"""Iterations of a solve; usual ones take some tens."""


@dataclass(frozen=True)
class Tolerance:
    """When a solve may stop: the certified relative gap, the rms of the gradient, or either.

    With neither given it is the first of the others that can be certified.

    :ivar strongly_convex_gap: where the data term alone makes the problem strongly convex (denoising).
    :ivar gap: where the anchor or a bounded box does.
    :ivar uncertified: rms of the gradient where nothing does.
    :ivar decrement: where the data term alone does not make the problem strongly convex: stop, too, at this
        relative gap as the solver estimates it, if it does.
    """

    gap_tol: float | None = None
    gtol: float | None = None
    strongly_convex_gap: float = 1e-3
    gap: float = 1e-2
    uncertified: float = 1e-5
    decrement: float | None = None


Accuracy = Literal["fast", "default", "exact"]

ACCURACIES: dict[Accuracy, Tolerance] = {
    "fast": Tolerance(strongly_convex_gap=1e-2, gap=1e-1, uncertified=1e-4),
    "default": Tolerance(),
    "exact": Tolerance(strongly_convex_gap=1e-4, gap=1e-3, uncertified=1e-6),
}
"""Where the picture no longer changes (`benchmarks run defaults`): against the exact minimiser the default
costs about a hundredth of a decibel, the fast one a few hundredths."""

GOOD_START: dict[Accuracy, Tolerance] = {
    "fast": Tolerance(gap=1e-2, decrement=2e-4),
    "default": Tolerance(gap=3e-3, decrement=1e-4),
    "exact": Tolerance(gap=3e-4, decrement=1e-5),
}
"""Of the solution that the anchor is centred at: a few times the decrement is the true gap."""

FIRST_ROUND = Tolerance(strongly_convex_gap=3e-2, gap=3e-2, uncertified=1e-4, decrement=1e-4)
"""Of every round but the last: its reconstruction only has to show where the structure is."""
