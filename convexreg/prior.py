"""The regularizer inside deepinv: as a prior, a reconstructor and a denoiser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from deepinv.models import Denoiser, Reconstructor
from deepinv.optim import Prior
from torch import Tensor

from convexreg.models import load_pretrained
from convexreg.reconstruct import reconstruct
from convexreg.regularizer import ConvexRegularizer
from solvers.data_terms import Proximity
from solvers.loop import minimise
from solvers.objective import Sum
from solvers.quasi_newton import QuasiNewton


def _regularizer(regularizer: ConvexRegularizer | str | Path) -> ConvexRegularizer:
    if isinstance(regularizer, ConvexRegularizer):
        return regularizer
    return load_pretrained(regularizer)


class ConvexPrior(Prior):
    """`R(x; sigma)` as a deepinv prior; `g_param` is `sigma` (number, tensor or one per image).

    The proximal operator is solved to a certificate: a relative gap of `prox_tol` of its own strongly
    convex problem, image by image.
    """

    def __init__(
        self, regularizer: ConvexRegularizer | str | Path = "mgradnet-m", *, prox_tol: float = 1e-8
    ) -> None:
        super().__init__()
        self.explicit_prior = True
        self.regularizer = _regularizer(regularizer)
        self.prox_tol = prox_tol

    def fn(
        self, x: Tensor, g_param: Tensor | float | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        """`R(x; g_param)`, `(B,)` in the dtype of `x`."""
        return self.regularizer.energy(x, _level(g_param, x)).to(x.dtype)

    def grad(
        self, x: Tensor, g_param: Tensor | float | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        """`grad R(x; g_param)` in closed form, differentiable in the parameters."""
        return self.regularizer.grad(x, _level(g_param, x))

    def prox(
        self,
        x: Tensor,
        g_param: Tensor | float | None = None,
        *args: Any,
        gamma: Tensor | float = 1.0,
        **kwargs: Any,
    ) -> Tensor:
        """`argmin_z |z - x|^2 / 2 + gamma R(z; g_param)`, any `gamma > 0`, one number or one per image."""
        step = torch.as_tensor(gamma, device=x.device).double().reshape(-1)
        if not bool((step > 0).all()):
            raise ValueError(f"gamma must be positive, got {float(step.min()):g}")
        weight = step.expand(x.shape[0])
        return _prox(self.regularizer, x, _level(g_param, x), weight, self.prox_tol)

    def lipschitz(
        self, image_size: tuple[int, int] | None = None, g_param: Tensor | float | None = None
    ) -> Tensor:
        """Proven Lipschitz constant of the gradient."""
        return self.regularizer.lipschitz(image_size, g_param)


def _level(g_param: Tensor | float | None, x: Tensor) -> Tensor | float | None:
    """The noise level as the regularizer takes it: a float or `(B,)`."""
    if isinstance(g_param, Tensor):
        return g_param.reshape(-1)[0] if g_param.numel() == 1 else g_param.reshape(-1)
    return g_param


@torch.no_grad()
def _prox(
    regularizer: ConvexRegularizer,
    x: Tensor,
    sigma: Tensor | float | None,
    gamma: Tensor,
    tol: float,
) -> Tensor:
    objective = Sum([Proximity(x), regularizer.term(sigma)], [1.0, gamma])
    return minimise(objective, x, QuasiNewton(), gap_tol=tol, max_iter=500).x


class ConvexReconstructor(Reconstructor):
    """`reconstruct` as a deepinv reconstructor: `model(y, physics)`.

    :param sigma: noise level; taken from `physics.noise_model.sigma` when omitted.
    :param options: passed on to `convexreg.reconstruct`.
    """

    def __init__(
        self,
        regularizer: ConvexRegularizer | str | Path = "mgradnet-m",
        *,
        sigma: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.regularizer = _regularizer(regularizer)
        self.sigma, self.options = sigma, options

    def forward(self, y: Tensor, physics: Any, **kwargs: Any) -> Tensor:
        """The reconstruction, `(B, C, H, W)`.

        :raises ValueError: no noise level given, and none in the physics.
        """
        sigma = self.sigma
        if sigma is None:
            sigma = getattr(getattr(physics, "noise_model", None), "sigma", None)
        if sigma is None:
            raise ValueError("give sigma: the physics has no Gaussian noise model to take it from")
        result = reconstruct(y, physics, sigma=sigma, regularizer=self.regularizer, **self.options)
        return result.image


class ConvexDenoiser(Denoiser):
    """The certified proximal operator at noise level `sigma` as a deepinv denoiser.

    A proximal operator is firmly nonexpansive, so plug-and-play schemes built on it converge.
    """

    def __init__(
        self, regularizer: ConvexRegularizer | str | Path = "mgradnet-m", *, tol: float = 1e-6
    ) -> None:
        super().__init__()
        self.regularizer = _regularizer(regularizer)
        self.tol = tol

    def forward(self, x: Tensor, sigma: Tensor | float, **kwargs: Any) -> Tensor:
        """Denoised images, `(B, C, H, W)`."""
        weight = torch.ones(x.shape[0], dtype=torch.float64, device=x.device)
        return _prox(self.regularizer, x, _level(sigma, x), weight, self.tol)
