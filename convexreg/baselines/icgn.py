"""Input convex gradient networks."""

from __future__ import annotations

import numpy
import torch
from torch import Tensor, nn
from torch.nn import functional

from convexreg.network import GradientNetwork, Sigma
from convexreg.operators import Dense


class ICGN(GradientNetwork):
    """Input convex gradient network (Richter-Powell, Lorraine & Amos 2021) over one sigmoid layer:

        g(x) = int_0^1 J(t x)^T J(t x) x dt,   J the Jacobian of s(W x + b)
             = W^T [ int_0^1 s'(t W x + b)^2 dt o W x ]

    by Gauss-Legendre quadrature. One layer is the only case where the integral is known to be a
    gradient: that of a sum of convex ridges with `psi''(u) = s'(u + b)^2 <= 1/16` and `g(0) = 0`.

    :param nodes: of the quadrature.
    """

    positions: Tensor
    weights: Tensor

    def __init__(self, dimension: int, hidden: int, *, nodes: int = 5) -> None:
        super().__init__()
        self.operator = Dense(dimension, hidden)
        bound = dimension**-0.5
        self.bias = nn.Parameter(torch.empty(hidden).uniform_(-bound, bound))
        positions, weights = numpy.polynomial.legendre.leggauss(nodes)
        self.register_buffer("positions", torch.tensor((positions + 1) / 2, dtype=torch.float32))
        self.register_buffer("weights", torch.tensor(weights / 2, dtype=torch.float32))

    @property
    def monotone(self) -> bool:
        return True

    def forward(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        del sigma
        u = self.operator(x)
        s = torch.sigmoid(u.unsqueeze(-1) * self.positions + self.bias.unsqueeze(-1))
        gram = (s * (1 - s)).square() @ self.weights
        return self.operator.adjoint(gram * u)

    def density(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        """In closed form: `psi(u) = Q(u + b) - Q(b) - Q'(b) u`, `Q = (softplus - s + s^2) / 6`.

        (`Q'' = s'^2`, `Q' = s^2 / 2 - s^3 / 3`.)
        """
        del sigma
        u, b = self.operator(x), self.bias
        slope = torch.sigmoid(b).square() * (1 / 2 - torch.sigmoid(b) / 3)
        return (_twice_integrated(u + b) - _twice_integrated(b) - slope * u).sum(1)

    def lipschitz(self, image_size: tuple[int, int] | None = None, sigma: Sigma = None) -> Tensor:
        """`|W|^2 / 16`."""
        del image_size, sigma
        return self.operator.squared_norm() / 16


def _twice_integrated(v: Tensor) -> Tensor:
    s = torch.sigmoid(v)
    return (functional.softplus(v, threshold=40) - s + s * s) / 6
