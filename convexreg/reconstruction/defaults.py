"""What is done where nothing else is asked for: one table, for everybody.

Which model is used is said in `models.files`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ANCHOR = 1e-3
"""Weight of the anchor where nothing else makes a problem strongly convex; it changes a PSNR by
hundredths of a decibel."""

BLUR_WEIGHT = 0.25
"""Of the regularizer for blurs: tuning for three kernels, two noise levels and three models chose 0.13 to
0.32 (`benchmarks/results/deblurring`)."""

SUPERRESOLUTION_WEIGHT = 0.3
"""The same for super-resolution: for factors of two and three and noise of 0.005 and 0.02, tuning on four
crops of Set12 chose 0.2 to 0.45, and this is within 0.1 dB of each."""

MAX_ITER = 1000
"""Iterations of a solve; usual ones take some tens."""


@dataclass(frozen=True)
class Tolerance:
    """When a solve may stop: the certified relative gap, the rms of the gradient, or either.

    With neither given it is the first of the others that can be certified.

    :ivar strongly_convex_gap: where the data term alone makes the problem strongly convex (denoising).
    :ivar gap: where the anchor or a bounded box does.
    :ivar uncertified: rms of the gradient where nothing does.
    """

    gap_tol: float | None = None
    gtol: float | None = None
    strongly_convex_gap: float = 1e-3
    gap: float = 1e-2
    uncertified: float = 1e-5


Accuracy = Literal["fast", "default", "exact"]

ACCURACIES: dict[Accuracy, Tolerance] = {
    "fast": Tolerance(strongly_convex_gap=1e-2, gap=1e-1, uncertified=1e-4),
    "default": Tolerance(),
    "exact": Tolerance(strongly_convex_gap=1e-4, gap=1e-3, uncertified=1e-6),
}
"""Where the picture no longer changes (`benchmarks run defaults`): against the exact minimiser the default
costs about a hundredth of a decibel, the fast one a few hundredths."""

FIRST_ROUND = Tolerance(strongly_convex_gap=3e-2, gap=3e-2, uncertified=1e-4)
"""Of every round but the last: its reconstruction only has to show where the structure is."""
