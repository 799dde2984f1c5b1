"""Data terms `D(A x, y)`: value, gradient and proven constants."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .curvature import Curvature
from .objective import Objective, inner, per_image
from .physics_norms import OperatorBounds


class LinearOperator(Protocol):
    """A linear forward operator, as deepinv's `LinearPhysics`."""

    def A(self, x: Tensor) -> Tensor:
        """Measurements of `x`."""
        ...

    def A_adjoint(self, y: Tensor) -> Tensor:
        """The exact adjoint of `A`."""
        ...


class LeastSquares(Objective):
    """`|A x - y|^2 / 2` for a linear operator with `A` and `A_adjoint` (deepinv's physics).

    Gradient `A^T (A x - y)`; its Lipschitz constant is `|A|^2`.

    :param bounds: proven bounds on the spectrum of `A^T A`, see `solvers.physics_norms`.
    :raises ValueError: complex measurements.
    """

    def __init__(self, operator: LinearOperator, y: Tensor, bounds: OperatorBounds) -> None:
        if y.is_complex():
            raise ValueError(
                "the measurements are complex; give real and imaginary part as two channels"
            )
        self.operator, self.y, self.bounds = operator, y, bounds

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        residual = self.operator.A(x) - self.y
        return inner(residual, residual) / 2, self.operator.A_adjoint(residual)

    def value(self, x: Tensor) -> Tensor:
        residual = self.operator.A(x) - self.y
        return inner(residual, residual) / 2

    def lipschitz(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.bounds.largest, dtype=torch.float64, device=x.device)

    def strong_convexity(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.bounds.smallest, dtype=torch.float64, device=x.device)

    def curvature(self, x: Tensor) -> Curvature | None:
        return normal_curvature(self.operator, x)


def normal_curvature(operator: LinearOperator, x: Tensor) -> Curvature | None:
    """`A^T A` as the circulant matrix of its response to a unit impulse in the middle of the image.

    Exact for circular blurs, the interior of the others; for operators that are not shift invariant a
    crude but safe model. `None` for what is not a batch of images.
    """
    if x.ndim != 4:
        return None
    height, width = x.shape[-2:]
    impulse = torch.zeros_like(x)
    impulse[..., height // 2, width // 2] = 1
    response = operator.A_adjoint(operator.A(impulse)).mean(1, keepdim=True)
    centred = response.roll((-(height // 2), -(width // 2)), (2, 3))
    symbol = torch.fft.rfft2(centred).real.clamp_min(0)
    return Curvature(symbol, centred[..., :1, :1].clamp_min(0).expand(-1, -1, height, width))


class Proximity(Objective):
    """`|x - y|^2 / (2 gamma)`: the data term of denoising (`gamma = 1`) and of proximal operators.

    :param gamma: positive, 0-dim or one per image.
    :raises ValueError: one that is not.
    """

    def __init__(self, y: Tensor, gamma: Tensor | float = 1.0) -> None:
        self.y = y
        gamma = torch.as_tensor(gamma, dtype=torch.float64, device=y.device)
        if not bool((gamma > 0).all()):
            raise ValueError(f"gamma must be positive, got {gamma.tolist()}")
        self.modulus = 1 / gamma

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        residual = x - self.y
        grad = residual * per_image(self.modulus.to(x.dtype), x)
        return self.modulus * inner(residual, residual) / 2, grad

    def lipschitz(self, x: Tensor) -> Tensor:
        return self.modulus

    def strong_convexity(self, x: Tensor) -> Tensor:
        return self.modulus

    def curvature(self, x: Tensor) -> Curvature | None:
        if x.ndim != 4:
            return None
        constant = self.modulus.to(x.dtype).reshape(-1, 1, 1, 1)
        return Curvature(constant, constant.expand(-1, 1, *x.shape[-2:]))
