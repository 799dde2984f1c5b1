"""BM3D, the classical reference: no regularizer, no convexity, no certificate."""

from __future__ import annotations

import torch

from benchmarks.methods.models import Unavailable
from benchmarks.methods.result import Result
from benchmarks.problems.table import Measurement


def reconstruct(measurement: Measurement, weight: float) -> Result:
    """The `bm3d` package's denoising. (Its deblurring, in 4.0.3, does not run.)

    :raises Unavailable: the package is not installed.
    """
    try:
        import bm3d
    except ImportError as error:
        raise Unavailable("the package bm3d is not installed; pip install bm3d") from error
    y = measurement.y[0, 0].double().cpu().numpy()
    restored = torch.from_numpy(bm3d.bm3d(y, measurement.sigma))
    return Result(restored.to(measurement.y)[None, None])
