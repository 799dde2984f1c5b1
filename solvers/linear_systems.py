"""Symmetric positive definite systems, one per image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .batch import inner, per_image

Linear = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class HessianSolve:
    """What `conjugate_gradient` returns.

    :ivar solution: `(B, ...)`.
    :ivar residual: `|H v - rhs| / |rhs|` of that solution, computed from it, `(B,)` in float64.
    :ivar iterations: of the image that needed most.
    """

    solution: Tensor
    residual: Tensor
    iterations: int


def conjugate_gradient(
    operator: Linear,
    rhs: Tensor,
    *,
    tol: float = 1e-6,
    max_iter: int = 200,
    preconditioner: Linear | None = None,
) -> HessianSolve:
    """Solve `H v = rhs` for a symmetric positive (semi)definite `H`, image by image.

    The residual that the method carries along drifts away from the true one in rounding. The true one
    is computed wherever that claims to have reached the target, and at the end; where it has not, the
    method starts again from there, until that gains less than a factor of two. (Computing it every 50
    iterations as well took more iterations to a larger residual: rounding then makes no claim at all.)

    Returns the iterate with the smallest residual: a singular system that has no solution makes the
    later ones grow without bound, and is given up.

    :param operator: `v -> H v` on a batch; images are independent.
    :param preconditioner: a symmetric positive definite approximation of `H^{-1}`.
    :param tol: on `|H v - rhs| / |rhs|`, per image; images that reach it stop changing.
    :param max_iter: per image.
    """
    system = _System(operator, preconditioner or (lambda v: v), rhs, tol)
    solution, residual = torch.zeros_like(rhs), rhs
    start = least = inner(rhs, rhs)
    used = torch.zeros_like(start, dtype=torch.long)
    active = (least > system.target) & (used < max_iter)
    while bool(active.any()):
        candidate, steps, stuck = system.descend(solution, residual, active, max_iter - used)
        used = used + steps
        true = rhs - operator(candidate)
        norm = inner(true, true)
        better, halved = norm < least, norm < least / 4
        solution = torch.where(per_image(better, rhs), candidate, solution)
        residual = torch.where(per_image(better, rhs), true, residual)
        least = torch.where(better, norm, least)
        active = active & halved & ~stuck & (least > system.target) & (used < max_iter)
    scale = start.clamp_min(torch.finfo(torch.float64).tiny)
    return HessianSolve(solution, (least / scale).sqrt(), int(used.max()))


class _System:
    """`H v = rhs`, and when the squared norm of its residual is small enough, `target`."""

    def __init__(self, operator: Linear, preconditioner: Linear, rhs: Tensor, tol: float) -> None:
        self.operator, self.preconditioner = operator, preconditioner
        self.target = tol**2 * inner(rhs, rhs)
        self.flat = torch.finfo(rhs.dtype).eps ** 0.5

    def descend(
        self, solution: Tensor, residual: Tensor, active: Tensor, limit: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Conjugate gradients for the active images, until each claims to have arrived.

        :param residual: the true one of `solution`.
        :param limit: on the iterations, `(B,)`.
        :return: the iterate whose residual was smallest, the iterations, and which images met a
            direction without curvature.
        """
        best, direction = solution, self.preconditioner(residual)
        energy = inner(residual, direction)
        norm = least = inner(residual, residual)
        steps, stuck = torch.zeros_like(limit), torch.zeros_like(active)
        while bool(active.any()):
            steps = steps + active
            image = self.operator(direction)
            curvature = inner(direction, image)
            lengths = (inner(direction, direction) * inner(image, image)).sqrt()
            stuck = stuck | (active & ~(curvature > self.flat * lengths))
            active = active & ~stuck
            if not bool(active.any()):
                break
            scale = per_image(torch.where(active, energy / curvature, 0.0).to(residual), residual)
            solution = solution + scale * direction
            residual = residual - scale * image
            preconditioned = self.preconditioner(residual)
            updated = inner(residual, preconditioned)
            ratio = per_image(torch.where(active, updated / energy, 0.0).to(residual), residual)
            direction = preconditioned + ratio * direction
            energy = torch.where(active, updated, energy)
            norm = torch.where(active, inner(residual, residual), norm)
            best = torch.where(per_image(norm < least, best), solution, best)
            least = torch.minimum(norm, least)
            active = active & (norm > self.target) & (steps < limit)
        return best, steps, stuck
