"""Bounds on the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .batch import norm, per_image, rms

_NEAR = 1e-6
"""How near a bound a pixel is held at most, relative to the box or one. The proof takes any number; holding
pixels that are not at the bound costs line searches, and this is as far as 30 halvings reach."""


@dataclass(frozen=True)
class Box:
    """`{x : lower <= x <= upper}`, either bound may be infinite.

    :raises ValueError: `lower >= upper`, or bounds that are not numbers.
    """

    lower: float = -float("inf")
    upper: float = float("inf")

    def __post_init__(self) -> None:
        if not all(isinstance(bound, (int, float)) for bound in (self.lower, self.upper)):
            raise ValueError(
                f"the bounds of a box are numbers, infinite where there is none; got {self.lower!r} and "
                f"{self.upper!r}"
            )
        if not self.lower < self.upper:
            raise ValueError(f"a box needs lower < upper, got [{self.lower}, {self.upper}]")

    @property
    def everything(self) -> bool:
        """Whether there is no constraint at all."""
        return self.lower == -float("inf") and self.upper == float("inf")

    @property
    def bounded(self) -> bool:
        """Whether both bounds are finite."""
        return self.lower > -float("inf") and self.upper < float("inf")

    def representable(self, dtype: torch.dtype) -> Box:
        """The largest box within this one whose bounds are numbers of that type."""
        lower, upper = torch.tensor([self.lower, self.upper], dtype=torch.float64, device="cpu")
        low, high = lower.to(dtype), upper.to(dtype)
        if low < lower:
            low = torch.nextafter(low, torch.full_like(low, float("inf")))
        if high > upper:
            high = torch.nextafter(high, torch.full_like(high, -float("inf")))
        return Box(float(low), float(high))

    def project(self, x: Tensor) -> Tensor:
        """The nearest point of the box."""
        return x if self.everything else x.clamp(self.lower, self.upper)

    def free_variables(self, x: Tensor, grad: Tensor) -> Tensor:
        """One for pixels that can move, zero for those that the gradient holds at a bound; 0-dim if all can.

        Those near it, closer than the projected gradient is long, are held as well (Bertsekas 1982, eq. 32):
        a direction would be cut short by a pixel that leaves the box at once.
        """
        if self.everything:
            return torch.ones((), dtype=x.dtype, device=x.device)
        width = min(self.upper - self.lower, 1.0)
        progress = rms(x - self.project(x - grad))
        near = per_image(progress.clamp_max(_NEAR * width).to(x.dtype), x)
        held = ((x <= self.lower + near) & (grad > 0)) | ((x >= self.upper - near) & (grad < 0))
        return (~held).to(x.dtype)

    def gradient_mapping(self, x: Tensor, grad: Tensor, lipschitz: Tensor) -> Tensor:
        """`L (x - P(x - grad / L))`, zero at minimisers only; without a box it is `grad`.

        In float64, because the step itself may be lost in the rounding of `x`.

        :param lipschitz: `(B,)`, positive.
        """
        if self.everything:
            return grad
        x, scale = x.double(), lipschitz.double().reshape(-1, *[1] * (x.ndim - 1))
        return scale * (x - self.project(x - grad.double() / scale))

    def furthest_descent(self, x: Tensor, grad: Tensor, mu: Tensor) -> Tensor:
        """`max over s in the box of <grad, x - s> - mu/2 |s - x|^2`, `(B,)` in float64.

        Separable: the maximiser is `x - grad / mu` clamped to the box, and for `mu = 0` the bound on
        the side the gradient points away from. `inf` when that is unbounded, and for `mu < 0`, where
        nothing is proven; NaN where a number given is not finite.

        :param mu: `(B,)`.
        """
        x, grad = x.flatten(1), grad.flatten(1)
        if self.everything and bool((mu > 0).all()):
            length = norm(grad)
            known = (x.sum(1, dtype=torch.float64) + length).isfinite()
            return torch.where(known, length.square() / (2 * mu.double()), float("nan"))
        x, grad = x.double(), grad.double()
        mu = mu.double().reshape(-1, 1).expand(x.shape[0], 1)
        # grad / 0 is infinite with the right sign; 0 / 0 is "stay"
        shift = torch.where(grad == 0, torch.zeros_like(grad), grad / mu)
        move = x - (x - shift).clamp(self.lower, self.upper)
        # an infinite move may be the overflow of a large one: infinity is a bound in any case
        terms = torch.where(
            move.isinf(),
            float("inf"),
            move * (grad - torch.where(mu > 0, mu / 2 * move, 0.0)),
        )
        descent = torch.where(grad == 0, 0.0, terms).sum(1).clamp_min(0)
        descent = torch.where(mu[:, 0] < 0, float("inf"), descent)
        known = (x.sum(1) + grad.sum(1) + mu[:, 0]).isfinite()
        return torch.where(known, descent, float("nan"))
