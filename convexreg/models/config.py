"""Architectures by name, and their settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from convexreg.adaptive import AdaptiveRegularizer
from convexreg.networks.base import GradientNetwork
from convexreg.networks.blocks import BlockNetwork
from convexreg.networks.cascaded import MGradNetC
from convexreg.networks.colour_network import CONTRAST, ColourNetwork
from convexreg.networks.combinations import MGradNetM
from convexreg.networks.conditioning import NoiseScaling
from convexreg.networks.modular import GradientModule
from convexreg.networks.operators import Convolution, Padding
from convexreg.networks.potentials import LinearSpline, LogCosh, PooledNorm, TanhMixture
from convexreg.networks.weight_network import ColourWeights, WeightNetwork
from convexreg.regularizer import ConvexRegularizer

Architecture = Literal["mgradnet-m", "mgradnet-c", "crr"]
ARCHITECTURES: tuple[Architecture, ...] = ("mgradnet-m", "mgradnet-c", "crr")
AnyRegularizer = ConvexRegularizer | AdaptiveRegularizer


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build a regularizer.

    - `mgradnet-m`: one module, pooled norms of groups of channels.
    - `mgradnet-c`: a cascade of two learned activations, a sum of convex ridges.
    - `crr`: convex ridges with one learned monotone linear spline (Goujon et al. 2023).

    :ivar group_size: channels per pooled norm (`mgradnet-m`); one makes ridges.
    :ivar mixing: learn a dense channel mixing inside the norms as well (`mgradnet-m`).
    :ivar channels: of the chain of convolutions, starting with the image's.
    :ivar kernel_sizes: odd, one per convolution.
    :ivar sigma_min, sigma_max: trained noise levels on the [0, 1] scale.
    :ivar noise_knots: levels at which the noise conditioning is learned.
    :ivar adaptive: two of them in turn, the second one weighted by what the first one reconstructed
        (`AdaptiveRegularizer`).
    :ivar weight_width, weight_block: channels of the hidden layers of the network that makes the weights, and
        side of the blocks of pixels it works on (adaptive).
    :ivar chroma: the settings of the part for the two colour differences of a model for colour images
        (`ColourNetwork`); the others are those of the luminance's then.
    :ivar block: side of the blocks of pixels that the convolutions work on, see `BlockNetwork`.
    :ivar first: the settings of what comes before the last round (adaptive), adaptive themselves if that is
        more than one round; one round with the same settings by default.
    """

    architecture: Architecture = "mgradnet-m"
    channels: tuple[int, ...] = (1, 4, 8, 64)
    kernel_sizes: tuple[int, ...] = (5, 5, 5)
    padding: Padding = "zero"
    sigma_min: float = 1 / 255
    sigma_max: float = 50 / 255
    noise_knots: int = 6
    group_size: int = 2
    mixing: bool = False
    adaptive: bool = False
    weight_width: int = 92
    weight_block: int = 1
    first: ModelConfig | None = None
    chroma: ModelConfig | None = None
    block: int = 1

    @property
    def in_channels(self) -> int:
        """Of the images: three with a part for the colour differences."""
        return self.channels[0] if self.chroma is None else 3

    def build_adaptive(self, name: str | None = None) -> AdaptiveRegularizer:
        """A freshly initialised adaptive regularizer.

        :raises ValueError: an unknown architecture, or settings that do not fit together.
        """
        name = name or f"{self.architecture}-adaptive"
        start = self.first or replace(self, adaptive=False)
        if start.in_channels != self.in_channels:
            raise ValueError(
                f"both rounds take the same images, got {start.in_channels} and {self.in_channels} channels"
            )
        if start.sigma_min > self.sigma_min or start.sigma_max < self.sigma_max:
            raise ValueError(
                f"the first round is for the noise levels from {start.sigma_min} to {start.sigma_max} only, "
                f"the second one for {self.sigma_min} to {self.sigma_max}"
            )
        first = (start.build_adaptive if start.adaptive else start.build)(f"{name}, first")
        second = self.build(f"{name}, last")
        network = self._weight_network(second.network)
        return AdaptiveRegularizer(first, second, network, name=name)

    def _weight_network(self, network: GradientNetwork) -> WeightNetwork | ColourWeights:
        """That of an adaptive model whose second round has this network."""
        if not isinstance(network, ColourNetwork):
            return WeightNetwork(network.terms, width=self.weight_width, block=self.weight_block)
        assert self.chroma is not None
        guides = network.luminance.terms
        return ColourWeights(
            self._weight_network(network.luminance),  # pyright: ignore[reportArgumentType]
            WeightNetwork(
                network.chroma.terms,
                width=self.chroma.weight_width,
                block=self.chroma.weight_block,
                guides=guides,
            ),
            contrast=CONTRAST,
            block=self.chroma.block,
        )

    def build(self, name: str | None = None) -> ConvexRegularizer:
        """A freshly initialised regularizer; of an adaptive model that of one round.

        :raises ValueError: an unknown architecture, or settings that do not fit together.
        """
        if self.chroma is not None:
            return self._build_colour(self.chroma, name)
        channels = (self.channels[0] * self.block**2, *self.channels[1:])
        operator = Convolution(channels, self.kernel_sizes, padding=self.padding, block=self.block)
        width = self.channels[-1]
        groups = width // self.group_size if self.architecture == "mgradnet-m" else width
        conditioning = NoiseScaling(
            width,
            groups,
            sigma_min=self.sigma_min,
            sigma_max=self.sigma_max,
            knots=self.noise_knots,
        )
        network: GradientNetwork
        match self.architecture:
            case "mgradnet-m":
                potential = PooledNorm(width, group_size=self.group_size, learned=self.mixing)
                module = GradientModule(operator, potential, bias=False, conditioning=conditioning)
                network = MGradNetM([module], coefficients=[1.0], offset=False)
            case "mgradnet-c":
                activations = [LogCosh(), TanhMixture(width)]
                network = MGradNetC(operator, activations, conditioning=conditioning)
            case "crr":
                # in units of the threshold nu(sigma), whose spline CRR's noise scaling is
                spline = LinearSpline(1, knots=101, limit=6.0)
                network = GradientModule(operator, spline, bias=False, conditioning=conditioning)
            case _:
                raise ValueError(
                    f"unknown architecture {self.architecture!r}; known: {', '.join(ARCHITECTURES)}"
                )
        if self.block > 1:
            network = BlockNetwork(network, self.block)
        return ConvexRegularizer(
            network,
            in_channels=self.channels[0],
            sigma_range=(self.sigma_min, self.sigma_max),
            name=name or self.architecture,
        )

    def _build_colour(self, chroma: ModelConfig, name: str | None) -> ConvexRegularizer:
        if (self.channels[0], chroma.channels[0]) != (1, 2):
            raise ValueError(
                "luminance is one channel and the colour differences are two, got "
                f"{self.channels[0]} and {chroma.channels[0]}"
            )
        network = ColourNetwork(
            replace(self, chroma=None).build().network, replace(chroma, chroma=None).build().network
        )
        low = max(CONTRAST * self.sigma_min, chroma.sigma_min)
        high = min(CONTRAST * self.sigma_max, chroma.sigma_max)
        name = name or f"{self.architecture}-colour"
        model = ConvexRegularizer(network, in_channels=3, sigma_range=(low, high), name=name)
        model.gray_range = (self.sigma_min, self.sigma_max)
        return model


def parameter_count(module: nn.Module) -> int:
    """Number of learned numbers."""
    return sum(parameter.numel() for parameter in module.parameters())
