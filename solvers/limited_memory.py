"""The matrix of a limited-memory quasi-Newton method, from moves and changes of the gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .batch import inner, per_image
from .curvature import Preconditioner, SumPreconditioner


@dataclass(frozen=True)
class Pair:
    """A move, the change of the gradient along it, and `1 / <move, change>` (zero: not usable)."""

    move: Tensor
    change: Tensor
    rho: Tensor

    @classmethod
    def of(cls, move: Tensor, change: Tensor) -> Pair:
        """The pair, usable if the curvature along the move is clearly positive."""
        product = inner(move, change)
        usable = product > 1e-10 * (inner(move, move) * inner(change, change)).sqrt()
        return cls(move, change, torch.where(usable, 1 / product, 0.0))

    def rho_within(self, free: Tensor) -> Tensor:
        """`1 / <move, change>` over the free variables, zero where the pair says too little of them.

        Among them the curvature is that of a move of them only; the whole pairs would give a block of the
        inverse Hessian, far too long steps. Usable is a pair where neither `<move, change> / <move, move>`
        nor `<move, change> / <change, change>` is too small a fraction of the whole pair's, which bounds
        the matrix.
        """
        move, change = free * self.move, free * self.change
        product = inner(move, change)
        share = torch.maximum(
            inner(move, move) / inner(self.move, self.move),
            inner(change, change) / inner(self.change, self.change),
        )
        usable = (self.rho > 0) & (product * self.rho > 1e-10 * share)
        return torch.where(usable, 1 / product, 0.0)


def two_loop_recursion(
    pairs: tuple[Pair, ...],
    preconditioner: Preconditioner | SumPreconditioner | None,
    grad: Tensor,
    free: Tensor,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The two-loop recursion (Nocedal 1980), `H_k grad`, with everything restricted to the free variables.

    :param free: one or zero per pixel, or 0-dim when all are free.
    :param scale: factor of the preconditioner, `(B,)`. By default the newest pair's: `<y, s> = <y, P y>`.
    :return: the direction, and the scale.
    """

    def restricted(v: Tensor) -> Tensor:
        return v if free.ndim == 0 else free * v

    def preconditioned(v: Tensor) -> Tensor:
        return v if preconditioner is None else restricted(preconditioner(v))

    rhos = [pair.rho if free.ndim == 0 else pair.rho_within(free) for pair in pairs]
    q, alphas = restricted(grad).clone(), []
    for pair, rho in zip(reversed(pairs), reversed(rhos), strict=True):
        alpha = rho * inner(pair.move, q)
        alphas.append(alpha)
        q.addcmul_(per_image(alpha.to(q.dtype), q), restricted(pair.change), value=-1)
    r = preconditioned(q)
    if scale is None:
        scale = torch.ones(len(grad), dtype=torch.float64, device=grad.device)
        if pairs:
            newest = restricted(pairs[-1].change)
            size = rhos[-1] * inner(newest, preconditioned(newest))
            scale = torch.where(size > 0, 1 / size, scale)
    r.mul_(per_image(scale.to(r.dtype), r))
    for pair, rho, alpha in zip(pairs, rhos, reversed(alphas), strict=True):
        beta = rho * inner(pair.change, r)
        r.addcmul_(per_image((alpha - beta).to(r.dtype), r), restricted(pair.move))
    return r, scale
