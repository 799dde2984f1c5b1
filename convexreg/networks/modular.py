"""The module of modular gradient networks (2024 paper, Thms 10 and 12): `rho(phi(z)) W^T grad phi(z)`."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from convexreg.networks.base import ConditionedNetwork, Sigma, squeeze_batch
from convexreg.networks.conditioning import Conditioning
from convexreg.networks.operators import LinearOperator, Reach
from convexreg.networks.potentials import Potential, ScaledSigmoids, per_channel
from convexreg.networks.quadrature import line_integral


class Rho(nn.Module, ABC):
    """`rho`, elementwise, with its antiderivative `P(t) = int_0^t rho`."""

    monotone: bool
    """Whether `rho` is nonnegative and nondecreasing (see `needs_nonnegative`)."""
    needs_nonnegative: bool = False
    """Whether that holds for nonnegative arguments only."""

    @abstractmethod
    def forward(self, value: Tensor) -> Tensor:
        """`rho(t)`."""

    @abstractmethod
    def integral(self, value: Tensor) -> Tensor:
        """`P(t)`."""


class IdentityRho(Rho):
    """`rho(t) = t`, the choice of M-MGN (2023 paper); monotone on nonnegative arguments."""

    monotone = True
    needs_nonnegative = True

    def forward(self, value: Tensor) -> Tensor:
        return value

    def integral(self, value: Tensor) -> Tensor:
        return value * value / 2


class LearnedRho(Rho):
    """`softplus` of a one-dimensional mGradNet (Lemma 6): learned, nonnegative and nondecreasing.

    The antiderivative is a Gauss-Legendre integral, see `convexreg.networks.quadrature`.
    """

    monotone = True

    def __init__(self, terms: int = 8) -> None:
        super().__init__()
        self.inner = ScaledSigmoids(1, terms)

    def forward(self, value: Tensor) -> Tensor:
        return functional.softplus(self.inner.activation(value.unsqueeze(1)).squeeze(1))

    def integral(self, value: Tensor) -> Tensor:
        return line_integral(self, value)


class GradientModule(ConditionedNetwork):
    """One module `rho(phi(z)) W^T grad phi(z)` with `z = W x + b` of a modular network (Thm 12).

    Potential `P(phi(W x + b))` summed over positions, `P' = rho`. On images `phi` and `rho` act
    locally, at every pixel. Monotone when `phi` is convex and `rho` is nonnegative and nondecreasing
    on the values of `phi` (Cor. 12.1). With `rho = 1` (the default) the Lipschitz constant is
    `|| Diag(D)^{1/2} W ||^2` with `D` the potential's curvature bound; a `rho` that grows without
    bound has none.

    :param conditioning: noise conditioning, `weight(sigma) phi(scale(sigma) z)`.
    :raises ValueError: `rho` with a potential of blocks of pixels.
    """

    def __init__(
        self,
        operator: LinearOperator,
        potential: Potential,
        *,
        rho: Rho | None = None,
        bias: bool = True,
        conditioning: Conditioning | None = None,
    ) -> None:
        super().__init__()
        if rho is not None and potential.block > 1:
            raise ValueError("rho acts at every pixel: it takes potentials of single pixels")
        self.operator, self.phi, self.rho = operator, potential, rho
        self.conditioning = conditioning
        self.bias = (
            nn.Parameter(torch.zeros(operator.out_channels, dtype=torch.float32)) if bias else None
        )

    @property
    def monotone(self) -> bool:
        if self.rho is None:
            return self.phi.convex
        defined = self.phi.nonnegative or not self.rho.needs_nonnegative
        return self.phi.convex and self.rho.monotone and defined

    def argument(
        self, x: Tensor, sigma: Sigma, step: int = 1
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What `phi` is evaluated at, with the scale and the weight of the noise conditioning.

        :param step: only every so many rows and columns of it, see `operators.sampled`.
        """
        z = self.operator.sampled(x, step)
        if self.bias is not None:
            z = z + per_channel(self.bias, z)
        if self.conditioning is None:
            return z, None, None
        scale, weight = self.conditioning.factors(z, sigma)
        return scale * z, scale, weight

    def _pull_back(self, s: Tensor, scale: Tensor | None) -> Tensor:
        return self.operator.adjoint(s if scale is None else scale * s)

    def forward(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        z, scale, weight = self.argument(x, sigma)
        if self.rho is None:
            return self._pull_back(self.phi.grad(z, weight), scale)
        value, s = self.phi.value_and_grad(z, weight)
        return self._pull_back(self.rho(value).unsqueeze(1) * s, scale)

    def density(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        z, _, weight = self.argument(x, sigma)
        value = self.phi.value(z, weight)
        return value if self.rho is None else self.rho.integral(value)

    def density_and_grad(self, x: Tensor, sigma: Sigma = None) -> tuple[Tensor, Tensor]:
        z, scale, weight = self.argument(x, sigma)
        value, s = self.phi.value_and_grad(z, weight)
        if self.rho is not None:
            s = self.rho(value).unsqueeze(1) * s
            value = self.rho.integral(value)
        return value, self._pull_back(s, scale)

    @property
    def terms(self) -> int:
        if self.rho is not None:
            raise NotImplementedError("with rho the module is one term that no weights divide")
        return self.phi.groups(self.operator.out_channels)

    def magnitudes(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        return self.phi.magnitude(self.argument(x, sigma)[0])

    def reach(self) -> Reach | None:
        there = self.operator.reach()
        if there is None or self.phi.block > 1 or (there.circular and self.phi.radius):
            return None  # blocks begin at the first pixel, a pooling window pads by zeros
        return Reach(2 * (there.radius + self.phi.radius), there.circular)

    def lipschitz(self, image_size: tuple[int, int] | None = None, sigma: Sigma = None) -> Tensor:
        if self.rho is not None:
            return torch.tensor(float("inf"), dtype=torch.float32, device="cpu")
        scale = weight = None
        if self.conditioning is not None:
            scale, weight = self.conditioning(sigma)
        bound = self.phi.curvature_bound(self.operator.out_channels, weight)
        if scale is not None:
            bound = bound * scale**2
        return squeeze_batch(self.operator.squared_norm(bound, image_size))

    def curvatures(
        self, x: Tensor, sigma: Sigma = None, step: int = 1
    ) -> list[tuple[LinearOperator, Tensor]] | None:
        if self.rho is not None:
            return None
        z, scale, weight = self.sampled(x, step).argument(x, sigma, step)
        curvature = self.phi.curvature(z, weight)
        return [(self.operator, curvature if scale is None else scale**2 * curvature)]
