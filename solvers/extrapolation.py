"""Points of small gradient, from iterates that have been evaluated anyway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .batch import inner, per_image
from .objective import Objective

_RANK = 1e-12
"""Eigenvalues of the normalised Gram matrix, relative to the largest, below which there is only rounding."""


@dataclass(frozen=True)
class Extrapolation:
    """The affine combination of iterates with the smallest combined gradient, and what it would have were
    the objective quadratic.

    :ivar x: the point, `(B, ...)`.
    :ivar grad: the combined gradient.
    :ivar rise: value there, less that of the newest iterate, `(B,)`.
    """

    x: Tensor
    grad: Tensor
    rise: Tensor


def reduced_rank_extrapolation(
    x: Tensor, grad: Tensor, moves: Sequence[Tensor], changes: Sequence[Tensor], free: Tensor
) -> Extrapolation:
    """`x - S a` with the `a` that minimises `|grad - Y a|`, for moves `S` and changes of the gradient `Y`
    (Eddy 1979; Anderson 1965, of iterates without mixing).

    The point is the affine combination, weights summing to one, of the iterates that the moves lead
    through. Nothing is proven of it before it is evaluated.

    :param free: one for pixels whose gradient counts, zero for others, or 0-dim when all of them do.
    """
    seen = changes if free.ndim == 0 else [free * change for change in changes]
    gram = torch.stack([torch.stack([inner(a, b) for b in seen], 1) for a in seen], 1)
    gram = gram.nan_to_num(0.0, 0.0, 0.0)  # of images whose solve has failed
    scale = gram.diagonal(dim1=1, dim2=2).sqrt()
    scale = torch.where(scale > 0, 1 / scale, 0.0)
    values, vectors = torch.linalg.eigh(scale.unsqueeze(2) * gram * scale.unsqueeze(1))
    inverse = torch.where(values > _RANK * values[:, -1:], 1 / values, 0.0)
    right = scale * torch.stack([inner(change, grad) for change in seen], 1).nan_to_num(0.0)
    weights = (vectors.mT @ right.unsqueeze(2)) * inverse.unsqueeze(2)
    weights = (scale * (vectors @ weights).squeeze(2)).to(x.dtype)
    move, change = torch.zeros_like(x), torch.zeros_like(x)
    for weight, its_move, its_change in zip(weights.unbind(1), moves, changes, strict=True):
        move = torch.addcmul(move, per_image(weight, x), its_move)
        change = torch.addcmul(change, per_image(weight, x), its_change)
    return Extrapolation(x - move, grad - change, inner(move, change) / 2 - inner(move, grad))


def evaluate_some(objective: Objective, x: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient of the images `which`, `(B,)` booleans; anything for the others."""
    index = which.nonzero().flatten()
    part = None if len(index) == len(which) else objective.subset(index)
    if part is None:
        return objective.value_and_grad(x)
    value, grad = part.value_and_grad(x[index])
    values = torch.zeros(len(x), dtype=value.dtype, device=x.device)
    return values.index_copy(0, index, value), torch.zeros_like(x).index_copy(0, index, grad)
