"""What is known of deepinv's classes: norms of operators, noise levels, fidelities, constants of priors.

deepinv's `compute_sqnorm` is a power iteration: a *lower* bound on the squared norm (by up to 6 %),
and a step size built on it is not proven to converge. Here every bound has a proof; operators without
one get `largest = inf` and solvers search for a step.

Rules go by exact type, because a subclass may change what it inherits. A class becomes known by a row
of the table at the end.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .batch import per_image
from .curvature import Curvature
from .data_terms import DataTerm, LeastSquares, PoissonLikelihood, SmoothedL1
from .normal_curvature import shift_invariant_curvature
from .operators import NOTHING_PROVEN, Identity, LinearOperator, OperatorBounds

L1_SMOOTHING = 1e-3
# float32 buffers: what rounding can add to an entry, a sum or a transform
_ROUNDING = 1 + 1e-5


@dataclass(frozen=True)
class CurvatureBounds:
    """What is proven of a prior's second derivative.

    :ivar lipschitz: upper bound on the Lipschitz constant of the gradient.
    :ivar strong_convexity: lower bound on the modulus.
    """

    lipschitz: float
    strong_convexity: float = 0.0


def operator_bounds(physics: Any, x: Tensor) -> OperatorBounds:
    """Bounds for a physics acting on images shaped like `x`, `(B, C, H, W)`.

    Known: `Denoising`, `Inpainting`, `Demosaicing`, `MRI`, `BlurFFT`, `Blur` and `Downsampling` (all
    paddings), `Tomography`, and `solvers.Identity`. An operator of your own may state `OperatorBounds` as
    its attribute `bounds`, and vouches for them.
    """
    stated = getattr(physics, "bounds", None)
    if isinstance(stated, OperatorBounds):
        return stated
    rule = _rule(OPERATORS, physics)
    return NOTHING_PROVEN if rule is None else rule(physics, x)


def noise_level(physics: Any) -> Tensor | float | None:
    """The standard deviation of a physics' noise where that is all there is to say of it, else `None`."""
    model = getattr(physics, "noise_model", None)
    rule = _rule(NOISE_LEVELS, model)
    return None if rule is None else rule(model)


def noise_variance(physics: Any, mean: Tensor, photons: float = 0.0) -> Tensor | None:
    """The variance of measurements with a `mean` `(B, ...)`, of noise that depends on it, else `None`.

    :param photons: added to the mean, so that where none was seen there is a variance.
    """
    model = getattr(physics, "noise_model", None)
    rule = _rule(NOISE_VARIANCES, model)
    return None if rule is None else rule(model, mean, photons)


def data_term(physics: LinearOperator, y: Tensor, fidelity: Any = None) -> DataTerm:
    """`D(A x, y)` of a deepinv data fidelity, `|A x - y|^2 / 2` without one.

    `L2` is `|A x - y|^2 / (2 sigma^2)`; `PoissonLikelihood` needs a positive background; `L1` is smoothed
    with `delta = 1e-3`.

    :raises ValueError: a fidelity that is not convex, not smooth, or not known here.
    """
    bounds = operator_bounds(physics, physics.A_adjoint(y))
    if fidelity is None:
        return LeastSquares(physics, y, bounds)
    rule = _rule(FIDELITIES, fidelity)
    if rule is None:
        raise ValueError(
            f"the fidelity {type(fidelity).__name__} is not known to be convex and smooth, so nothing could "
            "be proven; known: L2, PoissonLikelihood (with a background) and L1 (smoothed)"
        )
    return rule(fidelity, physics, y, bounds)


def prior_bounds(prior: Any, x: Tensor) -> CurvatureBounds | None:
    """The constants of a prior on images shaped like `x`, `None` where none are known."""
    rule = _rule(PRIORS, prior)
    return None if rule is None else rule(prior, x)


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
    return _squares(_squared_mask(physics, x), shift_invariant_curvature(physics, x))


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


def _l2(fidelity: Any, physics: LinearOperator, y: Tensor, bounds: OperatorBounds) -> DataTerm:
    return LeastSquares(physics, y, bounds, sigma=float(fidelity.d.norm) ** -0.5)


def _poisson(fidelity: Any, physics: LinearOperator, y: Tensor, bounds: OperatorBounds) -> DataTerm:
    counts = y / fidelity.gain if fidelity.d.denormalize else y
    return PoissonLikelihood(physics, counts, bounds, gain=fidelity.gain, background=fidelity.bkg)


def _l1(fidelity: Any, physics: LinearOperator, y: Tensor, bounds: OperatorBounds) -> DataTerm:
    return SmoothedL1(physics, y, bounds, delta=L1_SMOOTHING)


def _tikhonov(prior: Any, x: Tensor) -> CurvatureBounds:
    """`|x|^2 / 2`."""
    return CurvatureBounds(1.0, 1.0)


def _smoothed_total_variation(prior: Any, x: Tensor) -> CurvatureBounds:
    """`sum sqrt(|D x|^2 + eps^2)` has curvature at most `|D|^2 / eps`, `|D|^2 <= 8` on images, 12 on volumes.

    Forward differences have `|D_i|^2 <= 4` in each direction (Chambolle 2004, Thm 3.1). The prior's own
    inner step assumes `|D|^2 = 4`.
    """
    return CurvatureBounds(4 * (x.ndim - 2) / prior.eps)


def _photons(model: Any, mean: Tensor, photons: float) -> Tensor:
    gain = per_image(model.gain.to(mean), mean)
    return gain * (mean.clamp_min(0) + photons * gain)


def _poisson_noise(model: Any, mean: Tensor, photons: float) -> Tensor | None:
    """Counts that are not multiplied by the gain again are no measurements `A x` with noise."""
    return _photons(model, mean, photons) if bool(model.normalize) else None


def _poisson_gaussian(model: Any, mean: Tensor, photons: float) -> Tensor:
    read_out = per_image(model.sigma.to(mean), mean)
    return _photons(model, mean, photons) + read_out.square()


def _gaussian(model: Any) -> Tensor | float:
    return model.sigma


def _rule(table: dict[str, Any], thing: Any) -> Any:
    """The row of a class, by its exact type."""
    kind = type(thing)
    return table.get(f"{kind.__module__}.{kind.__qualname__}")


OPERATORS: dict[str, Callable[[Any, Tensor], OperatorBounds]] = {
    f"{Identity.__module__}.{Identity.__qualname__}": _identity,
    "deepinv.physics.forward.Denoising": _identity,
    "deepinv.physics.inpainting.Inpainting": _mask,
    "deepinv.physics.inpainting.Demosaicing": _mask,
    "deepinv.physics.mri.MRI": _masked_spectrum,
    "deepinv.physics.blur.BlurFFT": _spectrum,
    "deepinv.physics.blur.Blur": _schur,
    "deepinv.physics.blur.Downsampling": _schur,
    "deepinv.physics.tomography.Tomography": _nonnegative,
}
NOISE_LEVELS: dict[str, Callable[[Any], Tensor | float]] = {
    "deepinv.physics.noise.GaussianNoise": _gaussian,
}
NOISE_VARIANCES: dict[str, Callable[[Any, Tensor, float], Tensor | None]] = {
    "deepinv.physics.noise.PoissonNoise": _poisson_noise,
    "deepinv.physics.noise.PoissonGaussianNoise": _poisson_gaussian,
}
FIDELITIES: dict[str, Callable[[Any, LinearOperator, Tensor, OperatorBounds], DataTerm]] = {
    "deepinv.optim.data_fidelity.L2": _l2,
    "deepinv.optim.data_fidelity.PoissonLikelihood": _poisson,
    "deepinv.optim.data_fidelity.L1": _l1,
}
PRIORS: dict[str, Callable[[Any, Tensor], CurvatureBounds]] = {
    "deepinv.optim.prior.Tikhonov": _tikhonov,
    "deepinv.optim.prior.SmoothedTVPrior": _smoothed_total_variation,
}
