"""The networks that are tried: a new architecture is a new row of `NETWORKS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from convexreg.networks.base import GradientNetwork
from convexreg.networks.blocks import BlockNetwork
from convexreg.networks.cascaded import GradNetC, MGradNetC
from convexreg.networks.combinations import (
    CMGN,
    MMGN,
    GradNetM,
    LinearCombination,
    MGradNetM,
    StronglyMonotone,
)
from convexreg.networks.conditioning import NoiseScaling
from convexreg.networks.modular import GradientModule, IdentityRho, LearnedRho
from convexreg.networks.operators import Convolution, Dense, LinearOperator
from convexreg.networks.potentials import (
    InfimalConvolution,
    LinearSpline,
    LogCosh,
    LogSumExp,
    PooledNorm,
    PseudoHuber,
    ScaledSigmoids,
    Softplus,
    TanhMixture,
)

WIDTH = 8
SIGMA = 0.1
"""The noise level conditioned networks are tried at."""

Build = Callable[[], LinearOperator]

GEOMETRIES: dict[str, tuple[Build, tuple[int, ...]]] = {
    "dense": (lambda: Dense(6, WIDTH), (6,)),
    "circular": (lambda: Convolution((1, 3, WIDTH), (3, 3), padding="circular"), (1, 8, 9)),
    "zero": (lambda: Convolution((1, WIDTH), (3,), zero_mean=False), (1, 8, 8)),
    "staged-colour": (lambda: Convolution((3, 4, WIDTH), (3, 3), staged=True), (3, 4, 5)),
}
"""Operators with `WIDTH` outputs, and the shape of their inputs."""


@dataclass(frozen=True)
class NetworkCase:
    """An architecture over any operator.

    :ivar monotone: whether it is a monotone network.
    :ivar bounded: whether it has a proven Lipschitz constant.
    :ivar indefinite: whether every few draws hold one that is not monotone.
    """

    build: Callable[[Build], GradientNetwork]
    monotone: bool = True
    bounded: bool = True
    indefinite: bool = False


def _conditioning(groups: int = WIDTH) -> NoiseScaling:
    return NoiseScaling(WIDTH, groups, sigma_min=0.02, sigma_max=0.5, knots=4)


def _ridges(operator: Build) -> GradientModule:
    return GradientModule(operator(), TanhMixture(WIDTH))


def _groups(operator: Build) -> GradientModule:
    return GradientModule(operator(), PooledNorm(WIDTH, group_size=2, learned=True))


def _below_zero(operator: Build) -> GradientModule:
    """A module whose potential is negative at most points."""
    module = GradientModule(operator(), LogSumExp(2), rho=IdentityRho())
    assert module.bias is not None
    module.bias.data -= 5
    return module


def _softmax(operator: Build, **options) -> GradientModule:
    return GradientModule(operator(), LogSumExp(4, temperature=1.5, symmetric=True), **options)


NETWORKS: dict[str, NetworkCase] = {
    "gradnet-c": NetworkCase(
        lambda w: GradNetC(w(), [LogCosh(), TanhMixture(WIDTH), Softplus()]), False
    ),
    "mgradnet-c": NetworkCase(lambda w: MGradNetC(w(), [ScaledSigmoids(WIDTH, 3), LogCosh()])),
    "mgradnet-c-unit": NetworkCase(
        lambda w: MGradNetC(w(), [LogCosh(), PseudoHuber(), Softplus()], unit_scales=True)
    ),
    "mgradnet-c-conditioned": NetworkCase(
        lambda w: MGradNetC(w(), [LogCosh(), TanhMixture(WIDTH)], conditioning=_conditioning())
    ),
    "module-ridges": NetworkCase(_ridges),
    "module-spline": NetworkCase(lambda w: GradientModule(w(), LinearSpline(1, 9, 2.0))),
    "module-spline-nonconvex": NetworkCase(
        lambda w: GradientModule(w(), LinearSpline(WIDTH, 9, 2.0, monotone=False)),
        monotone=False,
        indefinite=True,
    ),
    "module-groups": NetworkCase(_groups),
    "module-window": NetworkCase(
        lambda w: GradientModule(w(), PooledNorm(WIDTH, group_size=4, window=3), bias=False)
    ),
    "module-conditioned": NetworkCase(
        lambda w: GradientModule(
            w(), PooledNorm(WIDTH, group_size=2), conditioning=_conditioning(WIDTH // 2)
        )
    ),
    "module-softmax": NetworkCase(_softmax),
    "module-latent": NetworkCase(lambda w: GradientModule(w(), InfimalConvolution(WIDTH, 12))),
    "module-latent-blocks": NetworkCase(
        lambda w: GradientModule(w(), InfimalConvolution(WIDTH, 12, block=2), bias=False)
    ),
    "module-latent-conditioned": NetworkCase(
        lambda w: GradientModule(
            w(), InfimalConvolution(WIDTH, 6, block=2), conditioning=_conditioning(1)
        )
    ),
    "module-identity": NetworkCase(
        lambda w: GradientModule(w(), LogCosh(), rho=IdentityRho()), bounded=False
    ),
    "module-identity-softmax": NetworkCase(lambda w: _softmax(w, rho=IdentityRho()), bounded=False),
    "module-identity-negative": NetworkCase(_below_zero, False, False, True),
    "module-identity-conditioned": NetworkCase(
        lambda w: GradientModule(
            w(), PseudoHuber(), rho=IdentityRho(), conditioning=_conditioning()
        ),
        bounded=False,
    ),
    "module-learned": NetworkCase(
        lambda w: GradientModule(w(), LogSumExp(4), rho=LearnedRho()), bounded=False
    ),
    "gradnet-m": NetworkCase(lambda w: GradNetM([_ridges(w), _groups(w), _softmax(w)]), False),
    "gradnet-m-fixed": NetworkCase(
        lambda w: GradNetM([_ridges(w), _softmax(w)], coefficients=[0.7, -1.3]),
        monotone=False,
        indefinite=True,
    ),
    "mgradnet-m": NetworkCase(lambda w: MGradNetM([_ridges(w), _groups(w), _softmax(w)])),
    "mgradnet-m-fixed": NetworkCase(
        lambda w: MGradNetM([_ridges(w), _groups(w)], coefficients=[0.3, 0.0], offset=False)
    ),
    "conic": NetworkCase(
        lambda w: LinearCombination([_ridges(w), StronglyMonotone(_groups(w), 0.3)])
    ),
    "difference": NetworkCase(
        lambda w: LinearCombination(
            [_ridges(w), _softmax(w)], conic=False, coefficients=[1.0, -2.0]
        ),
        monotone=False,
        indefinite=True,
    ),
    "any-coefficients": NetworkCase(
        lambda w: LinearCombination([_ridges(w), _softmax(w)], conic=False), False
    ),
    "strongly-monotone": NetworkCase(lambda w: StronglyMonotone(_ridges(w), 0.7)),
    "convexified-c": NetworkCase(
        lambda w: StronglyMonotone(
            GradNetC(w(), [LogCosh(), TanhMixture(WIDTH)]), 0.1, convexify=True
        )
    ),
    "convexified-m": NetworkCase(
        lambda w: StronglyMonotone(
            GradNetM([_ridges(w), _softmax(w)], coefficients=[1.0, -2.0]), 0.0, convexify=True
        )
    ),
    "convexified-conditioned": NetworkCase(
        lambda w: StronglyMonotone(
            GradNetC(w(), [TanhMixture(WIDTH)], conditioning=_conditioning()), 0.0, convexify=True
        )
    ),
    "c-mgn": NetworkCase(lambda w: CMGN(w(), w(), [LogCosh(), LogCosh()])),
    "m-mgn": NetworkCase(lambda w: MMGN([w(), w()], w()), bounded=False),
}
PAIRS: dict[str, tuple[NetworkCase, Build, tuple[int, ...]]] = {
    f"{name}-{geometry}": (case, *GEOMETRIES[geometry])
    for name, case in NETWORKS.items()
    for geometry in GEOMETRIES
}
"""Every architecture over every operator, and over blocks of pixels."""
for _name in ("mgradnet-c-conditioned", "module-groups", "mgradnet-m"):
    _case = NETWORKS[_name]
    PAIRS[f"{_name}-blocks"] = (
        replace(_case, build=lambda w, build=_case.build: BlockNetwork(build(w), 2)),
        lambda: Convolution((8, WIDTH), (3,), block=2),
        (2, 5, 4),
    )
