"""Candidates for a convex regularizer that is more than ridges; each contains a ridge model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy.optimize import brentq
from torch import Tensor
from torch.nn import functional

from convexreg.models.config import ModelConfig
from convexreg.networks.combinations import LinearCombination
from convexreg.networks.conditioning import NoiseScaling
from convexreg.networks.modular import GradientModule
from convexreg.networks.operators import Convolution, Reach
from convexreg.networks.potentials import (
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
# of new filters in a group and of new groups, relative to what they are put beside
FAINT = 0.01
FAINT_FORCE = 0.05


class Dilated(Convolution):
    """A chain whose last kernel is dilated: filters of a coarser scale behind a learned smoothing.

    The dilated kernel is an ordinary one with zeros in it, so that adjoint and bounds stay as they are.
    """

    dilation = 3

    @property
    def stages(self) -> list[Tensor]:
        *first, last = super().stages
        size = self.dilation * (last.shape[-1] - 1) + 1
        spread = last.new_zeros(*last.shape[:2], size, size)
        spread[..., :: self.dilation, :: self.dilation] = last
        return [*first, spread]

    def reach(self) -> Reach:
        reach = super().reach()
        beyond = (self.dilation - 1) * (self.kernels[-1].shape[-1] // 2)
        return replace(reach, radius=reach.radius + beyond)


@dataclass(frozen=True)
class Candidate:
    """Ridges' filters under another potential, or beside others.

    :ivar potential: with curvature one at zero and slopes that saturate at one, as those of the ridges.
    :ivar channels: of the filters, an equal number to each of the potential's groups.
    :ivar last_kernel: size of the last convolution of the chain, 5 or more.
    :ivar two_scales: a second set of filters, with the last kernel dilated.
    """

    potential: Callable[[], Potential]
    channels: int = CHANNELS
    last_kernel: int = 5
    two_scales: bool = False

    def build(self, name: str) -> ConvexRegularizer:
        """Freshly initialised."""
        config = ModelConfig(channels=(1, 4, 8, self.channels))
        sizes = (*config.kernel_sizes[:-1], self.last_kernel)
        modules = []
        for chain in (Convolution, Dilated) if self.two_scales else (Convolution,):
            potential = self.potential()
            conditioning = NoiseScaling(
                self.channels,
                potential.groups(self.channels),
                sigma_min=config.sigma_min,
                sigma_max=config.sigma_max,
            )
            operator = chain(config.channels, sizes)
            modules.append(
                GradientModule(operator, potential, bias=False, conditioning=conditioning)
            )
        network = LinearCombination(modules, coefficients=[1.0] * len(modules))
        return ConvexRegularizer(
            network, sigma_range=(config.sigma_min, config.sigma_max), name=name
        )


CANDIDATES: dict[str, Candidate] = {
    "crr": Candidate(lambda: LinearSpline(1, knots=101, limit=2.0)),
    "ridges": Candidate(PseudoHuber),
    "twice the ridges": Candidate(PseudoHuber, WIDE),
    "larger filters": Candidate(PseudoHuber, last_kernel=9),
    "two scales": Candidate(PseudoHuber, two_scales=True),
    "pairs": Candidate(lambda: PooledNorm(WIDE, group_size=2), WIDE),
    "pairs by maximum": Candidate(lambda: MaxEnvelope(2), WIDE),
    "pairs by log-sum-exp": Candidate(lambda: LogSumExp(2, temperature=2.0, symmetric=True), WIDE),
    "mixing": Candidate(lambda: PooledNorm(CHANNELS, learned=True)),
    "3 x 3 pooling": Candidate(lambda: PooledNorm(CHANNELS, window=3, learned=True)),
}


@torch.no_grad()
def inherit(model: ConvexRegularizer, ridges: ConvexRegularizer) -> None:
    """Give the filters and noise conditioning of a ridge model to the first members of a model's groups.

    Further members of a group start with faint filters, further groups with a faint force, so that both
    models begin with nearly the same energy. Larger kernels get the given ones in their middle. Ridges that
    bend elsewhere or saturate higher than those here, as a learned spline does, are rescaled.

    :raises LookupError: the ridge model is another kind of network.
    """
    (given, source, potential), *others = _parts(ridges)
    if others:
        raise LookupError("more than one module of convolutions")
    bend, height = _bend(potential, given.out_channels)
    for number, (own, target, _) in enumerate(_parts(model)):
        terms = target.log_slope.shape[1]
        members = own.out_channels // terms
        inherited = CHANNELS if number == 0 else 0
        for kernel, value in zip(own.kernels[:-1], given.kernels[:-1], strict=True):
            kernel.copy_(value)
        last, value = own.kernels[-1], given.kernels[-1]
        last.mul_(value.norm() / CHANNELS**0.5 / last.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1))
        if members > 1:
            last.mul_(FAINT)
        beyond = (last.shape[-1] - value.shape[-1]) // 2
        if inherited:
            last[: CHANNELS * members : members] = functional.pad(value, 4 * [beyond])
        threshold = source.log_threshold + math.log(bend)
        slope = source.log_slope + math.log(height)
        faint = slope.mean(1, keepdim=True).expand(-1, terms - inherited)
        typical = threshold.mean(1, keepdim=True).expand(-1, terms - inherited)
        thresholds = torch.cat([threshold[:, :inherited], typical], 1)
        target.log_threshold.copy_(thresholds.repeat_interleave(members, 1))
        target.log_slope.copy_(torch.cat([slope[:, :inherited], faint + math.log(FAINT_FORCE)], 1))


def _bend(potential: Potential, channels: int) -> tuple[float, float]:
    """Threshold and far-away force of the pseudo-Huber ridge most like a channel's potential.

    They agree where the force is half of what it is far away: at `1 / sqrt(3)` of the threshold.
    """
    exact = copy.deepcopy(potential).double()

    def force(response: float) -> float:
        u = torch.zeros(1, channels, dtype=torch.float64)
        u[0, 0] = response
        return float(exact.grad(u)[0, 0])

    far = 1e6
    height = force(far)
    bend: Any = brentq(lambda response: force(response) - height / 2, 0, far, xtol=1e-9)
    return math.sqrt(3) * bend, height


def _parts(regularizer: ConvexRegularizer) -> list[tuple[Convolution, NoiseScaling, Potential]]:
    modules = [m for m in regularizer.modules() if isinstance(m, GradientModule)]
    found = [
        (module.operator, module.conditioning, module.phi)
        for module in modules
        if isinstance(module.operator, Convolution)
        and isinstance(module.conditioning, NoiseScaling)
    ]
    if not found:
        raise LookupError("no module of convolutions with noise conditioning")
    return found
