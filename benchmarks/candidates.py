"""Candidates for a convex regularizer that is more than ridges; each contains a ridge model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.models import gradient_module
from convexreg.conditioning import NoiseScaling
from convexreg.models import ModelConfig
from convexreg.module import GradientModule
from convexreg.operators import Convolution
from convexreg.potentials import (
    LinearSpline,
    LogSumExp,
    MaxEnvelope,
    PooledNorm,
    Potential,
    PseudoHuber,
)
from convexreg.regularizer import ConvexRegularizer

CHANNELS = 64
WIDE = 2 * CHANNELS
# what a new member of a group starts with, relative to the group's first filter
FAINT = 0.01


@dataclass(frozen=True)
class Candidate:
    """Ridges' filters under another potential.

    :ivar potential: with curvature one at zero and slopes that saturate at one, as those of the ridges.
    :ivar channels: of the filters, an equal number to each of the potential's groups.
    """

    potential: Callable[[], Potential]
    channels: int = CHANNELS

    def build(self, name: str) -> ConvexRegularizer:
        """Freshly initialised."""
        config = ModelConfig(channels=(1, 4, 8, self.channels))
        operator = Convolution(config.channels, config.kernel_sizes)
        potential = self.potential()
        conditioning = NoiseScaling(
            self.channels,
            potential.groups(self.channels),
            sigma_min=config.sigma_min,
            sigma_max=config.sigma_max,
        )
        network = GradientModule(operator, potential, bias=False, conditioning=conditioning)
        return ConvexRegularizer(
            network, sigma_range=(config.sigma_min, config.sigma_max), name=name
        )


CANDIDATES: dict[str, Candidate] = {
    "crr": Candidate(lambda: LinearSpline(1, knots=101, limit=2.0)),
    "ridges": Candidate(PseudoHuber),
    "ridges, twice as many": Candidate(PseudoHuber, WIDE),
    "pairs": Candidate(lambda: PooledNorm(WIDE, group_size=2), WIDE),
    "pairs, larger counts": Candidate(lambda: MaxEnvelope(2), WIDE),
    "pairs, log-sum-exp": Candidate(lambda: LogSumExp(2, temperature=2.0, symmetric=True), WIDE),
    "mixing": Candidate(lambda: PooledNorm(CHANNELS, learned=True)),
    "3 x 3 pooling": Candidate(lambda: PooledNorm(CHANNELS, window=3, learned=True)),
}


def inherit(model: ConvexRegularizer, ridges: ConvexRegularizer) -> None:
    """Give the filters and noise conditioning of a ridge model to the first members of a model's groups.

    Further members of a group start with faint filters, further groups with a faint force, so that both
    models begin with nearly the same energy.

    :raises LookupError: the ridge model is another kind of network.
    """
    (given, source), (own, target) = _parts(ridges), _parts(model)
    terms = target.log_slope.shape[1]
    members = own.out_channels // terms
    with torch.no_grad():
        for kernel, value in zip(own.kernels[:-1], given.kernels[:-1], strict=True):
            kernel.copy_(value)
        last, value = own.kernels[-1], given.kernels[-1]
        last.mul_(value.norm() / CHANNELS**0.5 / last.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1))
        if members > 1:
            last.mul_(FAINT)
        last[: CHANNELS * members : members] = value
        threshold, slope = source.log_threshold, source.log_slope
        faint = slope.mean(1, keepdim=True).expand(-1, terms - CHANNELS) + math.log(FAINT)
        typical = threshold.mean(1, keepdim=True).expand(-1, terms - CHANNELS)
        target.log_threshold.copy_(torch.cat([threshold, typical], 1).repeat_interleave(members, 1))
        target.log_slope.copy_(torch.cat([slope, faint], 1))


def _parts(regularizer: ConvexRegularizer) -> tuple[Convolution, NoiseScaling]:
    found = gradient_module(regularizer)
    if found is None or not isinstance(found[0].conditioning, NoiseScaling):
        raise LookupError("no module of convolutions with noise conditioning")
    return found[1], found[0].conditioning
