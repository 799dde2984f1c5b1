"""Conditioning of a potential: on the noise level, and on where in the image it acts."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn


class Conditioning(nn.Module, ABC):
    """What a potential `psi` becomes at noise level `sigma`: `weight psi(scale u)`, both positive."""

    @property
    def spatial(self) -> Tensor | None:
        """What multiplies the weight at every pixel, `(B or 1, groups, H, W)`, if anything does."""
        return None

    @abstractmethod
    def forward(self, sigma: Tensor | float | None) -> tuple[Tensor, Tensor]:
        """Scale `(B or 1, channels)` and weight `(B or 1, groups)`."""

    def uniform(self, sigma: Tensor | float | None) -> tuple[Tensor, Tensor]:
        """Scale and weight without what varies from pixel to pixel."""
        return self(sigma)

    def factors(self, u: Tensor, sigma: Tensor | float | None) -> tuple[Tensor, Tensor]:
        """Scale and weight shaped to broadcast against `u`, `(B, channels, ...)`."""
        scale, weight = (factor.to(u.dtype) for factor in self(sigma))
        ones = [1] * (u.ndim - 2)
        return scale.reshape(*scale.shape, *ones), weight.reshape(*weight.shape, *ones)


class FixedScaling(Conditioning):
    """The same scale and weight, `(1, channels)` each, at every noise level."""

    scale: Tensor
    weight: Tensor

    def __init__(self, scale: Tensor, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("weight", weight)

    def forward(self, sigma: Tensor | float | None) -> tuple[Tensor, Tensor]:
        del sigma
        return self.scale, self.weight


class NoiseScaling(Conditioning):
    """Per-channel threshold `nu(sigma)` and per-group slope `m(sigma)`, both positive.

    A potential `psi` with unit curvature is used as `m nu psi(u / nu)`: curvature at most `m / nu`
    and, for saturating potentials, slope at most `m`. The logarithms of `nu` and `m` are linear
    splines in `log sigma` with learned values at `knots` levels between `sigma_min` and
    `sigma_max`; outside they are constant (`ConvexRegularizer` refuses such levels).
    """

    def __init__(
        self,
        channels: int,
        groups: int,
        *,
        sigma_min: float,
        sigma_max: float,
        knots: int = 6,
        relative_slope: float = 0.1,
    ) -> None:
        super().__init__()
        if not 0 < sigma_min < sigma_max or knots < 2:
            raise ValueError(
                f"noise conditioning needs 0 < sigma_min < sigma_max and 2 knots or more, got "
                f"{sigma_min}, {sigma_max} and {knots} knots"
            )
        if channels % groups:
            raise ValueError(f"{channels} channels do not divide into {groups} groups")
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        levels = torch.linspace(
            math.log(sigma_min), math.log(sigma_max), knots, dtype=torch.float32
        )
        self.log_threshold = nn.Parameter(levels.unsqueeze(1).repeat(1, channels))
        self.log_slope = nn.Parameter(
            levels.unsqueeze(1).repeat(1, groups) + math.log(relative_slope)
        )

    def forward(self, sigma: Tensor | float | None) -> tuple[Tensor, Tensor]:
        """Scale `1 / nu`, `(B or 1, channels)`, and weight `m nu`, `(B or 1, groups)`.

        :raises ValueError: no noise level given.
        """
        if sigma is None:
            raise ValueError("this network is conditioned on the noise level: give sigma")
        table = torch.cat([self.log_threshold, self.log_slope], 1)
        level = torch.as_tensor(sigma, dtype=table.dtype, device=table.device).reshape(-1).log()
        low, high = math.log(self.sigma_min), math.log(self.sigma_max)
        position = ((level - low) / (high - low)).clamp(0, 1) * (table.shape[0] - 1)
        knot = position.floor().clamp_max(table.shape[0] - 2).long()
        fraction = (position - knot).unsqueeze(1)
        values = torch.lerp(table[knot], table[knot + 1], fraction)
        log_threshold, log_slope = values.split(
            [self.log_threshold.shape[1], self.log_slope.shape[1]], 1
        )
        group_threshold = log_threshold.unflatten(1, (log_slope.shape[1], -1)).mean(2)
        return torch.exp(-log_threshold), torch.exp(log_slope + group_threshold)


class SpatialWeights(Conditioning):
    """Another conditioning whose weight is multiplied by a field, one number per group and pixel.

    :param conditioning: what is multiplied; nothing else when `None`.
    :param field: nonnegative, `(B or 1, groups, H, W)`, for images of that size.
    """

    field: Tensor

    def __init__(self, conditioning: Conditioning | None, field: Tensor) -> None:
        super().__init__()
        self.conditioning = conditioning
        self.register_buffer("field", field, persistent=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> SpatialWeights:
        """Of a field that is being differentiated the copy has the numbers only."""
        return SpatialWeights(copy.deepcopy(self.conditioning, memo), self.field.detach().clone())

    @property
    def spatial(self) -> Tensor:
        return self.field

    def uniform(self, sigma: Tensor | float | None) -> tuple[Tensor, Tensor]:
        if self.conditioning is None:
            return self.field.new_ones(1, 1), self.field.new_ones(1, 1)
        return self.conditioning(sigma)

    def forward(self, sigma: Tensor | float | None) -> tuple[Tensor, Tensor]:
        """The largest weights of an image, which is what bounds need."""
        scale, weight = self.uniform(sigma)
        return scale, weight * self.field.flatten(2).amax(2)

    def factors(self, u: Tensor, sigma: Tensor | float | None) -> tuple[Tensor, Tensor]:
        """Scale and weight, those of every pixel.

        :raises ValueError: responses to images of another size or number than the field's.
        """
        field = self.field.to(u.dtype)
        if field.shape[2:] != u.shape[2:] or field.shape[0] not in (1, u.shape[0]):
            raise ValueError(
                f"the spatial weights are for {field.shape[0]} images of {tuple(field.shape[2:])} pixels "
                f"each, got {u.shape[0]} of {tuple(u.shape[2:])}"
            )
        scale, weight = (factor.to(u.dtype)[..., None, None] for factor in self.uniform(sigma))
        return scale, weight * field

    def part(
        self, images: Tensor, rows: Tensor | None = None, columns: Tensor | None = None
    ) -> SpatialWeights:
        """The weights of some images, or of a part of them."""
        field = (
            self.field
            if self.field.shape[0] == 1
            else self.field.index_select(0, images.to(self.field.device))
        )
        if rows is not None:
            field = field.index_select(2, rows)
        if columns is not None:
            field = field.index_select(3, columns)
        twin = copy.copy(self)
        twin._buffers = {"field": field}
        return twin
