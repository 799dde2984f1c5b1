"""Images of any number of channels as gray planes: colour by its transform, bands as they are.

What a gray regularizer does to images of several channels is decided here once: they are a sum over
orthonormal planes, each a gray image of its own, with a weight.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from convexreg.networks import colour
from convexreg.networks.base import Sigma
from convexreg.solvers.curvature import Curvature


class PlaneLayout(Protocol):
    """How images of some number of channels are planes, and back."""

    def planes(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(C B, 1, H, W)`, the planes of every image in a row: orthonormal."""
        ...

    def from_planes(self, z: Tensor) -> Tensor:
        """The inverse of `planes`, which is its adjoint."""
        ...

    def weighted(self, z: Tensor) -> Tensor:
        """Numbers of planes, `(C B, ...)`, times the weights of their planes."""
        ...

    def total(self, values: Tensor) -> Tensor:
        """The weighted sum over the planes of every image, `(C B,)` to `(B,)`."""
        ...

    def largest(self, bounds: Tensor) -> Tensor:
        """The largest of a bound on the planes, each times its weight: 0-dim to 0-dim, `(C B,)` to `(B,)`."""
        ...

    def curvature(self, model: Curvature) -> Curvature:
        """The model for the images from that of their planes."""
        ...

    def per_plane(self, sigma: Sigma) -> Sigma:
        """The noise levels of the planes of every image."""
        ...


@dataclass(frozen=True)
class Bands:
    """Channels as planes of equal weight: spectral bands, real and imaginary part, slices of a volume.

    :ivar count: of the channels.
    """

    count: int

    def planes(self, x: Tensor) -> Tensor:
        return x.flatten(0, 1).unsqueeze(1)

    def from_planes(self, z: Tensor) -> Tensor:
        return z.squeeze(1).unflatten(0, (-1, self.count))

    def weighted(self, z: Tensor) -> Tensor:
        return z

    def total(self, values: Tensor) -> Tensor:
        return values.reshape(-1, self.count).sum(1)

    def largest(self, bounds: Tensor) -> Tensor:
        return bounds if bounds.ndim == 0 else bounds.reshape(-1, self.count).amax(1)

    def curvature(self, model: Curvature) -> Curvature:
        """Every band keeps its own."""
        symbol, diagonal = (
            item.squeeze(1).unflatten(0, (-1, self.count))
            for item in (model.symbol, model.diagonal)
        )
        return replace(model, symbol=symbol, diagonal=diagonal)

    def per_plane(self, sigma: Sigma) -> Sigma:
        if isinstance(sigma, Tensor) and sigma.numel() > 1:
            return sigma.reshape(-1).repeat_interleave(self.count)
        return sigma


def layout(channels: int) -> PlaneLayout:
    """How a gray regularizer sees images of so many channels: three are colour, others are bands."""
    return colour if channels == 3 else Bands(channels)
