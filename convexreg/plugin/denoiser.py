"""The proximal operator as a denoiser of deepinv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from deepinv.models import Denoiser
from torch import Tensor

from convexreg.models.files import CONVEX_MODEL, regularizer_of
from convexreg.reconstruction.proximal import LastPoint, proximal_point
from convexreg.regularizer import ConvexRegularizer


class ConvexDenoiser(Denoiser):
    """`D(x; sigma) = argmin_z |z - x|^2 / 2 + R(z; sigma)` as a deepinv denoiser.

    A proximal operator is firmly nonexpansive (Moreau 1965) and the gradient of a convex function.
    So plug-and-play proximal gradient descent with step `tau < 2 / |A|^2` converges, to the minimiser of
    `|A x - y|^2 / 2 + R(x; sigma) / tau`, and RED's residual `x - D(x)` is the gradient of the Moreau
    envelope of `R`, convex with Lipschitz constant 1.

    :param regularizer: a regularizer, the name of a shipped model or the path of a model file.
    :param tol: proven rms distance per pixel of a result to the exact proximal point.
    :param warm_start: see `ConvexPrior`.
    """

    def __init__(
        self,
        regularizer: ConvexRegularizer | str | Path = CONVEX_MODEL,
        *,
        tol: float = 1e-5,
        warm_start: bool = False,
    ) -> None:
        super().__init__()
        self.regularizer = regularizer_of(regularizer, convex=True)
        self.tol = tol
        self._last = LastPoint() if warm_start else None

    def forward(self, x: Tensor, sigma: Tensor | float, **kwargs: Any) -> Tensor:
        """Denoised images `(B, C, H, W)`; differentiable.

        :param sigma: noise standard deviation on the [0, 1] scale, one or one per image.
        """
        level = self._handle_sigma(sigma, batch_size=x.shape[0], device=x.device, dtype=x.dtype)
        one = torch.ones((), dtype=torch.float64, device=x.device)
        return proximal_point(
            self.regularizer, x, gamma=one, sigma=level, tol=self.tol, last=self._last
        )
