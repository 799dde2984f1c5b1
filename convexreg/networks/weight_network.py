"""The network that decides how strong a regularizer is at every pixel."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from convexreg.networks.base import Sigma, replaced
from convexreg.networks.blocks import from_blocks, in_blocks, repeated

_DILATIONS = (1, 2, 4, 4)


class WeightNetwork(nn.Module):
    """From the size of every term in a first reconstruction to a weight per term and pixel.

    `log w` is `v = CNN(log(1 + t), log sigma) - log(1 + slope t)`, bent smoothly so that `w` stays
    between the limits. At the start it is close to `gain / (1 + slope t)`, the reweighting of Candes,
    Wakin & Boyd (2008) that spares what is large.

    The convolutions look at 23 x 23 pixels, of blocks if they work on blocks: `block x block` pixels are
    the channels of one then (Shi et al. 2016), so that a layer costs `block^2` times less and sees as
    many times further per axis, and no pixel is averaged away.

    :param terms: terms of the regularizer.
    :param guides: other terms whose sizes are looked at, which get no weights.
    :param width: channels of the hidden layers.
    :param block: side of the blocks of pixels that the convolutions work on.
    :param slope, gain: of the weights at the start.
    :param limits: on the weights, below and above one.
    :ivar terms, block: as given.
    :ivar radius: how many pixels beyond its block the weights of a pixel look, a multiple of `block`.
    :ivar in_bfloat16: evaluate the convolutions in bfloat16, as training may; off.
    :raises ValueError: hidden layers without channels, or blocks without pixels.
    """

    def __init__(
        self,
        terms: int,
        *,
        width: int,
        block: int = 1,
        guides: int = 0,
        slope: float = 0.03,
        gain: float = 1.5,
        limits: tuple[float, float] = (1 / 256, 16.0),
    ) -> None:
        if width < 1 or block < 1:
            raise ValueError(
                f"the hidden layers need at least one channel and the blocks one pixel, got {width} "
                f"and {block}"
            )
        super().__init__()
        self.in_bfloat16 = False
        self.terms, self.block = terms, block
        self.log_limits = math.log(limits[0]), math.log(limits[1])
        self.log_slope = nn.Parameter(torch.full((terms,), math.log(slope), dtype=torch.float32))
        looked_at, weighted = (number * block**2 for number in (terms + guides, terms))
        channels = (looked_at + 1, *[width] * (len(_DILATIONS) - 1), weighted)
        layers = [
            nn.Conv2d(before, after, 3, padding=dilation, dilation=dilation, dtype=torch.float32)
            for before, after, dilation in zip(channels, channels[1:], _DILATIONS, strict=False)
        ]
        nn.init.zeros_(layers[-1].weight)
        nn.init.constant_(cast("Tensor", layers[-1].bias), math.log(gain))
        self.layers = nn.ModuleList(layers)
        self.radius = block * sum(_DILATIONS)

    def forward(self, magnitudes: Tensor, sigma: Sigma, guides: Tensor | None = None) -> Tensor:
        """Weights `(B, terms, H, W)` from magnitudes of that shape and one or `B` noise levels.

        :param guides: the magnitudes of the other terms, `(B, guides, H, W)`.
        """
        sizes = magnitudes if guides is None else torch.cat([magnitudes, guides], 1)
        inputs = in_blocks(sizes.log1p(), self.block)
        level = torch.as_tensor(sigma, dtype=magnitudes.dtype, device=magnitudes.device)
        level = (4 * level).log().reshape(-1, 1, 1, 1).expand_as(inputs[:, :1])
        v = torch.cat([inputs, level], 1).contiguous(memory_format=torch.channels_last)
        with torch.autocast(v.device.type, torch.bfloat16, enabled=self.in_bfloat16):
            for layer in self.layers[:-1]:
                v = functional.relu(layer(v), inplace=True)
            v = self.layers[-1](v).to(magnitudes.dtype)
        v = from_blocks(v, self.block, (magnitudes.shape[-2], magnitudes.shape[-1]))
        v = v - (self.log_slope.exp().reshape(-1, 1, 1) * magnitudes).log1p()
        low, high = self.log_limits
        return torch.where(v < 0, low * torch.tanh(v / low), high * torch.tanh(v / high)).exp()


class ColourWeights(nn.Module):
    """The weights of a `ColourNetwork` from the sizes of all its terms.

    Luminance, which holds most of a photograph, is weighted by itself. The colour differences are weighted
    by all planes: their edges lie where those of the luminance are, and drown in noise more easily.

    :param luminance: for the terms of the luminance.
    :param chroma: for those of the colour differences, with those of the luminance as guides.
    :param contrast: of the luminance, see `ColourNetwork`.
    :param block: side of the blocks of pixels that the terms of the colour differences are for
        (`BlockNetwork`). Their weights are decided at that resolution, luminance averaged over a block.
    """

    def __init__(
        self,
        luminance: WeightNetwork,
        chroma: WeightNetwork,
        *,
        contrast: float,
        block: int = 1,
    ) -> None:
        super().__init__()
        self.luminance, self.chroma, self.contrast = luminance, chroma, contrast
        self.chroma_block, self.ratios = block, (1.0, 1.0)
        self.block = math.lcm(luminance.block, block * chroma.block)
        radius = max(luminance.radius, block * chroma.radius)
        self.radius = -(-radius // self.block) * self.block

    def with_ratios(self, luminance: float, chroma: float) -> ColourWeights:
        """The same network, sharing its parameters, for noise that strong."""
        twin = replaced(self)
        twin.ratios = luminance, chroma
        return twin

    def forward(self, magnitudes: Tensor, sigma: Sigma) -> Tensor:
        """Weights `(B, terms, H, W)`, those of the luminance first, as the magnitudes."""
        level = self.ratios[0] / self.contrast * torch.as_tensor(sigma)
        luminance = self.luminance(magnitudes[:, : self.luminance.terms], level)
        return torch.cat([luminance, self.of_chroma(magnitudes, sigma)], 1)

    @property
    def terms(self) -> int:
        """Of luminance and colour differences."""
        return self.luminance.terms + self.chroma.terms

    def of_chroma(self, magnitudes: Tensor, sigma: Sigma) -> Tensor:
        """The weights of the colour differences alone, from the magnitudes of all terms."""
        terms, block = self.luminance.terms, self.chroma_block
        luminance, chroma = magnitudes[:, :terms], magnitudes[:, terms:]
        guides = functional.avg_pool2d(luminance, block, ceil_mode=True) if block > 1 else luminance
        level = self.ratios[1] * torch.as_tensor(sigma)
        weights = self.chroma(chroma[..., ::block, ::block], level, guides)
        return repeated(weights, block, (chroma.shape[-2], chroma.shape[-1]))


class ChromaWeights(nn.Module):
    """Those of a `ColourWeights` for the colour differences, as a network of their own."""

    def __init__(self, whole: ColourWeights) -> None:
        super().__init__()
        self.whole = whole
        self.terms, self.block, self.radius = whole.chroma.terms, whole.block, whole.radius

    def forward(self, magnitudes: Tensor, sigma: Sigma) -> Tensor:
        """`(B, terms, H, W)`, from the magnitudes of all terms."""
        return self.whole.of_chroma(magnitudes, sigma)
