"""Potentials of groups of channels, which leave the class of ridges."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from convexreg.networks.convolution import analysis, synthesis
from convexreg.networks.potentials.base import Potential, supremum


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
        self.raw = nn.Parameter(torch.rand(count, dtype=torch.float32)) if learned else None

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
        value, grad = torch.zeros_like(grouped[:, :, 0]), torch.zeros_like(grouped)
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
            total = torch.tensor(total, dtype=torch.float64, device="cpu")
        bound = total * (self.temperature / 2)
        if weight is None:
            return bound.expand(channels)
        groups = supremum(weight).expand(-1, self.groups(channels))
        return bound.to(weight) * groups.repeat_interleave(channels // groups.shape[1], 1)


class PooledNorm(Potential):
    """`psi(u) = sum_j (sqrt(1 + (N u^2)_j) - 1)` with a nonnegative mixing `N`.

    Gradient `u N^T(1 / sqrt(1 + N u^2))`. Each term is a norm of `(1, sqrt(N_j) u)`, hence convex, and
    `0 <= Hessian <= Diag(N^T 1)`: differentiating the gradient once more, the diagonal part is at
    most `N^T 1` and the rest is negative semidefinite.

    `N = I` gives pseudo-Huber ridges, a block `N` group norms, a spatial one overlapping group sparsity,
    a dense one a convex divisive normalisation.

    :param group_size: start from sums over consecutive channels (1: ridges).
    :param window: odd side of the spatial pooling window (1: none).
    :param learned: learn `N`, dense in channels and window, starting near groups without pooling.
    """

    nonnegative = True

    fixed_mixing: Tensor

    def __init__(
        self, channels: int, *, group_size: int = 1, window: int = 1, learned: bool = False
    ) -> None:
        super().__init__()
        if channels % group_size:
            raise ValueError(f"{channels} channels do not divide into groups of {group_size}")
        if window < 1 or window % 2 == 0:
            raise ValueError(f"the pooling window must be odd, got {window}")
        self.window, self.radius = window, window // 2
        mixing = torch.zeros(channels // group_size, channels, window, window, dtype=torch.float32)
        for group in range(channels // group_size):
            members = slice(group * group_size, (group + 1) * group_size)
            mixing[group, members, self.radius, self.radius] = 1
        self.group_size = group_size
        self.raw_mixing: nn.Parameter | None = None
        if learned:
            # far away a term pulls with sqrt(N), so that all further ones together pull with a twentieth
            floor = (0.05 / (channels * window**2)) ** 2
            self.raw_mixing = nn.Parameter((mixing + floor).double().expm1().log().float())
        else:
            pooled = mixing.sum((2, 3), keepdim=True) / window**2
            self.register_buffer("fixed_mixing", pooled.expand_as(mixing).clone(), persistent=False)

    def groups(self, channels: int) -> int:
        return channels // self.group_size

    @property
    def mixing(self) -> Tensor:
        """`N`, `(groups, channels, window, window)`."""
        if self.raw_mixing is None:
            return self.fixed_mixing
        return functional.softplus(self.raw_mixing)

    @property
    def groupwise(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether `N` only sums over blocks of channels, which needs no convolution."""
        return self.raw_mixing is None and self.window == 1

    def _pool(self, square: Tensor) -> Tensor:
        if self.groupwise:
            if self.group_size == 1:
                return square
            return square.unflatten(1, (-1, self.group_size)).sum(2)
        mixing = self.mixing
        if square.ndim == 2:
            return square @ mixing.sum((2, 3)).mT
        return analysis(square, mixing, "zero")

    def _spread(self, factor: Tensor, *, squared: bool = False) -> Tensor:
        """`N^T factor`, or with the squares of the entries of `N`."""
        if self.groupwise:  # zeros and ones
            return factor.repeat_interleave(self.group_size, 1) if self.group_size > 1 else factor
        mixing = self.mixing
        if squared and factor.ndim == 2:
            mixing = mixing.sum((2, 3), keepdim=True)
        mixing = mixing.square() if squared else mixing
        if factor.ndim == 2:
            return factor @ mixing.sum((2, 3))
        return synthesis(factor, mixing, "zero")

    def _scaled(self, u: Tensor, factor: Tensor) -> Tensor:
        """`u N^T factor`."""
        if not self.groupwise:
            return u * self._spread(factor)
        return (u.unflatten(1, (-1, self.group_size)) * factor.unsqueeze(2)).flatten(1, 2)

    def magnitude(self, u: Tensor) -> Tensor:
        """`sqrt(N u^2)`; its derivative at zero is zero."""
        tiny = torch.finfo(u.dtype).tiny
        return (self._pool(u * u) + tiny).sqrt()

    def value_and_grad(self, u: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        pooled = self._pool(u * u)
        factor = torch.rsqrt(1 + pooled)
        # sqrt(1 + p) - 1 without cancellation for small p
        value = pooled * (factor / (1 + factor))
        if weight is not None:
            value, factor = weight * value, weight * factor
        return value.sum(1), self._scaled(u, factor)

    def terms_and_grad(self, u: Tensor) -> tuple[Tensor, Tensor]:
        if not self.groupwise:
            return super().terms_and_grad(u)
        square = u * u
        pooled = square[:, 0]
        for member in range(1, u.shape[1]):
            pooled = pooled.add_(square[:, member])
        root = (pooled + 1).sqrt_()
        for member in range(u.shape[1]):
            u[:, member].div_(root)
        # sqrt(1 + p) - 1 without cancellation for small p
        return pooled.div_(root.add_(1)), u

    def grad(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        factor = torch.rsqrt(1 + self._pool(u * u))
        return self._scaled(u, factor if weight is None else weight * factor)

    def curvature(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        factor = torch.rsqrt(1 + self._pool(u * u))
        cubed = factor**3
        if weight is not None:
            factor, cubed = weight * factor, weight * cubed
        exact = self._spread(factor) - u * u * self._spread(cubed, squared=True)
        return exact.clamp_min(0)  # rounding far from zero

    def curvature_bound(self, channels: int, weight: Tensor | None = None) -> Tensor:
        mixing = self.mixing.sum((2, 3))
        if weight is None:
            return mixing.sum(0)
        return supremum(weight).expand(-1, mixing.shape[0]) @ mixing
