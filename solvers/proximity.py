"""The distance to another image as a term of an objective."""

from __future__ import annotations

import torch
from torch import Tensor

from .batch import inner
from .curvature import Curvature
from .objective import Objective


class Proximity(Objective):
    """`|x - y|^2 / 2`: what draws an image towards another one."""

    def __init__(self, y: Tensor) -> None:
        self.y = y

    def __repr__(self) -> str:
        return f"Proximity({tuple(self.y.shape)})"

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        residual = x - self.y
        return inner(residual, residual) / 2, residual

    def lipschitz(self, x: Tensor) -> Tensor:
        return torch.ones((), dtype=torch.float64, device=x.device)

    strong_convexity = lipschitz

    def curvature(self, x: Tensor) -> Curvature | None:
        return None if x.ndim != 4 else Curvature.constant(x, 1.0)

    def subset(self, index: Tensor) -> Proximity:
        return Proximity(self.y[index])
