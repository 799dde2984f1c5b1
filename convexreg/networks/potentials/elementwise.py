"""Elementwise potentials: convex ridges with closed-form or learned profiles."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from convexreg.networks.potentials.base import ElementwisePotential, per_channel


def softplus(u: Tensor) -> Tensor:
    """`log(1 + exp u)`, taken for `u` only where the two agree in float64: PyTorch does so from 20, where
    they still differ by 2e-9, and a potential with that jump is not convex."""
    return functional.softplus(u, threshold=40)


class LogCosh(ElementwisePotential):
    """`psi(u) = log cosh u`, `psi' = tanh`, `0 < psi'' <= 1`."""

    nonnegative = True

    def density(self, u: Tensor) -> Tensor:
        # cancels for small u to eps |u|, where a constant log 2 would leave eps
        return u.abs() + torch.log1p(torch.expm1(-2 * u.abs()) / 2)

    def activation(self, u: Tensor) -> Tensor:
        return torch.tanh(u)

    def scalar_curvature_bound(self) -> float:
        return 1.0


class Softplus(ElementwisePotential):
    """`psi(u) = log(1 + exp u)`, `psi' = sigmoid`, `0 < psi'' <= 1/4`."""

    nonnegative = True

    def density(self, u: Tensor) -> Tensor:
        return softplus(u)

    def activation(self, u: Tensor) -> Tensor:
        return torch.sigmoid(u)

    def scalar_curvature_bound(self) -> float:
        return 0.25


class PseudoHuber(ElementwisePotential):
    """`psi(u) = sqrt(1 + u^2) - 1`, `psi' = u / sqrt(1 + u^2)`, `0 < psi'' <= 1`."""

    nonnegative = True

    def density(self, u: Tensor) -> Tensor:
        # u^2 / (1 + sqrt(1 + u^2)): no cancellation for small u
        square = u * u
        return square / (1 + torch.sqrt(1 + square))

    def activation(self, u: Tensor) -> Tensor:
        return u * torch.rsqrt(1 + u * u)

    def scalar_curvature_bound(self) -> float:
        return 1.0


class Quadratic(ElementwisePotential):
    """`psi(u) = u^2 / 2`, `psi' = u`, `psi'' = 1`: the Gram term `V^T V x` of the 2023 paper."""

    nonnegative = True

    def density(self, u: Tensor) -> Tensor:
        return u * u / 2

    def activation(self, u: Tensor) -> Tensor:
        return u

    def scalar_curvature_bound(self) -> float:
        return 1.0


class TanhMixture(ElementwisePotential):
    """Learned activation of the released gradient networks, `a tanh(u) + b (u - tanh u)`.

    `a, b >= 0` per channel, so that `psi'' = a sech^2 + b tanh^2` lies between 0 and `max(a, b)`.
    """

    nonnegative = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.rand(2, channels, dtype=torch.float32))

    def density(self, u: Tensor) -> Tensor:
        a, b = (per_channel(row, u) for row in functional.softplus(self.raw))
        log_cosh = LogCosh().density(u)
        return a * log_cosh + b * (u * u / 2 - log_cosh)

    def activation(self, u: Tensor) -> Tensor:
        a, b = (per_channel(row, u) for row in functional.softplus(self.raw))
        tanh = torch.tanh(u)
        return a * tanh + b * (u - tanh)

    def scalar_curvature_bound(self) -> Tensor:
        return functional.softplus(self.raw).amax(0)


class ScaledSigmoids(ElementwisePotential):
    """`psi_c'(u) = sum_k a_ck sigmoid(w_ck u + b_ck)` with `a, w >= 0` (2024 paper, Thm 7).

    Approximates any nondecreasing scalar function on an interval as the number of terms grows.
    `psi_c'' <= sum_k a_ck w_ck / 4`.
    """

    nonnegative = True

    def __init__(self, channels: int, terms: int) -> None:
        super().__init__()
        self.raw_height = nn.Parameter(torch.rand(channels, terms, dtype=torch.float32))
        self.raw_width = nn.Parameter(torch.rand(channels, terms, dtype=torch.float32) + 1)
        self.bias = nn.Parameter(torch.randn(channels, terms, dtype=torch.float32))

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
        return (height / width * softplus(argument)).sum(-1)

    def activation(self, u: Tensor) -> Tensor:
        height, _, argument = self._terms(u)
        return (height * torch.sigmoid(argument)).sum(-1)

    def scalar_curvature_bound(self) -> Tensor:
        product = functional.softplus(self.raw_height) * functional.softplus(self.raw_width)
        return product.sum(-1) / 4
