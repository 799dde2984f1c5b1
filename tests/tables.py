"""The rows of the test tables: a new class is a new row here.

Every row is a factory, so that a test can draw many instances; `perturbed` moves the parameters away
from their starting values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from torch import nn

from convexreg.networks.operators import Convolution, Dense, LinearOperator
from convexreg.networks.potentials import (
    InfimalConvolution,
    LinearSpline,
    LogCosh,
    LogSumExp,
    MaxEnvelope,
    PooledNorm,
    Potential,
    PseudoHuber,
    Quadratic,
    ScaledSigmoids,
    Softplus,
    TanhMixture,
)

Module = TypeVar("Module", bound=nn.Module)


def over(name: str, table: Mapping[str, Any]) -> pytest.MarkDecorator:
    """Run a test once per row."""
    return pytest.mark.parametrize(name, table.values(), ids=table.keys())


def perturbed(module: Module, scale: float = 0.5) -> Module:
    """The module, frozen and in float64, with normal noise on all its parameters."""
    module = module.double().requires_grad_(False)
    for parameter in module.parameters():
        parameter.data += scale * parameter.new_empty(parameter.shape).normal_()
    return module


@dataclass(frozen=True)
class OperatorCase:
    """An operator with the shape of its inputs.

    :ivar ceiling: documented upper limit of bound / norm on that shape.
    :ivar exact: whether the bound is the norm, given the size.
    """

    build: Callable[[], LinearOperator]
    shape: tuple[int, ...]
    ceiling: float
    exact: bool = False


def _convolution(*args: Any, **options: Any) -> Callable[[], LinearOperator]:
    return lambda: Convolution(*args, **options)


OPERATORS: dict[str, OperatorCase] = {
    "dense-tall": OperatorCase(lambda: Dense(5, 9), (5,), 1 + 1e-9, True),
    "dense-wide": OperatorCase(lambda: Dense(9, 4), (9,), 1 + 1e-9, True),
    "circular": OperatorCase(
        _convolution((1, 6), (5,), padding="circular"), (1, 9, 10), 1 + 1e-9, True
    ),
    "circular-chain": OperatorCase(
        _convolution((1, 2, 5), (3, 3), padding="circular"), (1, 8, 11), 1 + 1e-9, True
    ),
    "circular-staged": OperatorCase(
        _convolution((1, 2, 5), (3, 3), padding="circular", staged=True), (1, 8, 11), 1 + 1e-9, True
    ),
    "circular-colour": OperatorCase(
        _convolution((3, 4, 5), (3, 3), padding="circular"), (3, 5, 6), 1 + 1e-9, True
    ),
    "circular-wrapping": OperatorCase(
        _convolution((1, 4), (9,), padding="circular", zero_mean=False), (1, 4, 5), 1 + 1e-9, True
    ),
    "zero": OperatorCase(_convolution((1, 6), (5,), padding="zero"), (1, 9, 10), 1.6),
    "zero-with-mean": OperatorCase(
        _convolution((1, 6), (5,), padding="zero", zero_mean=False), (1, 10, 9), 1.8
    ),
    "zero-one-filter": OperatorCase(_convolution((1, 1), (3,), padding="zero"), (1, 8, 9), 1.3),
    "zero-pointwise": OperatorCase(
        _convolution((2, 5), (1,), padding="zero", zero_mean=False), (2, 4, 5), 1 + 1e-9
    ),
    "zero-chain": OperatorCase(_convolution((1, 2, 5), (3, 3), padding="zero"), (1, 8, 11), 1.6),
    "zero-colour": OperatorCase(_convolution((3, 4, 5), (3, 3), padding="zero"), (3, 5, 6), 2.5),
    "zero-staged": OperatorCase(
        _convolution((1, 2, 5), (3, 3), padding="zero", staged=True), (1, 8, 11), 30.0
    ),
    "zero-staged-colour": OperatorCase(
        _convolution((2, 3, 4, 5), (3, 1, 3), padding="zero", staged=True), (2, 5, 7), 120.0
    ),
}


@dataclass(frozen=True)
class PotentialCase:
    """A potential over `channels` channels, a sum of `groups` terms.

    :ivar local: whether each pixel has a value of its own (no pooling window).
    :ivar attained: share of the curvature bound that is met somewhere.
    """

    build: Callable[[], Potential]
    channels: int = 6
    groups: int = 6
    local: bool = True
    attained: float = 0.9


POTENTIALS: dict[str, PotentialCase] = {
    "log-cosh": PotentialCase(LogCosh),
    "softplus": PotentialCase(Softplus),
    "pseudo-huber": PotentialCase(PseudoHuber),
    "quadratic": PotentialCase(Quadratic),
    "tanh-mixture": PotentialCase(lambda: TanhMixture(6)),
    "scaled-sigmoids": PotentialCase(lambda: ScaledSigmoids(6, 4), attained=0.4),
    "spline": PotentialCase(lambda: LinearSpline(6, 7, 1.5)),
    "spline-shared": PotentialCase(lambda: LinearSpline(1, 21, 2.0)),
    "spline-nonconvex": PotentialCase(lambda: LinearSpline(6, 9, 1.5, monotone=False)),
    "log-sum-exp": PotentialCase(LogSumExp, groups=1),
    "log-sum-exp-groups": PotentialCase(lambda: LogSumExp(3, temperature=2.5), groups=2),
    "log-sum-exp-symmetric": PotentialCase(
        lambda: LogSumExp(2, temperature=0.7, symmetric=True), groups=3
    ),
    "log-sum-exp-learned": PotentialCase(
        lambda: LogSumExp(3, temperature=3.0, symmetric=True, learned=True), groups=2, attained=0.5
    ),
    "latent": PotentialCase(lambda: InfimalConvolution(6, 9), groups=1),
    "latent-few": PotentialCase(lambda: InfimalConvolution(6, 3), groups=1),
    "latent-blocks": PotentialCase(
        lambda: InfimalConvolution(6, 9, block=2), groups=1, local=False
    ),
    "max-envelope": PotentialCase(lambda: MaxEnvelope(3), groups=2),
    "max-envelope-ridges": PotentialCase(lambda: MaxEnvelope(1)),
    "pooled-ridges": PotentialCase(lambda: PooledNorm(6)),
    "pooled-groups": PotentialCase(lambda: PooledNorm(6, group_size=2), groups=3),
    "pooled-learned": PotentialCase(lambda: PooledNorm(6, group_size=3, learned=True), groups=2),
    "pooled-window": PotentialCase(lambda: PooledNorm(6, group_size=2, window=3), 6, 3, False),
    "pooled-window-learned": PotentialCase(
        lambda: PooledNorm(6, group_size=2, window=3, learned=True), 6, 3, False
    ),
}
