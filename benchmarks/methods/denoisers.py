"""Denoisers of other packages: no convexity that is used here, no certificate."""

from __future__ import annotations

import torch

from benchmarks.harness.outcome import Result
from benchmarks.methods.models import Unavailable
from benchmarks.problems.table import Measurement

TGV_ITERATIONS, TGV_TOLERANCE = 1500, 1e-6
# deepinv regularizes with a tenth of the weight it is given
TGV_SCALE = 10.0


def block_matching(measurement: Measurement, weight: float) -> Result:
    """BM3D of the package `bm3d`. (Its deblurring, in 4.0.3, does not run.)

    :raises Unavailable: the package is not installed.
    """
    try:
        import bm3d
    except ImportError as error:
        raise Unavailable("the package bm3d is not installed; pip install bm3d") from error
    y = measurement.y[0, 0].double().cpu().numpy()
    restored = torch.from_numpy(bm3d.bm3d(y, measurement.sigma))
    return Result(restored.to(measurement.y)[None, None])


def total_generalized_variation(measurement: Measurement, weight: float) -> Result:
    """Second order, by deepinv's `TGVDenoiser` in a fresh object."""
    from deepinv.models import TGVDenoiser

    denoiser = TGVDenoiser(n_it_max=TGV_ITERATIONS, crit=TGV_TOLERANCE)
    return Result(denoiser(measurement.y, ths=TGV_SCALE * weight * measurement.sigma))
