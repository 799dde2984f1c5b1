"""Cascaded gradient networks: one operator, elementwise activations in layers (GradNet-C, mGradNet-C)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from convexreg.networks.base import ConditionedNetwork, Sigma, squeeze_batch
from convexreg.networks.conditioning import Conditioning
from convexreg.networks.operators import LinearOperator, Reach
from convexreg.networks.potentials import ElementwisePotential, derivative, per_channel
from convexreg.networks.quadrature import line_integral


class GradNetC(ConditionedNetwork):
    """Cascaded gradient network (2024 paper, eqs 38-40), one shared operator `W`:

        z_0 = beta_0 o (W x) + b_0
        z_l = beta_l o (W x) + b_l + alpha_l o s_l(z_{l-1}),     l = 1 .. L-1
        g(x) = W^T [ alpha_L o s_L(z_{L-1}) ] + b_L

    The activations act elementwise, so every channel of the output depends on that channel of `W x`
    only and the Jacobian is `W^T Diag(.) W`. With `monotone` the vectors `alpha, beta` are `softplus`
    of the parameters and the potential is convex (Cor. 11.1); it is then a sum of convex ridges.
    The potential has no closed form: it is a Gauss-Legendre line integral per channel.

    :param activations: `s_1 .. s_L`, elementwise potentials (their gradients are used).
    :param unit_scales: fix `alpha = beta = 1` (the cascade of C-MGN).
    :param conditioning: noise conditioning of the channels of `W x`.
    :raises ValueError: no activation, or a decreasing one in a monotone network.
    """

    def __init__(
        self,
        operator: LinearOperator,
        activations: Sequence[ElementwisePotential],
        *,
        monotone: bool = False,
        unit_scales: bool = False,
        conditioning: Conditioning | None = None,
    ) -> None:
        super().__init__()
        if not activations:
            raise ValueError("a cascade needs at least one activation")
        if monotone and not all(activation.convex for activation in activations):
            raise ValueError("a monotone cascade needs nondecreasing activations (Cor. 11.1)")
        depth, channels = len(activations), operator.out_channels
        self.operator = operator
        self.activations = cast("Sequence[ElementwisePotential]", nn.ModuleList(activations))
        self.conditioning = conditioning
        self._monotone, self._unit_scales = monotone, unit_scales
        if not unit_scales:
            self.raw_alpha = nn.Parameter(torch.rand(depth, channels, dtype=torch.float32))
            self.raw_beta = nn.Parameter(torch.rand(depth, channels, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(depth, channels, dtype=torch.float32))
        self.output_bias = nn.Parameter(torch.zeros(operator.in_channels, dtype=torch.float32))

    @property
    def monotone(self) -> bool:
        return self._monotone

    def scales(self) -> tuple[Tensor, Tensor]:
        """`alpha_1 .. alpha_L` and `beta_0 .. beta_{L-1}`, `(L, C)` each."""
        if self._unit_scales:
            return torch.ones_like(self.bias), torch.ones_like(self.bias)
        if self._monotone:
            return functional.softplus(self.raw_alpha), functional.softplus(self.raw_beta)
        return self.raw_alpha, self.raw_beta

    def cascade(self, u: Tensor) -> Tensor:
        """The scalar activation of every channel: `u = W x` to `alpha_L o s_L(z_{L-1})`."""
        hidden: Tensor | None = None
        for alpha, beta, bias, activation in zip(
            *self.scales(), self.bias, self.activations, strict=True
        ):
            z = per_channel(beta, u) * u + per_channel(bias, u)
            if hidden is not None:
                z = z + hidden
            hidden = per_channel(alpha, u) * activation.activation(z)
        assert hidden is not None
        return hidden

    def _argument(
        self, x: Tensor, sigma: Sigma, step: int = 1
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """What the cascade is evaluated at, with scale and weight of the noise conditioning."""
        u = self.operator.sampled(x, step)
        if self.conditioning is None:
            return u, None
        scale, weight = self.conditioning.factors(u, sigma)
        return scale * u, (scale, weight)

    def _pull_back(self, u: Tensor, factors: tuple[Tensor, Tensor] | None) -> Tensor:
        s = self.cascade(u)
        if factors is not None:
            s = factors[1] * factors[0] * s
        gradient = self.operator.adjoint(s)
        return gradient + per_channel(self.output_bias, gradient)

    def _integral(self, x: Tensor, u: Tensor, factors: tuple[Tensor, Tensor] | None) -> Tensor:
        density = line_integral(self.cascade, u)
        if factors is not None:
            density = factors[1] * density
        return density.sum(1) + (per_channel(self.output_bias, x) * x).sum(1)

    def forward(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        return self._pull_back(*self._argument(x, sigma))

    def density(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        return self._integral(x, *self._argument(x, sigma))

    def density_and_grad(self, x: Tensor, sigma: Sigma = None) -> tuple[Tensor, Tensor]:
        u, factors = self._argument(x, sigma)
        return self._integral(x, u, factors), self._pull_back(u, factors)

    @property
    def terms(self) -> int:
        return self.operator.out_channels

    def magnitudes(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        return self._argument(x, sigma)[0].abs()

    def reach(self) -> Reach | None:
        there = self.operator.reach()
        return None if there is None else Reach(2 * there.radius, there.circular)

    def curvature_bound(self) -> Tensor:
        """`sum_l beta_{l-1} prod_{i >= l} alpha_i sup s_i'` in absolute value, `(C,)`."""
        bound = torch.zeros_like(self.bias[0])
        for alpha, beta, activation in zip(*self.scales(), self.activations, strict=True):
            bound = alpha.abs() * activation.scalar_curvature_bound() * (bound + beta.abs())
        return bound

    def lipschitz(self, image_size: tuple[int, int] | None = None, sigma: Sigma = None) -> Tensor:
        """`|| Diag(D)^{1/2} W ||^2` with `D` the curvature bound: the Jacobian is `W^T Diag(.) W`, the
        entries at most `D` (2024 paper, eq. 41)."""
        bounds = self.curvature_bound()
        if self.conditioning is not None:
            scale, weight = self.conditioning(sigma)
            bounds = bounds * weight * scale**2
        return squeeze_batch(self.operator.squared_norm(bounds, image_size))

    def curvatures(
        self, x: Tensor, sigma: Sigma = None, step: int = 1
    ) -> list[tuple[LinearOperator, Tensor]]:
        u, factors = self.sampled(x, step)._argument(x, sigma, step)
        curvature = derivative(self.cascade, u)
        if factors is not None:
            curvature = factors[1] * factors[0] ** 2 * curvature
        return [(self.operator, curvature)]


class MGradNetC(GradNetC):
    """Monotone cascaded gradient network (2024 paper, Cor. 11.1): a sum of convex ridges."""

    def __init__(
        self,
        operator: LinearOperator,
        activations: Sequence[ElementwisePotential],
        *,
        unit_scales: bool = False,
        conditioning: Conditioning | None = None,
    ) -> None:
        super().__init__(
            operator,
            activations,
            monotone=True,
            unit_scales=unit_scales,
            conditioning=conditioning,
        )
