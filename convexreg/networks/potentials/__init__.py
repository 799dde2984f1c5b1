"""Convex potentials with their gradients and proven curvature bounds."""

from convexreg.networks.potentials.base import (
    ElementwisePotential,
    Potential,
    derivative,
    per_channel,
)
from convexreg.networks.potentials.elementwise import (
    LogCosh,
    PseudoHuber,
    Quadratic,
    ScaledSigmoids,
    Softplus,
    TanhMixture,
    softplus,
)
from convexreg.networks.potentials.envelope import MaxEnvelope
from convexreg.networks.potentials.groups import LogSumExp, PooledNorm
from convexreg.networks.potentials.latent import InfimalConvolution
from convexreg.networks.potentials.spline import LinearSpline, spline_roughness

__all__ = [
    "ElementwisePotential",
    "InfimalConvolution",
    "LinearSpline",
    "LogCosh",
    "LogSumExp",
    "MaxEnvelope",
    "PooledNorm",
    "Potential",
    "PseudoHuber",
    "Quadratic",
    "ScaledSigmoids",
    "Softplus",
    "TanhMixture",
    "derivative",
    "per_channel",
    "softplus",
    "spline_roughness",
]
