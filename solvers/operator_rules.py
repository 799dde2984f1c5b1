"""What is proven of deepinv's operators.

deepinv's `compute_sqnorm` is a power iteration: a *lower* bound on the squared norm (by up to 6 %),
and a step size built on it is not proven to converge. Here every bound has a proof; operators without
one get `largest = inf` and solvers search for a step.

Rules go by exact type, because a subclass may change what it inherits. A class becomes known by a row
of the table at the end.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .curvature import Curvature
from .normal_curvature import shift_invariant_curvature
from .operators import NOTHING_PROVEN, Identity, OperatorBounds

# float32 buffers: what rounding can add to an entry, a sum or a transform
_ROUNDING = 1 + 1e-5


def operator_bounds(physics: Any, x: Tensor) -> OperatorBounds:
    """Bounds for a physics acting on images shaped like `x`, `(B, C, H, W)`.

    Known: `Denoising`, `Inpainting`, `Demosaicing`, `MRI`, `MultiCoilMRI`, `BlurFFT`, `Blur` and
    `Downsampling` (all paddings), `Tomography`, and `solvers.Identity`. An operator of your own may state
    `OperatorBounds` as its attribute `bounds`, and vouches for them.
    """
    stated = getattr(physics, "bounds", None)
    if isinstance(stated, OperatorBounds):
        return stated
    rule = rule_of(OPERATORS, physics)
    return NOTHING_PROVEN if rule is None else rule(physics, x)


def sees_images(physics: Any) -> bool:
    """Whether a physics is known to be the identity, whatever the images."""
    return rule_of(OPERATORS, physics) is _identity


def _identity(physics: Any, x: Tensor) -> OperatorBounds:
    normal = Curvature.constant(x, 1.0) if x.ndim == 4 else None
    return OperatorBounds(1.0, 1.0, "A is the identity", normal, identity=True)


def _mask(physics: Any, x: Tensor) -> OperatorBounds:
    """`A = Diag(mask)`: the eigenvalues of `A^T A` are the squared mask entries."""
    square = _squared_mask(physics, x)
    diagonal = square.to(x.dtype).expand(-1, -1, *x.shape[2:])
    normal = Curvature(diagonal.mean((1, 2, 3), keepdim=True), diagonal) if x.ndim == 4 else None
    return _squares(square, normal)


def _masked_spectrum(physics: Any, x: Tensor) -> OperatorBounds:
    """`A = Diag(mask) F` with the orthonormal Fourier transform `F`: again the squared mask entries."""
    normal = shift_invariant_curvature(physics, x) if x.ndim == 4 else None
    return _squares(_squared_mask(physics, x), normal)


def _coils(physics: Any, x: Tensor) -> OperatorBounds:
    """`A = Diag(mask) F S`, an orthonormal `F`, and sensitivities `S` with `S^H S = Diag(sum |s_n|^2)`: the
    largest squared mask entry times the largest of those sums."""
    mask = physics.mask.abs().double().square().flatten(1).amax(1)
    seen = physics.coil_maps.abs().double().square().sum(1).flatten(1).amax(1)
    bound = mask * seen * _ROUNDING
    return OperatorBounds(
        bound.squeeze(0), 0.0, "largest mask entry times sum of squared sensitivities"
    )


def _squared_mask(physics: Any, x: Tensor) -> Tensor:
    """`(B or 1, C or 1, ...)` in float64; what broadcasts against the images may lack dimensions."""
    mask = physics.mask.double() if physics.mask.dtype == torch.bool else physics.mask
    square = mask.abs().double().square()
    return square.reshape(*[1] * (x.ndim - square.ndim), *square.shape)


def _squares(square: Tensor, normal: Curvature | None) -> OperatorBounds:
    flat = square.flatten(1)
    largest, smallest = flat.amax(1) * _ROUNDING, flat.amin(1) / _ROUNDING
    proof = "squared entries of the mask of an orthonormal map"
    return OperatorBounds(largest.squeeze(0), smallest.squeeze(0), proof, normal)


def _spectrum(physics: Any, x: Tensor) -> OperatorBounds:
    """`BlurFFT`: diagonal in the orthonormal Fourier basis, `mask` holds the moduli."""
    square = physics.mask.double().square().flatten(1).amax(1)
    return OperatorBounds(
        (square * _ROUNDING).squeeze(0),
        0.0,
        "largest squared modulus of the filter's DFT",
        shift_invariant_curvature(physics, x),
    )


def _schur(physics: Any, x: Tensor) -> OperatorBounds:
    """Schur's test, `|A|_2^2 <= |A|_1 |A|_inf`: largest column sum times largest row sum of `|A|`.

    The entries of `A` are those of the filter (or sums of them where padding repeats a pixel), so
    the operator with the filter's absolute values applied to ones, and its adjoint, give bounds on
    both sums. Exact for a nonnegative filter with circular padding. It rests on `A_adjoint` being the
    adjoint of `A`, of which the equal totals tested here are a necessary condition only; solves test
    more (`operators.check_adjoint`).
    """
    if physics.filter is None:
        return OperatorBounds(1.0, 0.0, "A selects pixels")
    absolute = _with_filter(physics, physics.filter.double().abs())
    with torch.no_grad():
        rows = absolute.A(torch.ones_like(x, dtype=torch.float64))
        columns = absolute.A_adjoint(torch.ones_like(rows))
    if not _same_totals(rows, columns, 1e-9):  # deepinv 0.5 has adjoints that are none (sides of 1)
        return OperatorBounds(float("inf"), 0.0, "none: A_adjoint is not the adjoint of A")
    bound = rows.flatten(1).amax(1) * columns.flatten(1).amax(1) * _ROUNDING
    return OperatorBounds(
        bound, 0.0, "Schur's test, |A|_1 |A|_inf", _filtered_curvature(physics, rows, x)
    )


def _filtered_curvature(physics: Any, measured: Tensor, x: Tensor) -> Curvature | None:
    """`A^T A` of a filter with subsampling: the diagonal sums squared entries, the symbol is the filter's.

    Exact in the interior; `None` for filters larger than the image.
    """
    kernel = physics.filter.double()
    if any(k > n for k, n in zip(kernel.shape[-2:], x.shape[-2:], strict=True)):
        return None
    squared = _with_filter(physics, kernel.square())
    with torch.no_grad():
        diagonal = squared.A_adjoint(torch.ones_like(measured)).clamp_min(0)
    spectrum = torch.fft.rfft2(kernel, s=(x.shape[-2], x.shape[-1])).abs().square()
    energy = kernel.square().sum((2, 3), keepdim=True)
    symbol = (spectrum / energy).mean(1, keepdim=True) * diagonal.mean((1, 2, 3), keepdim=True)
    return Curvature(symbol.to(x.dtype), diagonal.to(x.dtype))


def _with_filter(physics: Any, kernel: Tensor) -> Any:
    """The same operator with another filter, in float64."""
    other = copy.deepcopy(physics)
    other.filter = kernel
    return other.double()


def _nonnegative(physics: Any, x: Tensor) -> OperatorBounds:
    """`Tomography`: sums of bilinear interpolations, so that no entry of `A` is negative.

    Schur's test again: `A 1` holds the row sums and `A^T 1` the column sums.
    """
    with torch.no_grad():
        rows = physics.A(torch.ones_like(x))
        columns = physics.A_adjoint(torch.ones_like(rows))
    if not _same_totals(rows.double(), columns.double(), 1e-4):
        return OperatorBounds(float("inf"), 0.0, "none: A_adjoint is not the adjoint of A")
    largest = rows.double().flatten(1).amax(1) * columns.double().flatten(1).amax(1)
    # sums of many float32 numbers
    return OperatorBounds(largest * _ROUNDING**4, 0.0, "Schur's test, |A|_1 |A|_inf")


def _same_totals(rows: Tensor, columns: Tensor, rtol: float) -> bool:
    """Both add up to the sum of all entries of `A`, if `A_adjoint` is its adjoint."""
    return torch.allclose(rows.flatten(1).sum(1), columns.flatten(1).sum(1), rtol=rtol)


def rule_of(table: dict[str, Any], thing: Any) -> Any:
    """The row of a class, by its exact type."""
    kind = type(thing)
    return table.get(f"{kind.__module__}.{kind.__qualname__}")


OPERATORS: dict[str, Callable[[Any, Tensor], OperatorBounds]] = {
    f"{Identity.__module__}.{Identity.__qualname__}": _identity,
    "deepinv.physics.forward.Denoising": _identity,
    "deepinv.physics.inpainting.Inpainting": _mask,
    "deepinv.physics.inpainting.Demosaicing": _mask,
    "deepinv.physics.mri.MRI": _masked_spectrum,
    "deepinv.physics.mri.MultiCoilMRI": _coils,
    "deepinv.physics.blur.BlurFFT": _spectrum,
    "deepinv.physics.blur.Blur": _schur,
    "deepinv.physics.blur.Downsampling": _schur,
    "deepinv.physics.tomography.Tomography": _nonnegative,
}
