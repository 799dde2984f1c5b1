"""Scalar outer functions `rho` of modular gradient networks (2024 paper, Thms 10 and 12)."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn import functional

from convexreg.networks.potentials import ScaledSigmoids
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
