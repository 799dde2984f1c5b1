"""Models of `A^T A`, from what the operator really does."""

from __future__ import annotations

import torch
from torch import Tensor

from .curvature import Curvature
from .operators import LinearOperator

_IMPULSES, _PROBES = 2, 4


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
        place = torch.rand(2, generator=generator, dtype=torch.float64, device="cpu")
        row, column = (int(p * n) for p, n in zip(0.25 + place / 2, (height, width), strict=True))
        symbols.append(_impulse_response(operator, x, row, column)[0])
    probes = []
    for _ in range(_PROBES):
        signs = torch.randint(2, x.shape[1:], generator=generator, device="cpu")
        signs = (2 * signs - 1).to(x).expand_as(x).contiguous()  # FFTs of old versions ask for it
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
    return Curvature(symbol, diagonal, evaluations=_IMPULSES + _PROBES)


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
