"""Cheap models of the Hessian, used to precondition.

A model never decides whether a method converges, only how fast: it need not be a bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Curvature:
    """`Hessian ~ D^{1/2} C D^{1/2}`: a circulant matrix, scaled by where the curvature is.

    :ivar symbol: eigenvalues of the circulant part on the half spectrum, `(B or 1, 1, H, W // 2 + 1)`,
        for the average pixel.
    :ivar diagonal: the Hessian's diagonal, `(B or 1, C or 1, H, W)`.
    """

    symbol: Tensor
    diagonal: Tensor

    def plus(self, other: Curvature, scale: Tensor) -> Curvature:
        """The model of a sum, `self + scale * other`; `scale` is 0-dim or `(B,)`."""
        factor = scale.reshape(-1, 1, 1, 1).to(self.diagonal.dtype)
        return Curvature(
            self.symbol + factor * other.symbol, self.diagonal + factor * other.diagonal
        )


class Preconditioner:
    """The inverse of a curvature model, `D^{-1/2} C^{-1} D^{-1/2}` with `D` relative to its mean.

    Symmetric positive definite on every image; one pair of FFTs to apply.
    """

    def __init__(self, curvature: Curvature) -> None:
        diagonal = curvature.diagonal
        mean = diagonal.mean((1, 2, 3), keepdim=True)
        floor = 1e-6 * curvature.symbol.amax((1, 2, 3), keepdim=True)
        # where there is no curvature at all the model is the identity
        symbol = torch.where(floor > 0, curvature.symbol.clamp_min(floor), 1.0)
        self.inverse_symbol = 1 / symbol
        self.scale = torch.where(mean > 0, mean / diagonal.clamp_min(1e-3 * mean), 1.0).sqrt()

    def __call__(self, grad: Tensor) -> Tensor:
        """Approximately `Hessian^{-1} grad`, in the shape of `grad` `(B, C, H, W)`."""
        spectrum = torch.fft.rfft2(self.scale * grad) * self.inverse_symbol
        return self.scale * torch.fft.irfft2(spectrum, s=grad.shape[-2:])
