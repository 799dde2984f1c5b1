"""Noise that is not as strong in the luminance as in the colour differences: gray grain, colour noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convexreg.adaptive import AdaptiveRegularizer
from convexreg.networks.colour import in_colour, in_planes
from convexreg.networks.colour_network import ColourNetwork
from convexreg.reconstruction.noise import Noise
from convexreg.reconstruction.start import is_identity
from convexreg.regularizer import Regularizer
from convexreg.solvers.operators import OperatorBounds


@dataclass(frozen=True)
class ColourNoise:
    """Standard deviations of the noise of luminance and of both colour differences, `sigma` of `reconstruct`.

    Both are coordinates of an orthonormal basis: noise that is as strong in red, green and blue, and
    independent, has its level in either. For colour images that are denoised, with a model for them.

    :raises ValueError: levels that are not positive and finite.
    """

    luminance: float
    chroma: float

    def __post_init__(self) -> None:
        if not all(0 < level < math.inf for level in (self.luminance, self.chroma)):
            raise ValueError(
                "noise levels of luminance and colour differences must be positive and finite, got "
                f"{self.luminance} and {self.chroma}"
            )

    @property
    def level(self) -> float:
        """The root of the mean variance of the three channels."""
        return math.sqrt((self.luminance**2 + 2 * self.chroma**2) / 3)

    def noise(self, y: Tensor) -> PlaneNoise:
        """Of the planes `y`, `(B, 3, H, W)`."""
        levels = y.new_tensor([self.luminance, self.chroma, self.chroma]).reshape(3, 1, 1)
        whole = torch.full((y.shape[0],), self.level, dtype=torch.float64, device=y.device)
        return PlaneNoise(whole, levels.expand_as(y))

    def of_model(self, model: Any) -> Any:
        """The model with each part at its level, where `level` is given.

        :raises ValueError: one that is not for colour images.
        """
        last = model.second if isinstance(model, AdaptiveRegularizer) else model
        if not isinstance(last, Regularizer) or not isinstance(last.network, ColourNetwork):
            raise ValueError(
                "noise levels of luminance and colour differences need a model for colour images, such as "
                "mgradnet-m-colour"
            )
        return model.with_noise_ratios(self.luminance / self.level, self.chroma / self.level)

    def check(self, physics: Any, y: Any) -> None:
        """:raises ValueError: anything but colour images that are denoised."""
        if (
            not isinstance(y, Tensor)
            or y.ndim != 4
            or y.shape[1] != 3
            or not is_identity(physics, y)
        ):
            raise ValueError(
                "noise levels of luminance and colour differences are for denoising colour images "
                "(B, 3, H, W); give one level, or one per measurement"
            )


class PlaneNoise(Noise):
    """Of luminance and colour differences, which the parts of the regularizer know."""

    def adjusted(self, regularizer: Any, x: Tensor) -> Any:
        return regularizer


class Planes(nn.Module):
    """The operator from colour images to luminance and colour differences, orthonormal.

    :ivar bounds: exact.
    """

    bounds = OperatorBounds(1.0, 1.0, "orthonormal")

    def A(self, x: Tensor) -> Tensor:
        return in_planes(x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return in_colour(y)
