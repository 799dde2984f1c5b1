"""The noise as the options say it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from convexreg.pictures.noise_maps import NoiseMap, read_noise_map
from convexreg.pictures.photograph import Photograph


def parse_sigma(text: str) -> float:
    """`"0.1"` or `"25/255"` as a number.

    :raises ValueError: neither of them.
    """
    numerator, _, denominator = text.partition("/")
    try:
        value = float(numerator) / float(denominator or 1)
    except (ValueError, ZeroDivisionError):
        raise ValueError(
            f'the noise level must be a number such as 0.1 or a ratio such as 25/255, got "{text}"'
        ) from None
    return value


@dataclass(frozen=True)
class GivenNoise:
    """What `--sigma` or `--noise-map` says.

    :ivar sigma: `None` where it is to be estimated, or a map says it.
    """

    sigma: float | None
    map: NoiseMap | None = None

    @classmethod
    def of(cls, options: argparse.Namespace) -> GivenNoise:
        """:raises ValueError: no number, or no map."""
        if options.noise_map is not None:
            return cls(None, read_noise_map(options.noise_map))
        return cls(None if options.sigma == "auto" else parse_sigma(options.sigma))

    @property
    def of_channels(self) -> bool:
        """Whether every channel has its own."""
        return self.map is not None and len(self.map.levels) > 1

    def levels(
        self, photograph: Photograph, parts: Sequence[Tensor]
    ) -> Sequence[Tensor | float | None]:
        """That of every part.

        :raises ImageError: a map that does not fit.
        """
        if self.map is None:
            return [self.sigma] * len(parts)
        levels = self.map.of(photograph)
        if len(levels) == 1:
            return [levels] * len(parts)
        return [levels[channels] for channels in channels_of(parts)]


def channels_of(parts: Sequence[Tensor]) -> list[slice]:
    """Where parts `(C, H, W)` lie among all channels."""
    slices, begin = [], 0
    for part in parts:
        slices.append(slice(begin, begin + len(part)))
        begin += len(part)
    return slices
