"""Convex potentials `psi` with their gradients and proven curvature bounds.

A potential acts on channels (dimension 1) and locally: on images each pixel (or small window) has
its own value, on vectors `(B, C)` there is one value per vector. `value` returns one number per
position, `(B, ...)` without the channel dimension.

`weight` multiplies the terms of a potential: nonnegative, broadcastable to `(B, groups, ...)`, where
`groups` is the number of terms (channels for elementwise potentials). A nonnegative weight keeps the
potential convex. It carries noise conditioning and spatially varying strength.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional


def per_channel(parameter: Tensor, u: Tensor) -> Tensor:
    """Shape `(C, ...)` parameters to broadcast against `(B, C, ...)`."""
    return parameter.reshape(parameter.shape[0], *[1] * (u.ndim - 2))


def _supremum(weight: Tensor) -> Tensor:
    """Largest weight of each group: `(B or 1, groups)`."""
    return weight.flatten(2).amax(2) if weight.ndim > 2 else weight


class Potential(nn.Module, ABC):
    """A function of the channels at each position; convex unless `convex` says otherwise."""

    convex: bool = True
    radius: int = 0
    """How many pixels away the gradient at a pixel looks, one way."""
    nonnegative: bool = False
    """Whether no value is negative: what some outer functions `rho` need to be monotone."""

    def groups(self, channels: int) -> int:
        """How many terms the potential sums over `channels` channels."""
        return channels

    @abstractmethod
    def value_and_grad(self, u: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Value per position `(B, ...)` and gradient `(B, C, ...)`, computed together."""

    def value(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        return self.value_and_grad(u, weight)[0]

    @abstractmethod
    def grad(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        """Gradient in `u`, `(B, C, ...)`."""

    @abstractmethod
    def curvature_bound(self, channels: int, weight: Tensor | None = None) -> Tensor:
        """`D` with `Hessian <= Diag(D)` everywhere: `(C,)`, or `(B, C)` with weights."""

    @abstractmethod
    def curvature(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        """Diagonal of the Hessian at `u` (or an upper bound on it), `(B, C, ...)`."""


class ElementwisePotential(Potential):
    """`psi(u) = sum_c psi_c(u_c)`: subclasses give the scalar `density`, `activation` and slope."""

    @abstractmethod
    def density(self, u: Tensor) -> Tensor:
        """`psi_c(u_c)`, in the shape of `u`."""

    @abstractmethod
    def activation(self, u: Tensor) -> Tensor:
        """`psi_c'(u_c)`, in the shape of `u`."""

    @abstractmethod
    def slope(self) -> Tensor:
        """`sup |psi_c''|`, 0-dim or `(C,)`."""

    def value_and_grad(self, u: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        density, activation = self.density(u), self.activation(u)
        if weight is not None:
            density, activation = weight * density, weight * activation
        return density.sum(1), activation

    def value(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        density = self.density(u)
        return (density if weight is None else weight * density).sum(1)

    def grad(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        activation = self.activation(u)
        return activation if weight is None else weight * activation

    def curvature(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        with torch.enable_grad():
            point = u.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.activation(point).sum(), point)
        return slope if weight is None else weight * slope

    def curvature_bound(self, channels: int, weight: Tensor | None = None) -> Tensor:
        slope = self.slope().expand(channels)
        return slope if weight is None else _supremum(weight) * slope


class LogCosh(ElementwisePotential):
    """`psi(u) = log cosh u`, `psi' = tanh`, `0 < psi'' <= 1`."""

    nonnegative = True

    def density(self, u: Tensor) -> Tensor:
        return u.abs() + functional.softplus(-2 * u.abs()) - math.log(2)

    def activation(self, u: Tensor) -> Tensor:
        return torch.tanh(u)

    def slope(self) -> Tensor:
        return torch.tensor(1.0)


class Softplus(ElementwisePotential):
    """`psi(u) = log(1 + exp u)`, `psi' = sigmoid`, `0 < psi'' <= 1/4`."""

    nonnegative = True

    def density(self, u: Tensor) -> Tensor:
        return functional.softplus(u, threshold=40)

    def activation(self, u: Tensor) -> Tensor:
        return torch.sigmoid(u)

    def slope(self) -> Tensor:
        return torch.tensor(0.25)


class PseudoHuber(ElementwisePotential):
    """`psi(u) = sqrt(1 + u^2) - 1`, `psi' = u / sqrt(1 + u^2)`, `0 < psi'' <= 1`."""

    nonnegative = True

    def density(self, u: Tensor) -> Tensor:
        # u^2 / (1 + sqrt(1 + u^2)): no cancellation for small u
        square = u * u
        return square / (1 + torch.sqrt(1 + square))

    def activation(self, u: Tensor) -> Tensor:
        return u * torch.rsqrt(1 + u * u)

    def slope(self) -> Tensor:
        return torch.tensor(1.0)


class Quadratic(ElementwisePotential):
    """`psi(u) = u^2 / 2`, `psi' = u`, `psi'' = 1`: the Gram term `V^T V x` of the 2023 paper."""

    nonnegative = True

    def density(self, u: Tensor) -> Tensor:
        return u * u / 2

    def activation(self, u: Tensor) -> Tensor:
        return u

    def slope(self) -> Tensor:
        return torch.tensor(1.0)


class TanhMixture(ElementwisePotential):
    """Learned activation of the released gradient networks, `a tanh(u) + b (u - tanh u)`.

    `a, b >= 0` per channel, so that `psi'' = a sech^2 + b tanh^2` lies between 0 and `max(a, b)`.
    """

    nonnegative = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.rand(2, channels))

    def density(self, u: Tensor) -> Tensor:
        a, b = (per_channel(row, u) for row in functional.softplus(self.raw))
        log_cosh = LogCosh().density(u)
        return a * log_cosh + b * (u * u / 2 - log_cosh)

    def activation(self, u: Tensor) -> Tensor:
        a, b = (per_channel(row, u) for row in functional.softplus(self.raw))
        tanh = torch.tanh(u)
        return a * tanh + b * (u - tanh)

    def slope(self) -> Tensor:
        return functional.softplus(self.raw).amax(0)


class ScaledSigmoids(ElementwisePotential):
    """`psi_c'(u) = sum_k a_ck sigmoid(w_ck u + b_ck)` with `a, w >= 0` (2024 paper, Thm 7).

    Approximates any nondecreasing scalar function on an interval as the number of terms grows.
    `psi_c'' <= sum_k a_ck w_ck / 4`.
    """

    nonnegative = True

    def __init__(self, channels: int, terms: int) -> None:
        super().__init__()
        self.raw_height = nn.Parameter(torch.rand(channels, terms))
        self.raw_width = nn.Parameter(torch.rand(channels, terms) + 1)
        self.bias = nn.Parameter(torch.randn(channels, terms))

    def _terms(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Heights, widths and arguments, with the terms in the last dimension."""
        height, width, bias = (
            parameter.reshape(parameter.shape[0], *[1] * (u.ndim - 2), -1)
            for parameter in (
                functional.softplus(self.raw_height),
                functional.softplus(self.raw_width),
                self.bias,
            )
        )
        return height, width, width * u.unsqueeze(-1) + bias

    def density(self, u: Tensor) -> Tensor:
        height, width, argument = self._terms(u)
        return (height / width * functional.softplus(argument, threshold=40)).sum(-1)

    def activation(self, u: Tensor) -> Tensor:
        height, _, argument = self._terms(u)
        return (height * torch.sigmoid(argument)).sum(-1)

    def slope(self) -> Tensor:
        product = functional.softplus(self.raw_height) * functional.softplus(self.raw_width)
        return product.sum(-1) / 4


class LinearSpline(ElementwisePotential):
    """`psi_c'` a linear spline with uniform knots on `[-limit, limit]`, constant outside, zero at 0.

    The activation of CRR-NN (Goujon et al. 2023, section IV). With `monotone` the increments
    between knots are `softplus` of the parameters, so that `psi_c` is convex by construction;
    without it the network is the authors' (nonconvex) ridge regularizer.

    :param knots: odd, at least 3, so that there is a knot at zero.
    """

    def __init__(
        self, channels: int, knots: int = 21, limit: float = 0.1, *, monotone: bool = True
    ) -> None:
        super().__init__()
        if knots < 3 or knots % 2 == 0:
            raise ValueError(f"a spline needs an odd number of at least 3 knots, got {knots}")
        self.convex = self.nonnegative = monotone
        self.limit, self.knots = limit, knots
        step = self.step
        centres = torch.linspace(-limit + step / 2, limit - step / 2, knots - 1)
        # initially 2 limit tanh'(2 u / limit): saturating towards the ends of the knots
        increments = step * torch.cosh(2 * centres / limit) ** -2
        raw = increments.expm1().log() if monotone else increments
        self.raw = nn.Parameter(raw.repeat(channels, 1))

    @property
    def step(self) -> float:
        """Distance between knots."""
        return 2 * self.limit / (self.knots - 1)

    @property
    def increments(self) -> Tensor:
        """Rise of the activation between neighbouring knots, `(C, knots - 1)`."""
        return functional.softplus(self.raw) if self.convex else self.raw

    def second_differences(self) -> Tensor:
        """Change of slope at every knot times the knot distance, `(C, knots)`: the TV2 penalty's terms."""
        return functional.pad(self.increments, (1, 1)).diff(dim=1)

    def _tables(self) -> tuple[Tensor, Tensor]:
        """Activation and potential at the knots, `(C, knots)`, both zero at the middle knot."""
        middle = self.knots // 2
        values = functional.pad(self.increments.cumsum(1), (1, 0))
        values = values - values[:, middle : middle + 1]
        areas = self.step * (values[:, 1:] + values[:, :-1]) / 2
        potentials = functional.pad(areas.cumsum(1), (1, 0))
        return values, potentials - potentials[:, middle : middle + 1]

    def _locate(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Flat index of the knot to the left, distance from it, distance beyond the last knot."""
        inside = u.clamp(-self.limit, self.limit)
        cell = ((inside + self.limit) / self.step).floor().clamp(0, self.knots - 2)
        offset = inside + self.limit - cell * self.step
        channel = per_channel(torch.arange(self.raw.shape[0], device=u.device), u)
        return (cell.long() + channel * self.knots), offset, u - inside

    def density(self, u: Tensor) -> Tensor:
        values, potentials = self._tables()
        index, offset, beyond = self._locate(u)
        left, right = values.flatten()[index], values.flatten()[index + 1]
        at_offset = left + (right - left) * offset / self.step
        inside = potentials.flatten()[index] + offset * (left + at_offset) / 2
        return inside + at_offset * beyond

    def activation(self, u: Tensor) -> Tensor:
        values, _ = self._tables()
        index, offset, _ = self._locate(u)
        left, right = values.flatten()[index], values.flatten()[index + 1]
        return left + (right - left) * (offset / self.step)

    def slope(self) -> Tensor:
        return self.increments.abs().amax(1) / self.step


def _softmax(grouped: Tensor) -> Tensor:
    """Softmax over dimension 2 of `(B, groups, K, ...)`.

    CPU kernels handle a short last dimension row by row, fourteen times slower than any other: on
    vectors the batch goes last.
    """
    if grouped.ndim > 3:
        return torch.softmax(grouped, 2)
    return torch.softmax(grouped.movedim(0, -1), 1).movedim(-1, 0)


class LogSumExp(Potential):
    """`psi(u) = a / tau log sum exp(tau u) + b / tau log sum exp(-tau u)` over groups of channels.

    Gradient `a softmax(tau u) - b softmax(-tau u)`; `b = 0` unless `symmetric`. The Hessian of each
    half is `tau (Diag p - p p^T)`, at most `tau / 2` (2-norm, attained at two equal maxima). With
    `a = b` the value is at least `a (max u - min u)`, otherwise it can be negative.

    :param group_size: channels per group; all of them when omitted (the dense networks).
    :param learned: make `a`, `b` learned nonnegative numbers; ones otherwise.
    """

    def __init__(
        self,
        group_size: int | None = None,
        *,
        temperature: float = 1.0,
        symmetric: bool = False,
        learned: bool = False,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.group_size, self.temperature = group_size, temperature
        self.symmetric = symmetric
        self.nonnegative = symmetric and not learned
        count = 2 if symmetric else 1
        self.raw = nn.Parameter(torch.rand(count)) if learned else None

    def groups(self, channels: int) -> int:
        size = self.group_size or channels
        if channels % size:
            raise ValueError(f"{channels} channels do not divide into groups of {size}")
        return channels // size

    def _coefficients(self) -> tuple[Tensor | float, ...]:
        if self.raw is None:
            return (1.0, 1.0) if self.symmetric else (1.0,)
        return tuple(functional.softplus(self.raw))

    def value_and_grad(self, u: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        grouped = u.unflatten(1, (self.groups(u.shape[1]), -1))
        value, grad = 0.0, 0.0
        for sign, coefficient in zip((1, -1), self._coefficients(), strict=False):
            scaled = sign * self.temperature * grouped
            value = value + coefficient / self.temperature * torch.logsumexp(scaled, 2)
            grad = grad + sign * coefficient * _softmax(scaled)
        if weight is not None:
            value, grad = weight * value, weight.unsqueeze(2) * grad
        return value.sum(1), grad.flatten(1, 2)

    def grad(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        grouped = u.unflatten(1, (self.groups(u.shape[1]), -1))
        total = torch.zeros_like(grouped)
        for sign, coefficient in zip((1, -1), self._coefficients(), strict=False):
            p = _softmax(sign * self.temperature * grouped)
            total = total + sign * coefficient * p
        if weight is not None:
            total = weight.unsqueeze(2) * total
        return total.flatten(1, 2)

    def curvature(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        grouped = u.unflatten(1, (self.groups(u.shape[1]), -1))
        total = torch.zeros_like(grouped)
        for sign, coefficient in zip((1, -1), self._coefficients(), strict=False):
            p = _softmax(sign * self.temperature * grouped)
            total = total + coefficient * self.temperature * p * (1 - p)
        if weight is not None:
            total = weight.unsqueeze(2) * total
        return total.flatten(1, 2)

    def curvature_bound(self, channels: int, weight: Tensor | None = None) -> Tensor:
        total = sum(self._coefficients())
        if not isinstance(total, Tensor):
            total = torch.tensor(total, dtype=torch.float64)
        slope = total * (self.temperature / 2)
        if weight is None:
            return slope.expand(channels)
        groups = _supremum(weight).expand(-1, self.groups(channels))
        return slope * groups.repeat_interleave(channels // groups.shape[1], 1)


class PooledNorm(Potential):
    """`psi(u) = sum_j (sqrt(1 + (N u^2)_j) - 1)` with a nonnegative mixing `N`.

    Gradient `u N^T(1 / sqrt(1 + N u^2))`. Each term is a norm of `(1, sqrt(N_j) u)`, hence convex, and
    `0 <= Hessian <= Diag(N^T 1)`: differentiating the gradient once more, the diagonal part is at
    most `N^T 1` and the rest is negative semidefinite.

    `N = I` gives pseudo-Huber ridges, a block `N` group norms, a spatial one overlapping group sparsity,
    a dense one a convex divisive normalisation.

    :param group_size: start from sums over consecutive channels (1: ridges).
    :param window: odd side of the spatial pooling window (1: none).
    :param learned: learn `N` (dense in channels), starting near the fixed one.
    """

    nonnegative = True

    def __init__(
        self, channels: int, *, group_size: int = 1, window: int = 1, learned: bool = False
    ) -> None:
        super().__init__()
        if channels % group_size:
            raise ValueError(f"{channels} channels do not divide into groups of {group_size}")
        if window < 1 or window % 2 == 0:
            raise ValueError(f"the pooling window must be odd, got {window}")
        self.window, self.radius = window, window // 2
        mixing = torch.zeros(channels // group_size, channels, window, window)
        for group in range(channels // group_size):
            mixing[group, group * group_size : (group + 1) * group_size] = 1 / window**2
        self.group_size = group_size
        self.raw_mixing: nn.Parameter | None = None
        if learned:
            floor = 0.05 / (channels * window**2)
            self.raw_mixing = nn.Parameter((mixing + floor).expm1().log())
        else:
            self.register_buffer("fixed_mixing", mixing, persistent=False)

    def groups(self, channels: int) -> int:
        return channels // self.group_size

    @property
    def mixing(self) -> Tensor:
        """`N`, `(groups, channels, window, window)`."""
        if self.raw_mixing is None:
            return self.fixed_mixing
        return functional.softplus(self.raw_mixing)

    @property
    def _blockwise(self) -> bool:
        """Whether `N` only sums over blocks of channels, which needs no convolution."""
        return self.raw_mixing is None and self.window == 1

    def _pool(self, square: Tensor) -> Tensor:
        if self._blockwise:
            if self.group_size == 1:
                return square
            return square.unflatten(1, (-1, self.group_size)).sum(2)
        mixing = self.mixing
        if square.ndim == 2:
            return square @ mixing.sum((2, 3)).mT
        return functional.conv2d(square, mixing, padding=self.window // 2)

    def _spread(self, factor: Tensor) -> Tensor:
        if self._blockwise:
            return factor.repeat_interleave(self.group_size, 1) if self.group_size > 1 else factor
        mixing = self.mixing
        if factor.ndim == 2:
            return factor @ mixing.sum((2, 3))
        return functional.conv_transpose2d(factor, mixing, padding=self.window // 2)

    def value_and_grad(self, u: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        pooled = self._pool(u * u)
        factor = torch.rsqrt(1 + pooled)
        # sqrt(1 + p) - 1 without cancellation for small p
        value = pooled * (factor / (1 + factor))
        if weight is not None:
            value, factor = weight * value, weight * factor
        return value.sum(1), u * self._spread(factor)

    def grad(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        factor = torch.rsqrt(1 + self._pool(u * u))
        return u * self._spread(factor if weight is None else weight * factor)

    def curvature(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        # The part of the diagonal that is exact for ridges far from and near to zero:
        # N^T(w n^-3) with n = sqrt(1 + N u^2), below the majorant N^T(w / n).
        factor = torch.rsqrt(1 + self._pool(u * u)) ** 3
        return self._spread(factor if weight is None else weight * factor)

    def curvature_bound(self, channels: int, weight: Tensor | None = None) -> Tensor:
        mixing = self.mixing.sum((2, 3))
        if weight is None:
            return mixing.sum(0)
        return _supremum(weight).expand(-1, mixing.shape[0]) @ mixing
