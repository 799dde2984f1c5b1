"""Cheap models of the Hessian, used to precondition.

A model never decides whether a method converges, only how fast: it need not be a bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from .batch import inner, mixed, of_images, per_image

_INNER_STEPS, _INNER_TOLERANCE = 10, 0.1


@dataclass(frozen=True)
class Curvature:
    """`Hessian ~ D^{1/2} C D^{1/2}`: a circulant matrix, scaled by where the curvature is.

    :ivar symbol: eigenvalues of the circulant part on the half spectrum, `(B or 1, C or 1, H, W // 2 + 1)`,
        for the average pixel; of another grid than the image's if there is a `grid`.
    :ivar diagonal: the Hessian's diagonal, `(B or 1, C or 1, H, W)`.
    :ivar evaluations: what it cost, in evaluations of a gradient.
    :ivar grid: the larger grid `(H, W)` that the circulant part is on, see `fast_grid`; the image's when
        `None`, or any where the symbol is one number.
    :ivar basis: orthonormal `(C, C)`: the model is of the channels `basis x`; of those of `x` when `None`.
    :ivar terms: of a sum the models it is made of; for those that know one model only symbol and
        diagonal are those of the sum.
    """

    symbol: Tensor
    diagonal: Tensor
    terms: tuple[Curvature, ...] = ()
    basis: Tensor | None = None
    evaluations: float = 0.0
    grid: tuple[int, int] | None = None

    @classmethod
    def constant(cls, x: Tensor, value: float) -> Curvature:
        """That of `value |x|^2 / 2` on images shaped like `x`."""
        number = x.new_full((1, 1, 1, 1), value)
        return cls(number, number.expand(1, 1, *x.shape[-2:]))

    def scaled(self, factor: Tensor) -> Curvature:
        """The model of a multiple; `factor` is 0-dim or `(B,)`."""
        number = factor.reshape(-1, 1, 1, 1).to(self.diagonal)
        terms = tuple(term.scaled(factor) for term in self.terms)
        return replace(
            self, symbol=number * self.symbol, diagonal=number * self.diagonal, terms=terms
        )

    def plus(self, other: Curvature, scale: Tensor) -> Curvature:
        """The model of a sum, `self + scale * other`; `scale` is 0-dim or `(B,)`."""
        other = other.scaled(scale)
        terms = (*(self.terms or (self,)), *(other.terms or (other,)))
        basis = other.basis if self.basis is None else self.basis
        one, two = self._in(basis), other._in(basis)
        cost = self.evaluations + other.evaluations
        diagonal = one.diagonal + two.diagonal
        symbol, grid = _sum_of_symbols(one, two)
        return Curvature(symbol, diagonal, terms, basis, cost, grid)

    def _in(self, basis: Tensor | None) -> Curvature:
        """The model for another basis: where it is not the same for all channels, their mean."""
        if self.basis is basis:
            return self
        symbol, diagonal = (item.mean(1, keepdim=True) for item in (self.symbol, self.diagonal))
        return Curvature(symbol, diagonal, grid=self.grid)

    def subset(self, index: Tensor) -> Curvature:
        """The model for some images of the batch."""
        terms = tuple(term.subset(index) for term in self.terms)
        symbol, diagonal = of_images(self.symbol, index), of_images(self.diagonal, index)
        return replace(self, symbol=symbol, diagonal=diagonal, terms=terms)


def fast_grid(size: tuple[int, int]) -> tuple[int, int]:
    """The next grid for images of that size whose transforms are fast: sides without large prime factors.

    With 433 as a factor they take three to six times as long.
    """
    height, width = (next_fast_len(length) for length in size)
    return height, width  # pyright: ignore[reportReturnType]


class Preconditioner:
    """The inverse of a curvature model, `D^{-1/2} E^T C^{-1} E D^{-1/2}` with `D` relative to its mean.

    `E` extends by zeros to the grid of the model. Symmetric positive definite on every image, for
    `E^T M E` is if `M` is (`<v, E^T M E v> = <E v, M E v>` and `E v` is zero for `v = 0` only); the exact
    inverse on the image's own grid. One pair of FFTs to apply.
    """

    def __init__(self, curvature: Curvature) -> None:
        floor = 1e-6 * curvature.symbol.amax((1, 2, 3), keepdim=True)
        # where there is no curvature at all the model is the identity
        symbol = torch.where(floor > 0, curvature.symbol.clamp_min(floor), 1.0)
        inverse, scale = symbol.reciprocal_(), _relative(curvature).rsqrt()
        self.filter = _ScaledFilter(inverse, scale, curvature.basis, curvature.grid)

    def __call__(self, grad: Tensor) -> Tensor:
        """Approximately `Hessian^{-1} grad`, in the shape of `grad` `(B, C, H, W)`."""
        return self.filter(grad)


class SumPreconditioner:
    """The inverse of a sum of curvature models, by a few steps of preconditioned conjugate gradients.

    Where several terms vary from place to place, each in its own way, as a mask does and a regularizer, no
    single model of the sum holds everywhere. The model costs FFTs only, far less than a gradient.

    The map is not linear. For every image `<v, P(v)>` is at least that of the first step, a positive
    multiple of `|v|^2`, and `|P(v)|` at most a multiple of `|v|`, which is what a descent method needs.
    """

    def __init__(self, curvature: Curvature) -> None:
        self.one_model = Preconditioner(curvature)
        uniform = Curvature.constant(curvature.diagonal, 0.0)
        self.terms: list[_ScaledFilter] = []
        for term in curvature.terms:
            scale = _relative(term).sqrt()
            if bool((scale - 1).abs().max() < 1e-3) and term.symbol.shape[1] == 1:
                # all of them cost one pair of FFTs together
                symbol, grid = _sum_of_symbols(uniform, term)
                uniform = replace(uniform, symbol=symbol, grid=grid)
            else:
                symbol = term.symbol.clamp_min(0)
                self.terms.append(_ScaledFilter(symbol, scale, term.basis, term.grid))
        if len(self.terms) < 2:
            self.terms = []  # the sum's own model is as good then, and costs a tenth
        else:
            symbol = uniform.symbol.clamp_min(0)
            self.terms.append(_ScaledFilter(symbol, None, None, uniform.grid))

    def _model(self, v: Tensor) -> Tensor:
        first, *others = self.terms
        return sum((term(v) for term in others), first(v))

    def __call__(self, grad: Tensor) -> Tensor:
        """Approximately `Hessian^{-1} grad`, in the shape of `grad` `(B, C, H, W)`."""
        direction = preconditioned = self.one_model(grad)
        if not self.terms:
            return direction
        solution, residual = torch.zeros_like(grad), grad
        energy = inner(residual, preconditioned)
        target = _INNER_TOLERANCE**2 * inner(residual, residual)
        active = energy > 0
        for _ in range(_INNER_STEPS):
            image = self._model(direction)
            bent = inner(direction, image)
            active = active & (bent > 0)
            length = per_image(torch.where(active, energy / bent, 0.0).to(grad.dtype), grad)
            solution = torch.addcmul(solution, length, direction)
            residual = torch.addcmul(residual, length, image, value=-1)
            active = active & (inner(residual, residual) > target)
            if not active.any():
                break
            preconditioned = self.one_model(residual)
            following = inner(residual, preconditioned)
            ratio = torch.where(active, following / energy, 0.0)
            direction = preconditioned + per_image(ratio.to(grad.dtype), grad) * direction
            energy = torch.where(active, following, energy)
        return solution


def _relative(curvature: Curvature) -> Tensor:
    """The diagonal over its mean, for all channels or for each that has a symbol of its own, bounded away
    from zero; ones where there is nothing."""
    diagonal = curvature.diagonal
    mean = diagonal.mean((1, 2, 3) if curvature.symbol.shape[1] == 1 else (2, 3), keepdim=True)
    return torch.where(mean > 0, (diagonal / mean).clamp_min(1e-3), 1.0)


def _sum_of_symbols(one: Curvature, two: Curvature) -> tuple[Tensor, tuple[int, int] | None]:
    """Sum of two symbols, on the image's grid if one of them is known there only."""
    grids = {m.grid for m in (one, two) if m.symbol.shape[-2:].numel() > 1}
    if len(grids) < 2:
        return one.symbol + two.symbol, next(iter(grids), None)
    size = (one.diagonal.shape[-2], one.diagonal.shape[-1])
    return _folded(one, size) + _folded(two, size), None


def _folded(model: Curvature, size: tuple[int, int]) -> Tensor:
    """The symbol on the grid of the image: that of the same filter, if it is no longer than the image."""
    if model.grid is None:
        return model.symbol
    taps = torch.fft.irfft2(model.symbol, s=model.grid)
    for dim, length in ((-2, size[0]), (-1, size[1])):
        ahead, behind = taps.narrow(dim, 0, (length + 1) // 2), length // 2
        taps = torch.cat([ahead, taps.narrow(dim, taps.shape[dim] - behind, behind)], dim)
    return torch.fft.rfft2(taps).real


@dataclass(frozen=True)
class _ScaledFilter:
    """`Q^T S E^T F^T Diag(symbol) F E S Q`: diagonal `S`, basis `Q`, extension `E` by zeros to the grid."""

    symbol: Tensor
    scale: Tensor | None
    basis: Tensor | None
    grid: tuple[int, int] | None

    def subset(self, index: Tensor) -> _ScaledFilter:
        """That of some images of the batch."""
        scale = None if self.scale is None else of_images(self.scale, index)
        return replace(self, symbol=of_images(self.symbol, index), scale=scale)

    def __call__(self, v: Tensor) -> Tensor:
        height, width = v.shape[-2:]
        v = v if self.basis is None else mixed(self.basis, v)
        grid = self.grid or (height, width)
        spectrum = torch.fft.rfft2(v if self.scale is None else self.scale * v, s=grid)
        filtered = torch.fft.irfft2(spectrum.mul_(self.symbol), s=grid)[..., :height, :width]
        filtered = filtered.contiguous() if self.scale is None else self.scale * filtered
        return filtered if self.basis is None else mixed(self.basis.mT, filtered)
