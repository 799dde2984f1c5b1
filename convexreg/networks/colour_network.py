"""Colour images by two networks: a gray one for the luminance, another for the two colour differences.

Luminance and colour differences are orthonormal coordinates, so that bounds of the whole are the worse one of
those of the parts. What couples the parts is weights that depend on all planes (`ColourWeights`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from convexreg.networks.base import GradientNetwork, Sigma, replaced
from convexreg.networks.colour import in_colour, in_planes
from convexreg.networks.operators import Reach

CONTRAST = 3**0.5
"""Luminance over it is the mean of red, green and blue: a gray image in [0, 1], whose noise is that much
weaker than a channel's."""


@dataclass(frozen=True)
class Part:
    """A network and the planes it takes: `(contrast / ratio)^2 V(planes / contrast; ratio sigma / contrast)`.

    :ivar ratio: of the noise level of its planes to the one that is given.
    """

    network: GradientNetwork
    planes: slice
    contrast: float
    ratio: float = 1.0

    @property
    def coefficient(self) -> float:
        """Of `V`."""
        return (self.contrast / self.ratio) ** 2

    def of(self, planes: Tensor) -> Tensor:
        """What the network takes, from all planes `(B, 3, H, W)`."""
        return planes[:, self.planes] / self.contrast

    def level(self, sigma: Sigma) -> Sigma:
        """The noise level of what the network takes."""
        return None if sigma is None else sigma * (self.ratio / self.contrast)


class ColourNetwork(GradientNetwork):
    """`3 V(l / sqrt 3; sigma / sqrt 3) + U(c; sigma)`, `l` luminance and `c` the two colour differences.

    :param luminance: of gray images.
    :param chroma: of images of two channels.
    :ivar ratios: see `with_ratios`.
    """

    def __init__(self, luminance: GradientNetwork, chroma: GradientNetwork) -> None:
        super().__init__()
        self.luminance, self.chroma, self.ratios = luminance, chroma, (1.0, 1.0)
        self.block = math.lcm(luminance.block, chroma.block)

    @property
    def parts(self) -> tuple[Part, Part]:
        """The two networks with the planes they take."""
        luminance, chroma = self.ratios
        return (
            Part(self.luminance, slice(0, 1), CONTRAST, luminance),
            Part(self.chroma, slice(1, 3), 1.0, chroma),
        )

    def with_ratios(self, luminance: float, chroma: float) -> ColourNetwork:
        """Where noise is so many times as strong in the luminance and in the colour differences as `sigma`.

        Each part is divided by the square of it, as a data term is that weighs its planes by their variances:
        the trade between the two is that of the level of the plane.
        """
        twin = replaced(self)
        twin.ratios = luminance, chroma
        return twin

    @property
    def monotone(self) -> bool:
        return self.luminance.monotone and self.chroma.monotone

    def _inputs(self, x: Tensor, sigma: Sigma) -> Iterator[tuple[Part, Tensor, Sigma]]:
        planes = in_planes(x)
        for part in self.parts:
            yield part, part.of(planes), part.level(sigma)

    def forward(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        grads = [
            p.coefficient / p.contrast * p.network(z, level)
            for p, z, level in self._inputs(x, sigma)
        ]
        return in_colour(torch.cat(grads, 1))

    def density(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        densities = [
            p.coefficient * p.network.density(z, level) for p, z, level in self._inputs(x, sigma)
        ]
        return densities[0] + densities[1]

    def density_and_grad(self, x: Tensor, sigma: Sigma = None) -> tuple[Tensor, Tensor]:
        density, grads = x.new_zeros(()), []
        for part, z, level in self._inputs(x, sigma):
            its_density, its_grad = part.network.density_and_grad(z, level)
            density = density + part.coefficient * its_density
            grads.append(part.coefficient / part.contrast * its_grad)
        return density, in_colour(torch.cat(grads, 1))

    def reach(self) -> Reach | None:
        reaches = [part.network.reach() for part in self.parts]
        if None in reaches:
            return None
        return Reach(
            max(reach.radius for reach in reaches if reach),
            any(reach.circular for reach in reaches if reach),
        )

    def lipschitz(self, image_size: tuple[int, int] | None = None, sigma: Sigma = None) -> Tensor:
        """The larger one of the parts' bounds: the Jacobian is block-diagonal in an orthonormal basis, and
        `contrast^2 V(z / contrast)` has the Jacobian of `V`."""
        return torch.maximum(
            *(p.network.lipschitz(image_size, p.level(sigma)) / p.ratio**2 for p in self.parts)
        )

    def strong_convexity(self) -> Tensor:
        return torch.minimum(*(p.network.strong_convexity() / p.ratio**2 for p in self.parts))

    @property
    def terms(self) -> int:
        return self.luminance.terms + self.chroma.terms

    def magnitudes(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        """Those of the luminance first."""
        inputs = self._inputs(x, sigma)
        return torch.cat([part.network.magnitudes(z, level) for part, z, level in inputs], 1)

    def with_weights(self, weights: Tensor) -> GradientNetwork:
        luminance, chroma = weights.split([self.luminance.terms, self.chroma.terms], 1)
        return replaced(
            self,
            luminance=self.luminance.with_weights(luminance),
            chroma=self.chroma.with_weights(chroma),
        )

    def part(
        self, images: Tensor, rows: Tensor | None = None, columns: Tensor | None = None
    ) -> GradientNetwork:
        return replaced(
            self,
            luminance=self.luminance.part(images, rows, columns),
            chroma=self.chroma.part(images, rows, columns),
        )
