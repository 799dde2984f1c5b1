"""Infimal convolutions of a quadratic and a group norm of latent codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convexreg.networks.codes import (
    Codes,
    DifferentiableCodes,
    inverse_hessian,
    norms,
    product,
    solve,
)
from convexreg.networks.potentials.base import Potential, supremum

_TOLERANCE = {torch.float32: 1e-4, torch.float64: 3e-8}
"""Of the gradient, relative; its square is what a duality gap resolves."""


class InfimalConvolution(Potential):
    """`psi(u) = min_a |u - D a|^2 / 2 + sum_k s_k |a_k|`, over codes `a` of every block of pixels.

    `|a_k|` is the 2-norm of the code of atom `k` over a block of `block x block` pixels (those at the lower
    and right border are smaller). What the atoms explain costs its code, the rest its square: unlike a sum of
    ridges, atoms compete for the same response.

    The gradient `u - D a` is the projection of `u` onto `{r: |(D^T r)_k| <= s_k}` (Moreau 1965), firmly
    nonexpansive: `0 <= Hessian <= I`. Codes are found by iterations (`networks.codes`). What is returned is a
    point `r` of that set with `<r, u> - |r|^2 / 2` as the value: a lower bound of `psi(u)`, and
    `v -> <r, v> - |r|^2 / 2` one of `psi` everywhere, so that lower bounds on a minimum hold without the
    codes being exact. What the value is short of at most is `shortfall`.

    Derivatives of the value exist twice and of the gradient once, almost everywhere; more raise
    `NotImplementedError`. The value and the weight of a block are those of its first pixel.

    :param channels: of the responses.
    :param codes: atoms, more or fewer than channels.
    :param block: side of the blocks.
    :param tolerance: distance of the gradient from the exact one, relative to its norm, block by block;
        `1e-4` in float32 and `3e-8` in float64 by default.
    """

    nonnegative = True

    def __init__(
        self, channels: int, codes: int, *, block: int = 1, tolerance: float | None = None
    ) -> None:
        super().__init__()
        if min(channels, codes, block) < 1:
            raise ValueError(
                f"channels, codes and block are positive, got {channels}, {codes} and {block}"
            )
        self.block, self.tolerance = block, tolerance
        self.radius = block - 1
        atoms = torch.randn(channels, codes, dtype=torch.float32)
        self.atoms = nn.Parameter(atoms / atoms.norm(dim=0))
        self.log_threshold = nn.Parameter(torch.full((codes,), -1.0, dtype=torch.float32))

    @property
    def thresholds(self) -> Tensor:
        """`s`, positive, `(codes,)`."""
        return self.log_threshold.exp()

    def groups(self, channels: int) -> int:
        if channels != self.atoms.shape[0]:
            raise ValueError(f"the atoms are for {self.atoms.shape[0]} channels, got {channels}")
        return 1

    def columns(self, u: Tensor) -> Tensor:
        """Responses `(B, C, ...)` by blocks, `(C, pixels, blocks)`, with zeros beyond the border."""
        if u.ndim == 2:
            return u.mT.unsqueeze(1)
        height, width = u.shape[-2:]
        side = self.block
        whole = nn.functional.pad(u, (0, -width % side, 0, -height % side))
        blocks = whole.unflatten(3, (-1, side)).unflatten(2, (-1, side))
        return blocks.permute(1, 3, 5, 0, 2, 4).flatten(3).flatten(1, 2)

    def from_columns(self, columns: Tensor, shape: torch.Size) -> Tensor:
        """The inverse of `columns`, for responses of that shape but for the channels."""
        if len(shape) == 2:
            return columns.squeeze(1).mT
        side, (height, width) = self.block, shape[-2:]
        grid = (shape[0], -(-height // side), -(-width // side))
        blocks = columns.unflatten(2, grid).unflatten(1, (side, side))
        whole = blocks.permute(3, 0, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)
        return whole[..., :height, :width]

    def codes(self, columns: Tensor) -> Codes:
        """Codes and dual point of responses in columns, not differentiable."""
        tolerance = self.tolerance or _TOLERANCE.get(columns.dtype, 1e-2)
        return solve(columns.detach(), self.atoms.detach(), self.thresholds.detach(), tolerance)

    def shortfall(self, u: Tensor) -> Tensor:
        """Bound on how much the value, without weights, is below `psi(u)`, `(B,)` in float64.

        The gradient is within the root of twice that of the exact one (2-norm of the image).
        """
        gap = self.codes(self.columns(u)).gap.double()
        return gap.reshape(u.shape[0], -1).sum(1)

    def _weight(self, weight: Tensor | None, u: Tensor) -> Tensor | None:
        """The weight of every pixel, that of the first one of its block."""
        if weight is None or self.block == 1 or max(weight.shape[2:], default=1) == 1:
            return weight
        size, side = u.shape[-2:], self.block
        first = weight.expand(*weight.shape[:2], *size)[..., ::side, ::side]
        return first.repeat_interleave(side, 2).repeat_interleave(side, 3)[
            ..., : size[0], : size[1]
        ]

    def value_and_grad(self, u: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.groups(u.shape[1])
        columns = self.columns(u)
        found = self.codes(columns)
        value = _Value.apply(columns, self.atoms, self.thresholds, *_parts(found))
        grad = _residual(columns, self.atoms, self.thresholds, *_parts(found))
        at_first = nn.functional.pad(value.unsqueeze(0), (0, 0, 0, columns.shape[1] - 1))
        value = self.from_columns(at_first.unsqueeze(0), u.shape)[:, 0]
        grad = self.from_columns(grad, u.shape)
        weight = self._weight(weight, u)
        if weight is not None:
            value, grad = weight[:, 0] * value, weight * grad
        return value, grad

    def grad(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        return self.value_and_grad(u, weight)[1]

    @torch.no_grad()
    def curvature(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        """The Hessian's diagonal, `1 - diag(D H^+ D^T)`, one column of pixels after the other."""
        columns = self.columns(u)
        codes, atoms = self.codes(columns).codes, self.atoms
        diagonal = torch.ones_like(columns)
        for channel in range(columns.shape[0]):
            for pixel in range(columns.shape[1]):
                unit = torch.zeros_like(codes)
                unit[:, pixel] = atoms[channel].unsqueeze(1)
                w = inverse_hessian(unit, atoms, self.thresholds, codes)
                diagonal[channel, pixel] -= atoms[channel] @ w[:, pixel]
        curvature = self.from_columns(diagonal.clamp_min(0), u.shape)
        weight = self._weight(weight, u)
        return curvature if weight is None else weight * curvature

    def curvature_bound(self, channels: int, weight: Tensor | None = None) -> Tensor:
        if weight is None:
            return torch.ones(channels, dtype=torch.float64, device="cpu")
        return supremum(weight).expand(-1, channels)


def _parts(found: Codes) -> tuple[Tensor, Tensor, Tensor]:
    return found.codes, found.residual, found.scale


def _residual(
    columns: Tensor,
    atoms: Tensor,
    thresholds: Tensor,
    codes: Tensor,
    residual: Tensor,
    scale: Tensor,
) -> Tensor:
    """The feasible residual, with its derivative where it is being differentiated."""
    if not (
        torch.is_grad_enabled() and any(part.requires_grad for part in (columns, atoms, thresholds))
    ):
        return residual
    exact = columns - product(atoms, DifferentiableCodes.apply(columns, atoms, thresholds, codes))
    return residual + (exact - exact.detach())


class _Value(torch.autograd.Function):
    """`<r, u> - |r|^2 / 2` of every block, whose derivatives are those of the minimum (Danskin's theorem):
    `r` in the responses, `-r a^T` in the atoms, `|a|` in the thresholds."""

    @staticmethod
    def forward(ctx, columns, atoms, thresholds, codes, residual, scale):
        ctx.save_for_backward(columns, atoms, thresholds, codes, residual, scale)
        return (residual * (columns - residual / 2)).sum((0, 1))

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        columns, atoms, thresholds, codes, residual, scale = ctx.saved_tensors
        r = _residual(columns, atoms, thresholds, codes, residual, scale)
        a = codes
        if torch.is_grad_enabled():
            a = DifferentiableCodes.apply(columns, atoms, thresholds, codes)
        by_atoms = -(grad_output * r).flatten(1) @ a.flatten(1).mT
        size = norms(codes).unsqueeze(1)
        directions = torch.where(size > 0, codes / size, 0.0)
        by_thresholds = (grad_output * (directions * a).sum(1)).sum(1)
        return grad_output * r, by_atoms, by_thresholds, None, None, None
