"""Moreau envelopes of polyhedral norms of groups of channels."""

from __future__ import annotations

import torch
from torch import Tensor

from convexreg.networks.potentials.base import Potential, supremum


class MaxEnvelope(Potential):
    """Moreau envelope of the l-inf norm of groups of channels: `min_v |u - v|^2 / 2 + max |v|`.

    The gradient is the projection of every group onto the l1 ball of radius 1 (Moreau decomposition),
    found by sorting (Duchi et al. 2008); projections are firmly nonexpansive, so `0 <= Hessian <= I`.
    A group of which one channel responds is a Huber ridge; of several, the largest counts.

    :param group_size: consecutive channels that form a group.
    """

    nonnegative = True

    def __init__(self, group_size: int) -> None:
        super().__init__()
        if group_size < 1:
            raise ValueError(f"a group has at least one channel, got {group_size}")
        self.group_size = group_size

    def groups(self, channels: int) -> int:
        if channels % self.group_size:
            raise ValueError(f"{channels} channels do not divide into groups of {self.group_size}")
        return channels // self.group_size

    def _shrunk(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Groups of `u`, magnitudes after the projection, and the threshold `(B, groups, ...)` taken off."""
        grouped = u.unflatten(1, (self.groups(u.shape[1]), -1))
        size = grouped.abs()
        total = size.sort(dim=2, descending=True).values.cumsum(2) - 1
        count = torch.arange(1, self.group_size + 1, dtype=u.dtype, device=u.device)
        count = count.reshape(-1, *[1] * (u.ndim - 2))
        # the mean over the largest k of what is too much is largest for the k that stay positive
        threshold = (total / count).amax(2).clamp_min(0)
        return grouped, (size - threshold.unsqueeze(2)).clamp_min(0), threshold

    def value_and_grad(self, u: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        grouped, size, threshold = self._shrunk(u)
        value, grad = threshold + size.square().sum(2) / 2, grouped.sign() * size
        if weight is not None:
            value, grad = weight * value, weight.unsqueeze(2) * grad
        return value.sum(1), grad.flatten(1, 2)

    def grad(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        return self.value_and_grad(u, weight)[1]

    def curvature(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        _, size, threshold = self._shrunk(u)
        kept = (size > 0).to(u.dtype)
        projected = kept * (1 - 1 / kept.sum(2, keepdim=True).clamp_min(1))
        curvature = torch.where((threshold > 0).unsqueeze(2), projected, 1.0)
        if weight is not None:
            curvature = weight.unsqueeze(2) * curvature
        return curvature.flatten(1, 2)

    def curvature_bound(self, channels: int, weight: Tensor | None = None) -> Tensor:
        if weight is None:
            return torch.ones(channels, dtype=torch.float64, device="cpu")
        groups = supremum(weight).expand(-1, self.groups(channels))
        return groups.repeat_interleave(self.group_size, 1)
