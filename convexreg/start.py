"""Where reconstructions start: close to the answer, at the price of a few filters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from solvers.objective import inner, per_image


def starting_image(y: Tensor, physics: Any, sigma: Tensor | float) -> Tensor:
    """A rough reconstruction, `(B, C, H, W)`.

    Denoising starts from a local Wiener filter. Otherwise it is the better fit to the measurements,
    per image, of `t A^T y` with the best `t` and, where the measurements have the shape of an
    image, `y` itself: a blurred photograph is closer to the sharp one than its back-projection, which
    is blurred twice.

    :param y: measurements, `(B, ...)`.
    :param physics: with `A` and `A_adjoint`.
    :param sigma: standard deviation of the noise, a number or `(B,)`.
    """
    image = physics.A_adjoint(y)
    again = physics.A(image)
    if image.shape == y.shape and torch.equal(image, y) and torch.equal(again, y):
        return local_wiener(y, sigma) if y.ndim == 4 else y
    energy = inner(again, again)
    scale = per_image(torch.where(energy > 0, inner(again, y) / energy, 0.0).to(y), image)
    start = image * scale
    if start.shape != y.shape:
        return start
    there, misfit = physics.A(y) - y, again * scale - y
    return torch.where(per_image(inner(there, there) <= inner(misfit, misfit), y), y, start)


def local_wiener(y: Tensor, sigma: Tensor | float, *, window: int = 5) -> Tensor:
    """`m + max(1 - sigma^2 / v, 0) (y - m)` with mean `m` and variance `v` of a window (Lee 1980).

    :param y: noisy images, `(B, C, H, W)`.
    :param sigma: standard deviation of the noise, a number or `(B,)`.
    :param window: side, odd.
    """
    noise = per_image(torch.as_tensor(sigma, device=y.device).to(y.dtype).square(), y)

    def mean(image: Tensor) -> Tensor:
        padded = functional.pad(image, (window // 2,) * 4, mode="replicate")
        return functional.avg_pool2d(padded, window, stride=1)

    centre = mean(y)
    deviation = y - centre
    # the variance of a constant is zero up to rounding, and any shrinkage will do there
    variance = (mean(y.square()) - centre.square()).clamp_min(torch.finfo(y.dtype).tiny)
    return centre + (1 - noise / variance).clamp_min(0) * deviation
