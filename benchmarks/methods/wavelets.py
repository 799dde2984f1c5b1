"""Sparsity in an orthonormal wavelet basis, `|A x - y|^2 / 2 + weight sigma |details(x)|_1`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.outcome import Result
from benchmarks.problems.table import Measurement

WAVELET, LEVELS = "db4", 3
MAX_ITERATIONS = 300


def soft_threshold(x: Tensor, threshold: float) -> Tensor:
    """The prox of the details' l1 norm: exact, for the transform is orthonormal.

    Images are extended by reflection to a multiple of `2^levels` and the transform is periodic.
    """
    import numpy
    import pywt

    height, width = x.shape[-2:]
    levels = min(LEVELS, pywt.dwt_max_level(min(height, width), WAVELET))
    step = 2**levels
    pad = (0, -width % step, 0, -height % step)
    planes = torch.nn.functional.pad(x, pad, mode="reflect").double().cpu().numpy()
    approximation, *details = pywt.wavedec2(planes, WAVELET, mode="periodization", level=levels)
    shrunk = [
        tuple(numpy.sign(band) * numpy.maximum(numpy.abs(band) - threshold, 0) for band in level)
        for level in details
    ]
    restored = pywt.waverec2([approximation, *shrunk], WAVELET, mode="periodization")
    return torch.from_numpy(restored).to(x)[..., :height, :width]


def reconstruct(measurement: Measurement, weight: float) -> Result:
    """Denoising: one threshold. Otherwise deepinv's `FISTA` with this prox and the step `1 / |A|^2`."""
    threshold = weight * measurement.sigma
    if measurement.denoising:
        return Result(soft_threshold(measurement.y, threshold))
    from deepinv.optim import FISTA, L2

    bound = float(measurement.data_term().lipschitz(measurement.naive))
    model = FISTA(
        data_fidelity=L2(),
        prior=_prior(),
        lambda_reg=threshold * measurement.sigma,
        stepsize=1 / bound,
        max_iter=MAX_ITERATIONS,
        early_stop=True,
        thres_conv=1e-6,
    )
    start = (measurement.naive, measurement.naive)
    return Result(model(measurement.y, measurement.physics, init=start))


def _prior() -> Any:
    from deepinv.optim import Prior

    class Details(Prior):
        """`|details(x)|_1`; its value is not needed."""

        def __init__(self) -> None:
            super().__init__()
            self.explicit_prior = False

        def prox(self, x: Tensor, *args: Any, gamma: float = 1.0, **kwargs: Any) -> Tensor:
            return soft_threshold(x, float(gamma))

    return Details()
