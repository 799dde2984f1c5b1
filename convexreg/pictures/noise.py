"""How strong the noise of a picture is."""

from __future__ import annotations

import warnings

import numpy
from torch import Tensor


def estimate_sigma(pixels: Tensor) -> float:
    """Noise level of an image `(C, H, W)` (Donoho & Johnstone 1994, scikit-image's estimator)."""
    from skimage.restoration import estimate_sigma as estimator

    with numpy.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of empty or constant images
        sigma = float(estimator(pixels.numpy(), channel_axis=0, average_sigmas=True))
    if not sigma > 1e-6:  # the rounding of a constant image
        raise ValueError("the noise level cannot be estimated from this image; give the level")
    return sigma
