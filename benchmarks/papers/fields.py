"""The functions whose gradients are learned."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.papers.ensemble import Training


@dataclass(frozen=True)
class Field:
    """A function on the box `[low, high]^dimension`.

    :ivar potential: `(..., dimension)` to `(...)`.
    """

    potential: Callable[[Tensor], Tensor]
    dimension: int = 2
    low: float = 0.0
    high: float = 1.0

    def gradient(self, x: Tensor) -> Tensor:
        """`grad f(x)` in the shape of `x`, by automatic differentiation."""
        return torch.func.grad(lambda points: self.potential(points).sum())(x)

    def sample(self, *shape: int, generator: torch.Generator) -> Tensor:
        """Uniform points of the box, `(*shape, dimension)`."""
        unit = torch.rand(*shape, self.dimension, generator=generator)
        return self.low + (self.high - self.low) * unit

    def data(self, training: Training, generator: torch.Generator) -> list[list[Tensor]]:
        """So many points of every trial as the training wants, each with the field there."""
        points = [self.sample(training.trials, n, generator=generator) for n in training.points]
        return [[x, self.gradient(x)] for x in points]


def grid(side: int) -> Tensor:
    """`side x side` uniformly spaced points of the closed unit square, `(side^2, 2)`, row by row."""
    axis = torch.linspace(0, 1, side)
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([columns, rows], -1).reshape(-1, 2)


def _convex(x: Tensor) -> Tensor:
    a, b = x.unbind(-1)
    return a**4 + a**2 / 2 + a * b / 2 + 3 * b**2 / 2 - b**3 / 3


def _nonconvex(x: Tensor) -> Tensor:
    a, b = x.unbind(-1)
    wave = torch.sin(2 * math.pi * a) * torch.cos(math.pi * b) / 4
    return wave + a * b / 2 - b**2 / 2


CONVEX = Field(_convex)
"""`x1^4 + x1^2/2 + x1 x2/2 + 3 x2^2/2 - x2^3/3` (2024 paper, eq. 46)."""

NONCONVEX = Field(_nonconvex)
"""`sin(2 pi x1) cos(pi x2)/4 + x1 x2/2 - x2^2/2` (2024 paper, eq. 48)."""

# Convex functions of three variables. In two, the maximum and log-sum-exp are convex ridges plus a
# linear function; in three they are no (limits of) sums of convex ridges.
BEYOND_RIDGES = {
    "maximum": Field(lambda x: x.amax(-1), dimension=3, low=-1),
    "log-sum-exp": Field(lambda x: torch.logsumexp(8 * x, -1) / 8, dimension=3, low=-1),
    "product": Field(lambda x: -(x.prod(-1) ** (1 / 3)), dimension=3, low=0.1, high=1.1),
    "norm": Field(lambda x: torch.linalg.vector_norm(x, dim=-1), dimension=3, low=-1),
}
"""The kinds of function the 2024 paper names as outside the sums of convex ridges (eqs 1-4)."""


class PolyMax:
    """Gradient of the largest of three quadratic forms on `[0, 1]^d`, of mean norm one.

    `f(x) = max_A (x - 1/2)^T A (x - 1/2)` over `S = (2 + sin 4 pi a) / D`, `P = (1 + 2 a) / D` and
    `Q = (3 - 2 a) / D`, elementwise, with `a_ij = (i + j - 2) / (2 d - 2)` and
    `D_ij = ln(d) (1 + |i - j|)`; the gradient is divided by its mean norm over 10,000 uniform points.
    """

    def __init__(self, dimension: int, *, seed: int = 0) -> None:
        self.dimension = dimension
        index = torch.arange(dimension, dtype=torch.float32)
        a = (index[:, None] + index) / (2 * dimension - 2)
        distance = math.log(dimension) * (1 + (index[:, None] - index).abs())
        forms = [2 + torch.sin(4 * math.pi * a), 1 + 2 * a, 3 - 2 * a]
        self.forms = torch.stack([form / distance for form in forms])
        self.scale = 1.0
        points = torch.rand(10_000, dimension, generator=torch.Generator().manual_seed(seed))
        self.scale = 1 / float(self.gradient(points).norm(dim=-1).mean())

    def gradient(self, x: Tensor) -> Tensor:
        """`(..., d)` to `(..., d)`."""
        centred = x - 0.5
        products = torch.stack([centred @ form for form in self.forms])
        largest = (products * centred).sum(-1).argmax(0)
        chosen = torch.take_along_dim(products, largest[None, ..., None], 0).squeeze(0)
        return 2 * self.scale * chosen
