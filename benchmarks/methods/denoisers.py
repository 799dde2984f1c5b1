"""Denoisers of other packages: no convexity that is used here, no certificate."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.harness.outcome import Result
from benchmarks.methods.models import Unavailable
from benchmarks.problems.table import Measurement

TGV_ITERATIONS, TGV_TOLERANCE = 1500, 1e-6
# deepinv regularizes with a tenth of the weight it is given
TGV_SCALE = 10.0


def block_matching(measurement: Measurement, weight: float) -> Result:
    """BM3D of the package `bm3d`, for colour images its version of them. (Its deblurring, in 4.0.3, does
    not run.)

    :raises Unavailable: the package is not installed.
    """
    try:
        import bm3d
    except ImportError as error:
        raise Unavailable("the package bm3d is not installed; pip install bm3d") from error
    y = measurement.y[0].double().permute(1, 2, 0).cpu().numpy()
    denoise = bm3d.bm3d_rgb if y.shape[-1] == 3 else bm3d.bm3d
    return _result(measurement, denoise(y, measurement.sigma))


def nonlocal_means(measurement: Measurement, weight: float) -> Result:
    """scikit-image's, fast: patches of 5 x 5 pixels within 6 pixels, `h = 0.8 weight sigma`."""
    from skimage.restoration import denoise_nl_means

    restored = denoise_nl_means(
        measurement.y[0].double().permute(1, 2, 0).cpu().numpy(),
        patch_size=5,
        patch_distance=6,
        h=0.8 * weight * measurement.sigma,
        sigma=measurement.sigma,
        fast_mode=True,
        channel_axis=-1,
    )
    return _result(measurement, restored)


def _result(measurement: Measurement, restored: Any) -> Result:
    """A numpy image `(H, W)` or `(H, W, C)` in the shape of the measurements."""
    planes = torch.from_numpy(restored).reshape(*measurement.y.shape[2:], -1).permute(2, 0, 1)
    return Result(planes[None].to(measurement.y))


def total_generalized_variation(measurement: Measurement, weight: float) -> Result:
    """Second order, by deepinv's `TGVDenoiser` in a fresh object."""
    from deepinv.models import TGVDenoiser

    denoiser = TGVDenoiser(n_it_max=TGV_ITERATIONS, crit=TGV_TOLERANCE)
    return Result(denoiser(measurement.y, ths=TGV_SCALE * weight * measurement.sigma))
