"""Input convex gradient networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convexreg.networks.base import GradientNetwork, Sigma
from convexreg.networks.operators import Dense
from convexreg.networks.potentials import softplus


class ICGN(GradientNetwork):
    """Input convex gradient network (Richter-Powell, Lorraine & Amos 2021) over one sigmoid layer:

        g(x) = int_0^1 J(t x)^T J(t x) x dt,   J the Jacobian of s(W x + b)
             = W^T [ Q'(W x + b) - Q'(b) ],    Q' = s^2 / 2 - s^3 / 3, since Q'' = s'^2

    One layer is the only case where the integral is known to be a gradient: that of a sum of convex ridges
    with `psi''(u) = s'(u + b)^2 <= 1/16` and `g(0) = 0`. Its closed form is used because quadrature, as
    in that paper, is neither a gradient nor monotone for large weights.
    """

    def __init__(self, dimension: int, hidden: int) -> None:
        super().__init__()
        self.operator = Dense(dimension, hidden)
        bound = dimension**-0.5
        self.bias = nn.Parameter(torch.empty(hidden).uniform_(-bound, bound))

    @property
    def monotone(self) -> bool:
        return True

    def forward(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        del sigma
        u = self.operator(x)
        return self.operator.adjoint(_integrated(u + self.bias) - _integrated(self.bias))

    def density(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        """`psi(u) = Q(u + b) - Q(b) - Q'(b) u`, `Q = (softplus - s + s^2) / 6`."""
        del sigma
        u, b = self.operator(x), self.bias
        change = _twice_integrated(u + b) - _twice_integrated(b)
        return (change - _integrated(b) * u).sum(1)

    def lipschitz(self, image_size: tuple[int, int] | None = None, sigma: Sigma = None) -> Tensor:
        """`|W|^2 / 16`."""
        del image_size, sigma
        return self.operator.squared_norm() / 16


def _integrated(v: Tensor) -> Tensor:
    s = torch.sigmoid(v)
    return s * s * (1 / 2 - s / 3)


def _twice_integrated(v: Tensor) -> Tensor:
    s = torch.sigmoid(v)
    return (softplus(v) - s + s * s) / 6
