"""Second-order total generalized variation, denoising only."""

from __future__ import annotations

from benchmarks.methods.result import Result
from benchmarks.problems.table import Measurement

MAX_ITERATIONS, TOLERANCE = 1500, 1e-6
# deepinv regularizes with a tenth of the weight it is given
DEEPINV_SCALE = 10.0


def reconstruct(measurement: Measurement, weight: float) -> Result:
    """deepinv's `TGVDenoiser`, in a fresh object."""
    from deepinv.models import TGVDenoiser

    denoiser = TGVDenoiser(n_it_max=MAX_ITERATIONS, crit=TOLERANCE)
    return Result(denoiser(measurement.y, ths=DEEPINV_SCALE * weight * measurement.sigma))
