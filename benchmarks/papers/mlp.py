"""Multilayer perceptrons: a vector field without structure, and the gradient of a scalar one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from benchmarks.papers.scalar import ScalarNetwork
from convexreg.networks.base import Sigma


class MLP(nn.Module):
    """A tanh network `R^n -> R^m`. Its Jacobian is not symmetric: it is no gradient network.

    :param widths: of all layers, `(n, hidden ..., m)`.
    :param bias_out: whether the last layer has a bias.
    """

    def __init__(self, widths: Sequence[int], *, bias_out: bool = True) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"a network needs an input and an output width, got {list(widths)}")
        last = len(widths) - 2
        self.layers = nn.ModuleList(
            nn.Linear(before, after, bias=bias_out or index < last)
            for index, (before, after) in enumerate(pairwise(widths))
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, n)` to `(B, m)`."""
        *hidden, output = self.layers
        for layer in hidden:
            x = torch.tanh(layer(x))
        return output(x)


class MLPGradient(ScalarNetwork):
    """Gradient of a scalar tanh network: a gradient network by differentiation, not monotone.

    :param dimension: `n`.
    :param widths: of the hidden layers.
    """

    def __init__(self, dimension: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.network = MLP([dimension, *widths, 1], bias_out=False)

    @property
    def monotone(self) -> bool:
        return False

    def value(self, x: Tensor) -> Tensor:
        return self.network(x).squeeze(-1)

    def lipschitz(self, image_size: tuple[int, int] | None = None, sigma: Sigma = None) -> Tensor:
        """Infinite: no bound is proven."""
        del image_size, sigma
        return torch.tensor(float("inf"))
