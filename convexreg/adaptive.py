"""A convex regularizer whose strength depends on the place, decided once from a first reconstruction."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from convexreg.network import Sigma
from convexreg.regularizer import ConvexRegularizer

FIRST_ROUND_GAP, FIRST_ROUND_GRADIENT = 3e-2, 1e-4
"""Relative gap of the first round, or rms of its gradient where no gap can be certified: its
reconstruction only has to show where the structure is."""


class WeightNetwork(nn.Module):
    """From the size of every term in a first reconstruction to a weight per term and pixel.

    `log w` is `v = CNN(log(1 + t), log sigma) - log(1 + slope t)`, bent smoothly so that `w` stays
    between the limits. At the start it is close to `gain / (1 + slope t)`, the reweighting of Candes,
    Wakin & Boyd (2008) that spares what is large. The convolutions look at 15 x 15 pixels.

    :param terms: terms of the regularizer.
    :param width: channels of the hidden layers.
    :param slope, gain: of the weights at the start.
    :param limits: on the weights, below and above one.
    """

    def __init__(
        self,
        terms: int,
        *,
        width: int = 48,
        slope: float = 0.03,
        gain: float = 1.5,
        limits: tuple[float, float] = (1 / 32, 4.0),
    ) -> None:
        super().__init__()
        self.log_limits = math.log(limits[0]), math.log(limits[1])
        self.log_slope = nn.Parameter(torch.full((terms,), math.log(slope)))
        channels = (terms + 1, width, width, terms)
        layers = [
            nn.Conv2d(before, after, 3, padding=dilation, dilation=dilation)
            for before, after, dilation in zip(channels, channels[1:], (1, 2, 4), strict=False)
        ]
        nn.init.zeros_(layers[-1].weight)
        nn.init.constant_(cast("Tensor", layers[-1].bias), math.log(gain))
        self.layers = nn.ModuleList(layers)

    def forward(self, magnitudes: Tensor, sigma: Sigma) -> Tensor:
        """Weights `(B, terms, H, W)` from magnitudes of that shape and one or `B` noise levels."""
        level = torch.as_tensor(sigma, dtype=magnitudes.dtype, device=magnitudes.device)
        level = (4 * level).log().reshape(-1, 1, 1, 1).expand_as(magnitudes[:, :1])
        v = torch.cat([magnitudes.log1p(), level], 1)
        for layer in self.layers[:-1]:
            v = functional.relu(layer(v))
        spared = (self.log_slope.exp().reshape(-1, 1, 1) * magnitudes).log1p()
        v = self.layers[-1](v) - spared
        low, high = self.log_limits
        return torch.where(v < 0, low * torch.tanh(v / low), high * torch.tanh(v / high)).exp()


class AdaptiveRegularizer(nn.Module):
    """Two convex regularizers in turn: the second one weighted by what the first one reconstructed.

    Round 0 minimises with `first`. From its reconstruction `x0` the weight network decides how strong
    every term of `second` is at every pixel: `given(x0, sigma)`, convex, with proven bounds like any
    other, with which round 1 minimises. Given `x0` everything proven of a convex regularizer holds;
    how the weights follow the data is learned, and nothing is proven about it.

    :param first, second: of the same number of channels and noise levels.
    :param network: with as many terms as `second`.
    """

    def __init__(
        self,
        first: ConvexRegularizer,
        second: ConvexRegularizer,
        network: WeightNetwork,
        *,
        name: str = "unnamed",
    ) -> None:
        super().__init__()
        self.first, self.second, self.network = first, second, network
        self.name = name

    @property
    def in_channels(self) -> int:
        """Of the images; a gray model takes colour as well."""
        return self.second.in_channels

    @property
    def sigma_range(self) -> tuple[float, float] | None:
        """The noise levels it is valid for."""
        return self.second.sigma_range

    def weights(self, x: Tensor, sigma: Sigma) -> Tensor:
        """Weights from a reconstruction `x` `(B, C, H, W)`: `(B, terms, H, W)`, three per colour image."""
        magnitudes = self.second.magnitudes(x, sigma)
        if isinstance(sigma, Tensor) and sigma.numel() > 1:
            sigma = sigma.reshape(-1).repeat_interleave(magnitudes.shape[0] // x.shape[0])
        return self.network(magnitudes, sigma)

    def given(self, x: Tensor, sigma: Sigma) -> ConvexRegularizer:
        """The convex regularizer of round 1, its weights frozen at the reconstruction `x`.

        :param x: `(B, C, H, W)`; the result takes images of that size.
        :param sigma: noise level, one number or one per image.
        """
        return self.second.with_weights(self.weights(x, sigma))
