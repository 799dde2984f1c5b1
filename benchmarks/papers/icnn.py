"""Input convex neural networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.papers.scalar import ScalarNetwork
from convexreg.networks.base import Sigma
from convexreg.networks.potentials import softplus


class ICNN(ScalarNetwork):
    """Input convex neural network (Amos, Xu & Kolter 2017, eq. 2), fully connected:

        z_1 = s(U_0 x + b_0),   z_{k+1} = s(A_k z_k + U_k x + b_k),   f(x) = <a, z_K> + <u, x>

    with `s = softplus` and `A_k, a >= 0`, so that `f` is convex: every unit is a convex nondecreasing
    function of convex functions.

    :param dimension: `n`, the size of `x`.
    :param widths: units of the hidden layers `z_1 .. z_K`.
    :param clipped: the nonnegative weights are the positive parts of parameters drawn symmetrically
        around zero, as first published, where half of them start, and stay, without a gradient. By
        default they are `softplus` of the parameters, which trains much better.
    :raises ValueError: no hidden layer.
    """

    def __init__(self, dimension: int, widths: Sequence[int], *, clipped: bool = False) -> None:
        super().__init__()
        if not widths:
            raise ValueError("an input convex network needs at least one hidden layer")
        self.clipped = clipped
        self.skips = nn.ModuleList(nn.Linear(dimension, width) for width in widths)
        self.linear = nn.Parameter(torch.zeros(dimension))
        self.raw_mixings = nn.ParameterList(
            _initial_mixing(before, after, clipped) for before, after in pairwise([*widths, 1])
        )

    @property
    def monotone(self) -> bool:
        return True

    def _mixings(self) -> list[Tensor]:
        """`A_1 .. A_{K-1}` and `a^T`."""
        positive = functional.relu if self.clipped else functional.softplus
        return [positive(raw) for raw in self.raw_mixings]

    def value(self, x: Tensor) -> Tensor:
        mixings = self._mixings()
        z = None
        for index, skip in enumerate(self.skips):
            p = skip(x)
            z = softplus(p if z is None else p + z @ mixings[index - 1].mT)
        assert z is not None
        return (z @ mixings[-1].mT).squeeze(-1) + x @ self.linear

    def lipschitz(self, image_size: tuple[int, int] | None = None, sigma: Sigma = None) -> Tensor:
        """Bounds on every unit's slope and curvature, from layer to layer.

        A unit `softplus(p)` has slope at most that of `p` and curvature at most
        `slope(p)^2 / 4 + curvature(p)`; both are subadditive in `p = A z + U x`.
        """
        del image_size, sigma
        mixings = self._mixings()
        slope = curvature = None
        for index, skip in enumerate(self.skips):
            assert isinstance(skip, nn.Linear)
            norms = skip.weight.norm(dim=1)
            if slope is None or curvature is None:
                slope, curvature = norms, norms.square() / 4
            else:
                slope = norms + mixings[index - 1] @ slope
                curvature = slope.square() / 4 + mixings[index - 1] @ curvature
        assert curvature is not None
        return (mixings[-1] @ curvature).squeeze(0)


def _initial_mixing(before: int, after: int, clipped: bool) -> Tensor:
    uniform = torch.rand(after, before)
    if clipped:
        return (2 * uniform - 1) / before**0.5
    # weights uniform up to 2 / before: a layer starts from the mean of the one below
    return (2 * uniform / before).clamp_min(1e-4).expm1().log()
