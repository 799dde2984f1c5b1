"""Where reconstructions start: close to the answer, at the price of a few filters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from convexreg.networks import colour
from convexreg.networks.holes import filled
from convexreg.solvers.batch import inner, per_image


def starting_image(
    y: Tensor,
    physics: Any,
    sigma: Tensor | float,
    *,
    image: Tensor | None = None,
    identity: bool | None = None,
) -> Tensor:
    """A rough reconstruction, `(B, C, H, W)`.

    Denoising starts from a local Wiener filter, of the planes of colour images. Otherwise it is the
    back-projection or, where the measurements have the shape of an image and are the better fit, `y`
    itself, per image: a blurred photograph is closer to the sharp one than its back-projection, which is
    blurred twice.

    :param y: measurements, `(B, ...)`.
    :param physics: with `A` and `A_adjoint`.
    :param sigma: standard deviation of the noise, a number or `(B,)`.
    :param image: `A^T y`, where it is known.
    :param identity: whether the physics is the identity, where that is known.
    """
    back: Tensor = physics.A_adjoint(y) if image is None else image
    if is_identity(physics, back) if identity is None else identity:
        return denoised(y, sigma) if y.ndim == 4 else y
    again = physics.A(back)
    energy = inner(again, again)
    scale = torch.where(energy > 0, inner(again, y) / energy, 0.0).to(y)
    weight = physics.A_adjoint(physics.A(torch.ones_like(back)))
    start = back_projection(back, scale, weight)
    if start.shape != y.shape:
        return start
    there, misfit = physics.A(y) - y, physics.A(start) - y
    # where some pixels are not seen the measurements say nothing of them, however well they fit
    better = (inner(there, there) <= inner(misfit, misfit)) & _seen(weight).flatten(1).all(1)
    return torch.where(per_image(better, y), y, start)


def is_identity(physics: Any, x: Tensor) -> bool:
    """Whether a linear operator is the identity, for every image and not for one with zeros in its holes.

    It is, with probability one, if it leaves a random image and its adjoint leaves it too.

    :param x: an image batch of the shape that the operator takes.
    """
    generator = torch.Generator(device=x.device).manual_seed(0)
    random = torch.empty_like(x).normal_(generator=generator)
    return torch.equal(physics.A(random), random) and torch.equal(physics.A_adjoint(random), random)


def denoised(y: Tensor, sigma: Tensor | float) -> Tensor:
    """By a local Wiener filter; opponent colours by a wider one, twice.

    What a regularizer leaves of opponent colours is much smoother than of luminance: from there less than
    half as many evaluations are needed. Rather too smooth than too rough: where noise is left, potentials
    look flatter than they are at the minimum. Removing 1.3 times the noise saves evaluations of gray
    images as well, none at little noise and a fifth at much.
    """
    if y.shape[1] != 3:
        return local_wiener(y, 1.3 * sigma)
    luminance, *opponents = colour.planes(y).unflatten(0, (-1, 3)).unbind(1)
    smooth = [
        local_wiener(local_wiener(plane, sigma, window=7), sigma, window=7) for plane in opponents
    ]
    planes = torch.stack([local_wiener(luminance, 1.3 * sigma), *smooth], 1)
    return colour.from_planes(planes.flatten(0, 1))


def back_projection(image: Tensor, scale: Tensor, weight: Tensor) -> Tensor:
    """`A^T y / A^T A 1`, pixel by pixel, which is exact on constant images.

    It extends what was measured to pixels that were hardly seen, as beyond the borders of a blurred
    photograph; those not seen at all are filled from those around them. Images where `A^T A 1` has
    negative values get `scale A^T y`.

    :param image: `A^T y`, `(B, C, H, W)`.
    :param scale: `(B,)`.
    :param weight: `A^T A 1`, in the shape of the image.
    """
    seen = _seen(weight)
    extended = filled(image / torch.where(seen, weight, 1.0), seen)
    most = weight.flatten(1).amax(1)
    usable = (weight >= per_image(-1e-4 * most, weight)).flatten(1).all(1) & (most > 0)
    return torch.where(per_image(usable, image), extended, image * per_image(scale, image))


def _seen(weight: Tensor) -> Tensor:
    """Which pixels the measurements say something of, from `A^T A 1`."""
    return weight > per_image(1e-2 * weight.flatten(1).amax(1), weight)


@torch.no_grad()
def seen_pixels(physics: Any, x: Tensor) -> Tensor | None:
    """Where the measurements say something of an image, `(B, 1, H, W)`; `None` where that is everywhere.

    :param x: an image batch of the shape that the operator takes.
    """
    weight = physics.A_adjoint(physics.A(torch.ones_like(x)))
    most = weight.flatten(1).amax(1)
    usable = (weight >= per_image(-1e-4 * most, weight)).flatten(1).all(1) & (most > 0)
    seen = (_seen(weight) | ~per_image(usable, x)).any(1, keepdim=True)
    return None if bool(seen.all()) else seen


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
