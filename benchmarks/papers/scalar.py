"""Gradient networks obtained by differentiating a scalar network."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from convexreg.networks.base import GradientNetwork, Sigma


class ScalarNetwork(GradientNetwork):
    """A network `f: R^n -> R`, used through its gradient `g = grad f` by automatic differentiation.

    Subclasses give `value`. The gradient can be differentiated again, and works inside `torch.func`
    transforms.
    """

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """`f(x)`, `(B, n)` to `(B,)` in the dtype of `x`."""

    def forward(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        del sigma
        return torch.func.grad(lambda points: self.value(points).sum())(x)

    def density(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        """`f(x)`: vectors have one position."""
        del sigma
        return self.value(x)
