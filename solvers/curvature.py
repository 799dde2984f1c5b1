"""Cheap models of the Hessian, used to precondition.

A model never decides whether a method converges, only how fast: it need not be a bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .objective import of_images

if TYPE_CHECKING:
    from .operators import LinearOperator

_IMPULSES, _PROBES = 2, 4


@dataclass(frozen=True)
class Curvature:
    """`Hessian ~ D^{1/2} C D^{1/2}`: a circulant matrix, scaled by where the curvature is.

    :ivar symbol: eigenvalues of the circulant part on the half spectrum, `(B or 1, 1, H, W // 2 + 1)`,
        for the average pixel.
    :ivar diagonal: the Hessian's diagonal, `(B or 1, C or 1, H, W)`.
    """

    symbol: Tensor
    diagonal: Tensor

    @classmethod
    def constant(cls, x: Tensor, value: float) -> Curvature:
        """That of `value |x|^2 / 2` on images shaped like `x`."""
        number = x.new_full((1, 1, 1, 1), value)
        return cls(number, number.expand(1, 1, *x.shape[-2:]))

    def scaled(self, factor: Tensor) -> Curvature:
        """The model of a multiple; `factor` is 0-dim or `(B,)`."""
        factor = factor.reshape(-1, 1, 1, 1).to(self.diagonal)
        return Curvature(factor * self.symbol, factor * self.diagonal)

    def plus(self, other: Curvature, scale: Tensor) -> Curvature:
        """The model of a sum, `self + scale * other`; `scale` is 0-dim or `(B,)`."""
        other = other.scaled(scale)
        return Curvature(self.symbol + other.symbol, self.diagonal + other.diagonal)

    def subset(self, index: Tensor) -> Curvature:
        """The model for some images of the batch."""
        return Curvature(of_images(self.symbol, index), of_images(self.diagonal, index))


@torch.no_grad()
def shift_invariant_curvature(operator: LinearOperator, x: Tensor) -> Curvature:
    """`A^T A` from its response to one impulse: exact where it is a circular convolution.

    :param x: an image batch of the shape that the operator takes, `(B, C, H, W)`.
    """
    symbol, peak = _impulse_response(operator, x, x.shape[-2] // 2, x.shape[-1] // 2)
    return Curvature(symbol.clamp_min(0), peak.clamp_min(0).expand(-1, -1, *x.shape[-2:]))


@torch.no_grad()
def probed_curvature(operator: LinearOperator, x: Tensor) -> Curvature:
    """A model of `A^T A` for an operator of which nothing is known, from a few applications.

    The circulant part is the mean response to unit impulses at random places, its level that of the
    diagonal. The diagonal is estimated with random signs, `z o A^T A z` (Bekas, Kokiopoulou & Saad
    2007), which is exact for diagonal matrices; what the probes disagree on is noise and shrunk away.

    :param x: an image batch of the shape that the operator takes, `(B, C, H, W)`.
    """
    generator = torch.Generator().manual_seed(0)
    height, width = x.shape[-2:]
    symbols = []
    for _ in range(_IMPULSES):
        place = torch.rand(2, generator=generator, dtype=torch.float64)
        row, column = (int(p * n) for p, n in zip(0.25 + place / 2, (height, width), strict=True))
        symbols.append(_impulse_response(operator, x, row, column)[0])
    probes = []
    for _ in range(_PROBES):
        signs = torch.randint(2, x.shape[1:], generator=generator, device="cpu")
        signs = (2 * signs - 1).to(x).expand_as(x)
        probes.append(signs * operator.A_adjoint(operator.A(signs)))
    estimates = torch.stack(probes)
    diagonal = estimates.mean(0)
    every = (1, 2, 3)
    level = diagonal.mean(every, keepdim=True)
    noise = estimates.var(0).mean(every, keepdim=True) / _PROBES
    spread = (diagonal - level).square().mean(every, keepdim=True)
    trusted = torch.where(spread > 0, (1 - noise / spread).clamp_min(0), 0.0)
    diagonal = (level + trusted * (diagonal - level)).clamp_min(0)
    symbol = torch.stack(symbols).mean(0).clamp_min(0)
    mean = _mean_of_symbol(symbol, width)
    symbol = torch.where(mean > 0, symbol * level.clamp_min(0) / mean, level.clamp_min(0))
    return Curvature(symbol, diagonal)


def _impulse_response(
    operator: LinearOperator, x: Tensor, row: int, column: int
) -> tuple[Tensor, Tensor]:
    """Spectrum of the centred response to an impulse in every channel, and its value at the impulse."""
    impulse = torch.zeros_like(x)
    impulse[..., row, column] = 1
    response = operator.A_adjoint(operator.A(impulse)).mean(1, keepdim=True)
    centred = response.roll((-row, -column), (2, 3))
    return torch.fft.rfft2(centred).real, centred[..., :1, :1]


def _mean_of_symbol(symbol: Tensor, width: int) -> Tensor:
    """Mean over the whole spectrum of which `symbol` holds one half."""
    twice = torch.full_like(symbol[:1, :1, :1], 2.0)
    twice[..., 0] = 1
    if width % 2 == 0:
        twice[..., -1] = 1
    total = (symbol * twice).sum((2, 3), keepdim=True)
    return total / (symbol.shape[2] * width)


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
