"""Where reconstructions start: close to the answer, at the price of a few filters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from convexreg.solvers.objective import inner, per_image

ANCHOR = 1e-3
"""Weight of the squared distance to the starting image where nothing else makes a problem strongly convex;
it changes a PSNR by hundredths of a decibel."""


def starting_image(y: Tensor, physics: Any, sigma: Tensor | float) -> Tensor:
    """A rough reconstruction, `(B, C, H, W)`.

    Denoising starts from a local Wiener filter. Otherwise it is the back-projection or, where the
    measurements have the shape of an image and are the better fit, `y` itself, per image: a blurred
    photograph is closer to the sharp one than its back-projection, which is blurred twice.

    :param y: measurements, `(B, ...)`.
    :param physics: with `A` and `A_adjoint`.
    :param sigma: standard deviation of the noise, a number or `(B,)`.
    """
    image = physics.A_adjoint(y)
    again = physics.A(image)
    if image.shape == y.shape and torch.equal(image, y) and torch.equal(again, y):
        return local_wiener(y, sigma) if y.ndim == 4 else y
    energy = inner(again, again)
    scale = torch.where(energy > 0, inner(again, y) / energy, 0.0).to(y)
    start = back_projection(image, scale, physics)
    if start.shape != y.shape:
        return start
    there, misfit = physics.A(y) - y, physics.A(start) - y
    return torch.where(per_image(inner(there, there) <= inner(misfit, misfit), y), y, start)


def back_projection(image: Tensor, scale: Tensor, physics: Any) -> Tensor:
    """`A^T y / A^T A 1`, pixel by pixel, which is exact on constant images.

    It extends what was measured to pixels that were hardly seen, as beyond the borders of a blurred
    photograph; those not seen at all get the mean. Images where `A^T A 1` has negative values get
    `scale A^T y`.

    :param image: `A^T y`, `(B, C, H, W)`.
    :param scale: `(B,)`.
    """
    weight = physics.A_adjoint(physics.A(torch.ones_like(image)))
    every = tuple(range(1, image.ndim))
    most = weight.amax(every, keepdim=True)
    seen = weight > 1e-2 * most
    total = (weight * seen).sum(every, keepdim=True)
    mean = (image * seen).sum(every, keepdim=True) / torch.where(total > 0, total, 1.0)
    extended = torch.where(seen, image / torch.where(seen, weight, 1.0), mean)
    usable = (weight >= -1e-4 * most).flatten(1).all(1) & (most.flatten(1) > 0).all(1)
    return torch.where(per_image(usable, image), extended, image * per_image(scale, image))


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
