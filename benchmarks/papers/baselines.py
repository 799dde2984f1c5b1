"""The networks that the papers compare with: perceptrons, and input convex networks by their gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from convexreg.networks.operators import Dense
from convexreg.networks.potentials import softplus


class MLP(nn.Module):
    """A tanh network `R^n -> R^m`. Its Jacobian is not symmetric: it is no gradient network.

    :param widths: of all layers, `(n, hidden ..., m)`.
    :param bias_out: whether the last layer has a bias.
    """

    def __init__(self, widths: Sequence[int], *, bias_out: bool = True) -> None:
        super().__init__()
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


class ScalarNetwork(nn.Module, ABC):
    """The gradient of a network `f: R^n -> R`, by automatic differentiation."""

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """`f(x)`, `(B, n)` to `(B,)`."""

    def forward(self, x: Tensor) -> Tensor:
        """`grad f(x)` in the shape of `x`; it can be differentiated again, also inside `torch.func`."""
        return torch.func.grad(lambda points: self.value(points).sum())(x)


class MLPGradient(ScalarNetwork):
    """Gradient of a scalar tanh network, not monotone.

    :param dimension: `n`.
    :param widths: of the hidden layers.
    """

    def __init__(self, dimension: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.network = MLP([dimension, *widths, 1], bias_out=False)

    def value(self, x: Tensor) -> Tensor:
        return self.network(x).squeeze(-1)


class ICNN(ScalarNetwork):
    """Input convex neural network (Amos, Xu & Kolter 2017, eq. 2), fully connected:

        z_1 = s(U_0 x + b_0),   z_{k+1} = s(A_k z_k + U_k x + b_k),   f(x) = <a, z_K> + <u, x>

    with `s = softplus` and `A_k, a >= 0`, so that `f` is convex: every unit is a convex nondecreasing
    function of convex functions.

    :param dimension: `n`, the size of `x`.
    :param widths: units of the hidden layers `z_1 .. z_K`, at least one.
    :param clipped: the nonnegative weights are the positive parts of parameters drawn symmetrically
        around zero, as first published, where half of them start, and stay, without a gradient. By
        default they are `softplus` of the parameters, which trains much better.
    """

    def __init__(self, dimension: int, widths: Sequence[int], *, clipped: bool = False) -> None:
        super().__init__()
        self.positive = functional.relu if clipped else functional.softplus
        self.skips = nn.ModuleList(nn.Linear(dimension, width) for width in widths)
        self.linear = nn.Parameter(torch.zeros(dimension))
        # A_1 .. A_{K-1} and a^T
        self.raw_mixings = nn.ParameterList(
            _initial_mixing(before, after, clipped) for before, after in pairwise([*widths, 1])
        )

    def value(self, x: Tensor) -> Tensor:
        first, *skips = self.skips
        *mixings, last = (self.positive(raw) for raw in self.raw_mixings)
        z = softplus(first(x))
        for skip, mixing in zip(skips, mixings, strict=True):
            z = softplus(skip(x) + z @ mixing.mT)
        return (z @ last.mT).squeeze(-1) + x @ self.linear


def _initial_mixing(before: int, after: int, clipped: bool) -> Tensor:
    uniform = torch.rand(after, before)
    if clipped:
        return (2 * uniform - 1) / before**0.5
    # weights uniform up to 2 / before: a layer starts from the mean of the one below
    return (2 * uniform / before).clamp_min(1e-4).expm1().log()


class ICGN(nn.Module):
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

    def forward(self, x: Tensor) -> Tensor:
        """`(B, n)` to `(B, n)`."""
        u = self.operator(x) + self.bias
        return self.operator.adjoint(_integrated(u) - _integrated(self.bias))


def _integrated(v: Tensor) -> Tensor:
    s = torch.sigmoid(v)
    return s * s * (1 / 2 - s / 3)
