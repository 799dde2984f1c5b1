"""A restored picture."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from convexreg.reconstruction.result import Reconstruction
from convexreg.restoration.noise import PictureNoise


@dataclass(frozen=True)
class Restoration:
    """A restored picture.

    :ivar image: `(C, H, W)`, in the unit of what was given.
    :ivar noise: what was taken for its noise, in that unit.
    :ivar result: the reconstruction of the picture times `scale`, with its certificate; `None` where the
        noise is next to nothing, and the image a copy.
    """

    image: Tensor
    noise: PictureNoise
    result: Reconstruction | None = None
    scale: float = 1.0

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise; where it varies the root of the mean square."""
        if self.noise.gain > 0 and self.result is not None:
            return float(self.result.sigma[0]) / self.scale
        return self.noise.rms

    @property
    def notes(self) -> tuple[str, ...]:
        """What has to be known, one sentence each."""
        if self.result is not None:
            return self.noise.notes
        copied = f"the noise ({self.sigma:.2g}) is next to nothing, the picture is copied"
        return (*self.noise.notes, copied)
