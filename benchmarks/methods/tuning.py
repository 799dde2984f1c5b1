"""Tuning one positive number, in the same way and with the same budget for every method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# Each factor is the square root of the one before, down to 1.05: factor 4 finds the order of
# magnitude, 1.05 is finer than any PSNR difference that is reported.
FACTORS = (4.0, 2.0, 1.41, 1.19, 1.09, 1.05)
BUDGET = 24


@dataclass(frozen=True)
class Trial:
    """One value that was tried, with its score."""

    weight: float
    score: float


def coarse_to_fine(
    score: Callable[[float], float],
    start: float,
    *,
    factors: tuple[float, ...] = FACTORS,
    budget: int = BUDGET,
) -> list[Trial]:
    """Maximise `score` over a multiplicative grid; returns every trial, the best one first.

    For each factor the neighbours `w f` and `w / f` of the best weight are tried, again as long as
    one of them is better; then comes the next smaller factor (Goujon et al. 2023, section VI).
    """
    trials = [Trial(start, score(start))]

    def best() -> Trial:
        return max(trials, key=lambda trial: trial.score)

    for factor in factors:
        improved = True
        while improved and len(trials) < budget:
            centre = best()
            for weight in (centre.weight * factor, centre.weight / factor):
                known = any(abs(trial.weight / weight - 1) < 1e-6 for trial in trials)
                if not known and len(trials) < budget:
                    trials.append(Trial(weight, score(weight)))
            improved = best().weight != centre.weight
    return sorted(trials, key=lambda trial: -trial.score)
