"""Proven bounds on the spectrum of `A^T A` for the forward operators of deepinv.

deepinv's `compute_sqnorm` is a power iteration: a *lower* bound on the squared norm (by up to 6 %),
and a step size built on it is not proven to converge. Here every bound has a proof; operators
without one get `largest = inf` and solvers search for a step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# float32 buffers: what rounding can add to an entry, a sum or a transform
_ROUNDING = 1 + 1e-5


@dataclass(frozen=True)
class OperatorBounds:
    """`smallest <= eigenvalues of A^T A <= largest`, each a number or one per image `(B,)`.

    :ivar proof: where the bounds come from, in words.
    """

    largest: Tensor | float
    smallest: Tensor | float = 0.0
    proof: str = "none: the operator is not one with a known bound"


def operator_bounds(physics: Any, x: Tensor) -> OperatorBounds:
    """Bounds for a deepinv physics acting on images shaped like `x`, `(B, C, H, W)`.

    Exact types only: a subclass may change the operator. Known: `Denoising`, `Inpainting`,
    `Demosaicing`, `MRI`, `BlurFFT`, `Blur` and `Downsampling` (all paddings), `Tomography`.
    """
    kind = type(physics)
    rule = _RULES.get(f"{kind.__module__}.{kind.__qualname__}")
    return rule(physics, x) if rule else OperatorBounds(float("inf"))


def _identity(physics: Any, x: Tensor) -> OperatorBounds:
    return OperatorBounds(1.0, 1.0, "A is the identity")


def _mask(physics: Any, x: Tensor) -> OperatorBounds:
    """`A = Diag(mask) U` with orthonormal `U`: the eigenvalues are the squared mask entries."""
    mask = physics.mask.double() if physics.mask.dtype == torch.bool else physics.mask
    square = mask.abs().double().square()
    # what broadcasts against the images may lack the leading dimensions
    flat = square.reshape(*[1] * (x.ndim - square.ndim), *square.shape).flatten(1)
    largest, smallest = flat.amax(1) * _ROUNDING, flat.amin(1) / _ROUNDING
    return OperatorBounds(
        largest.squeeze(0), smallest.squeeze(0), "squared entries of the mask of an orthonormal map"
    )


def _spectrum(physics: Any, x: Tensor) -> OperatorBounds:
    """`BlurFFT`: diagonal in the orthonormal Fourier basis, `mask` holds the moduli."""
    square = physics.mask.double().square().flatten(1).amax(1)
    return OperatorBounds(
        (square * _ROUNDING).squeeze(0), 0.0, "largest squared modulus of the filter's DFT"
    )


def _schur(physics: Any, x: Tensor) -> OperatorBounds:
    """Schur's test, `|A|_2^2 <= |A|_1 |A|_inf`: largest column sum times largest row sum of `|A|`.

    The entries of `A` are those of the filter (or sums of them where padding repeats a pixel), so
    the operator with the filter's absolute values applied to ones, and its adjoint, give bounds on
    both sums. Exact for a nonnegative filter with circular padding.
    """
    if physics.filter is None:
        return OperatorBounds(1.0, 0.0, "A selects pixels")
    absolute = copy.deepcopy(physics)
    absolute.filter = physics.filter.abs()
    absolute = absolute.double()
    with torch.no_grad():
        rows = absolute.A(torch.ones_like(x, dtype=torch.float64))
        columns = absolute.A_adjoint(torch.ones_like(rows))
    # both add up to the sum of all entries: deepinv 0.5 has adjoints that are none (sides of 1 pixel)
    totals = rows.flatten(1).sum(1), columns.flatten(1).sum(1)
    if not torch.allclose(*totals, rtol=1e-9):
        return OperatorBounds(float("inf"), 0.0, "none: A_adjoint is not the adjoint of A")
    bound = rows.flatten(1).amax(1) * columns.flatten(1).amax(1) * _ROUNDING
    return OperatorBounds(bound, 0.0, "Schur's test, |A|_1 |A|_inf")


def _nonnegative(physics: Any, x: Tensor) -> OperatorBounds:
    """`Tomography`: sums of bilinear interpolations, so that no entry of `A` is negative.

    Schur's test again: `A 1` holds the row sums and `A^T 1` the column sums.
    """
    with torch.no_grad():
        rows = physics.A(torch.ones_like(x))
        columns = physics.A_adjoint(torch.ones_like(rows))
    totals = rows.double().flatten(1).sum(1), columns.double().flatten(1).sum(1)
    if not torch.allclose(*totals, rtol=1e-4):
        return OperatorBounds(float("inf"), 0.0, "none: A_adjoint is not the adjoint of A")
    largest = rows.double().flatten(1).amax(1) * columns.double().flatten(1).amax(1)
    # sums of many float32 numbers
    return OperatorBounds(largest * _ROUNDING**4, 0.0, "Schur's test, |A|_1 |A|_inf")


_RULES: dict[str, Callable[[Any, Tensor], OperatorBounds]] = {
    "deepinv.physics.forward.Denoising": _identity,
    "deepinv.physics.inpainting.Inpainting": _mask,
    "deepinv.physics.inpainting.Demosaicing": _mask,
    "deepinv.physics.mri.MRI": _mask,
    "deepinv.physics.blur.BlurFFT": _spectrum,
    "deepinv.physics.blur.Blur": _schur,
    "deepinv.physics.blur.Downsampling": _schur,
    "deepinv.physics.tomography.Tomography": _nonnegative,
}
