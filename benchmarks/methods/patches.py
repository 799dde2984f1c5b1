"""CPR, the published convex patch regularizer: image and codes are found together."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from benchmarks.harness.options import Options
from benchmarks.harness.outcome import Result, outcome_of
from benchmarks.methods.models import Unavailable
from benchmarks.problems.table import Measurement
from convexreg.models.published import load_published
from convexreg.reconstruction.latent import denoise_with_codes

LEVELS = (5, 25)
"""Of 255, those that there are weights for."""

_load = cache(load_published)


def reconstruct(options: Options, measurement: Measurement, weight: float) -> Result:
    """To a certified relative gap of 1e-3, with the weights of the noise level.

    :raises Unavailable: there are none.
    """
    level = round(255 * measurement.sigma, 3)
    if level not in LEVELS:
        raise Unavailable(f"trained for noise levels {LEVELS[0]}/255 and {LEVELS[1]}/255 only")
    path = Path(options.weights or ".") / f"cpr_sigma{level:g}.safetensors"
    if options.weights is None or not path.is_file():
        raise Unavailable(f"give --weights FOLDER with {path.name}")
    regularizer = _load(path).to(measurement.y.device)
    solved = denoise_with_codes(
        regularizer, measurement.y, lam=weight, time_limit=options.time_limit
    )
    return Result(
        solved.x,
        outcome_of(int(solved.status)),
        evaluations=float(solved.evaluations),
        certified=float(solved.certificate.relative_gap),
    )
