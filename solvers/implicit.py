"""Derivative of a minimiser through its optimality condition."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .batch import inner, per_image


class HessianSolve:
    """Result of `conjugate_gradient`: the solution, the relative residual and the iterations used."""

    def __init__(self, solution: Tensor, residual: Tensor, iterations: int) -> None:
        self.solution, self.residual, self.iterations = solution, residual, iterations


def conjugate_gradient(
    operator: Callable[[Tensor], Tensor],
    rhs: Tensor,
    *,
    tol: float = 1e-6,
    max_iter: int = 200,
    preconditioner: Callable[[Tensor], Tensor] | None = None,
) -> HessianSolve:
    """Solve `H v = rhs` for a symmetric positive (semi)definite `H`, image by image.

    Returns the iterate with the smallest residual: a singular system that has no solution makes the
    later ones grow without bound, and is given up.

    :param operator: `v -> H v` on a batch; images are independent.
    :param preconditioner: a symmetric positive definite approximation of `H^{-1}`.
    :param tol: on `|H v - rhs| / |rhs|`, per image; images that reach it stop changing.
    """
    precondition = preconditioner or (lambda v: v)
    solution = best = torch.zeros_like(rhs)
    residual, direction = rhs, precondition(rhs)
    energy = inner(residual, direction)
    start = norm = least = inner(rhs, rhs)
    target = tol**2 * norm
    flat = torch.finfo(rhs.dtype).eps ** 0.5
    iterations = 0
    while iterations < max_iter and bool((norm > target).any()):
        iterations += 1
        image = operator(direction)
        curvature = inner(direction, image)
        lengths = (inner(direction, direction) * inner(image, image)).sqrt()
        active = (norm > target) & (curvature > flat * lengths)
        if not active.any():
            break
        scale = per_image(torch.where(active, energy / curvature, 0.0).to(rhs.dtype), rhs)
        solution = solution + scale * direction
        residual = residual - scale * image
        preconditioned = precondition(residual)
        updated = inner(residual, preconditioned)
        ratio = per_image(torch.where(active, updated / energy, 0.0).to(rhs.dtype), rhs)
        direction = preconditioned + ratio * direction
        energy = torch.where(active, updated, energy)
        norm = torch.where(active, inner(residual, residual), norm)
        best = torch.where(per_image(norm < least, best), solution, best)
        least = torch.minimum(norm, least)
    if bool((least > target).any()):
        # after an enormous step the residual carried along says nothing
        residual = rhs - operator(best)
        least = torch.where(least > target, inner(residual, residual), least)
        best = torch.where(per_image(least < start, best), best, 0.0)
        least = torch.minimum(least, start)
    scale = start.clamp_min(torch.finfo(torch.float64).tiny)
    return HessianSolve(best, (least / scale).sqrt(), iterations)


class ImplicitSolution:
    """Attaches the derivative of `x*(theta) = argmin F(x; theta)` to a computed minimiser.

    With `G(x, theta) = grad_x F`, the implicit function theorem gives `dx*/dtheta = -H^{-1} dG/dtheta`,
    so the vector-Jacobian product of `v` is that of `-H^{-1} v` through `G(x*, .)`. `H` is symmetric
    positive definite, and the system is solved by conjugate gradients.

    After the backward pass `residual` holds the relative residual of that solve, `(B,)`, and
    `iterations` its length.
    """

    def __init__(
        self,
        *,
        tol: float = 1e-6,
        max_iter: int = 200,
        preconditioner: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.tol, self.max_iter, self.preconditioner = tol, max_iter, preconditioner
        self.residual: Tensor | None = None
        self.iterations = 0

    def attach(self, gradient: Callable[[Tensor], Tensor], minimiser: Tensor) -> Tensor:
        """`minimiser` with the derivative in everything `gradient` depends on.

        :param gradient: `x -> grad F(x)`, differentiable in `x` and in what `x*` depends on.
        :param minimiser: the solution, any derivative it carries is dropped.
        """
        point = minimiser.detach().requires_grad_()
        with torch.enable_grad():
            residual = gradient(point)

        def hessian(v: Tensor) -> Tensor:
            (image,) = torch.autograd.grad(residual, point, v, retain_graph=True)
            return image

        def solve(v: Tensor) -> Tensor:
            result = conjugate_gradient(
                hessian,
                v,
                tol=self.tol,
                max_iter=self.max_iter,
                preconditioner=self.preconditioner,
            )
            self.residual, self.iterations = result.residual, result.iterations
            return result.solution

        # The difference is zero: the value stays exactly that of the minimiser.
        attached = minimiser.detach() + (residual.detach() - residual)
        if attached.requires_grad:
            attached.register_hook(solve)
        return attached
