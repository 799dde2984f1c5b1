"""The regularizer as a prior of deepinv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from deepinv.optim import BregmanL2, Prior
from torch import Tensor

from convexreg.models.files import CONVEX_MODEL, regularizer_of
from convexreg.reconstruction.noise_gain import noise_gain
from convexreg.reconstruction.proximal import LastPoint, proximal_point
from convexreg.regularizer import ConvexRegularizer
from convexreg.solvers.operator_rules import operator_bounds

Level = Tensor | float | None


class ConvexPrior(Prior):
    """`R(x; sigma)` as a deepinv prior, for every algorithm that takes one.

    `g_param` is `sigma`, the noise level on the [0, 1] scale: a number, a tensor, a parameter, or one
    level per image in any shape with `B` elements. Everything is differentiable in the parameters of
    the regularizer, in `x`, in `g_param` and (the proximal operator) in `gamma`. The weights of shipped
    models are frozen; train them after `prior.requires_grad_()`.

    Algorithms of deepinv do not move their priors: `prior.to(device)` and `prior.double()` do. They
    evaluate the cost of explicit priors in every iteration, about a half more time; switch that off
    with `prior.explicit_prior = False`.

    :param regularizer: a regularizer, the name of a shipped model or the path of a model file.
    :param prox_tol: proven rms distance per pixel of a proximal point to the exact one.
    :param per_channel: regularize every channel as a gray image of its own, for images that are
        neither gray nor colour: real and imaginary parts, spectral bands.
    :param warm_start: begin every proximal point at the last one, for algorithms that iterate: about half of
        the time. An answer then depends, within `prox_tol`, on what was asked before.
    """

    def __init__(
        self,
        regularizer: ConvexRegularizer | str | Path = CONVEX_MODEL,
        *,
        prox_tol: float = 1e-5,
        per_channel: bool = False,
        warm_start: bool = False,
    ) -> None:
        super().__init__()
        self.explicit_prior = True
        self.regularizer = regularizer_of(regularizer, convex=True)
        self.prox_tol = prox_tol
        self.per_channel = per_channel
        self._last = LastPoint() if warm_start else None

    def fn(self, x: Tensor, g_param: Level = None, *args: Any, **kwargs: Any) -> Tensor:
        """`R(x; g_param)`, `(B,)` in the dtype of `x`."""
        planes, (sigma,) = self._planes(x, g_param)
        values = self.regularizer.energy(planes, sigma).to(x.dtype)
        return values.reshape(x.shape[0], -1).sum(1)

    def grad(self, x: Tensor, g_param: Level = None, *args: Any, **kwargs: Any) -> Tensor:
        """`grad R(x; g_param)` in closed form, in the shape of `x`."""
        planes, (sigma,) = self._planes(x, g_param)
        return self.regularizer.grad(planes, sigma).reshape(x.shape)

    def prox(
        self,
        x: Tensor,
        g_param: Level = None,
        *args: Any,
        gamma: Tensor | float = 1.0,
        **kwargs: Any,
    ) -> Tensor:
        """`argmin_z |z - x|^2 / 2 + gamma R(z; g_param)` for any `gamma >= 0`, one or one per image.

        Within an rms distance of `prox_tol` of the exact point, by strong convexity; where the
        precision of the dtype does not allow that, a `RuntimeWarning` says what is proven.

        :raises ValueError: a negative `gamma`.
        """
        planes, (sigma, step) = self._planes(x, g_param, gamma)
        step = torch.as_tensor(step, dtype=torch.float64, device=x.device)
        point = proximal_point(
            self.regularizer, planes, gamma=step, sigma=sigma, tol=self.prox_tol, last=self._last
        )
        return point.reshape(x.shape)

    def bregman_prox(
        self, x: Tensor, bregman_potential: Any, *args: Any, gamma: Any = 1.0, **kwargs: Any
    ) -> Tensor:
        """`prox` for the Euclidean potential.

        :raises NotImplementedError: another potential. deepinv would run gradient descent with a fixed
            step there, which need not converge.
        """
        if not isinstance(bregman_potential, BregmanL2):
            raise NotImplementedError(
                "the Bregman proximal operator is available for BregmanL2 only; use mirror descent "
                "(MD), which needs the gradient alone"
            )
        return self.prox(x, *args, gamma=gamma, **kwargs)

    def lipschitz(
        self,
        image_size: tuple[int, int] | None = None,
        g_param: Level = None,
        *,
        channels: int | None = None,
    ) -> Tensor:
        """Proven Lipschitz constant of `grad` (2-norm): 0-dim, or `(B,)` with one level per image.

        :param image_size: `(H, W)` for a bound on that grid; for every size when omitted.
        :param channels: of the images, see `Regularizer.lipschitz`.
        """
        channels = 1 if self.per_channel else channels
        return self.regularizer.lipschitz(image_size, _flat(g_param), channels=channels)

    def strong_convexity(self) -> Tensor:
        """Proven modulus of strong convexity, 0-dim."""
        return self.regularizer.strong_convexity()

    @torch.no_grad()
    def stepsize(
        self, physics: Any, x: Tensor, *, lambda_reg: float = 1.0, g_param: Level = None
    ) -> float:
        """`1 / (|A|^2 + lambda_reg L)` from proven bounds: the step at which gradient descent on
        `|A x - y|^2 / 2 + lambda_reg R(x; g_param)` never increases the objective (Nesterov 2018,
        Thm 2.1.14), for all images of a batch.

        :param x: an image batch of the shape to reconstruct.
        :raises ValueError: no bound on `|A|` is proven for this physics.
        """
        bounds = operator_bounds(physics, x)
        largest = float(torch.as_tensor(bounds.largest, device="cpu").max())
        if largest == float("inf"):
            raise ValueError(
                f"no bound on the norm of {type(physics).__name__} is proven, so no step size is "
                "either; ConvexReconstructor needs none, because it searches for its steps"
            )
        size = (x.shape[-2], x.shape[-1])
        own = float(self.lipschitz(size, g_param, channels=x.shape[1]).max())
        return 1 / (largest + lambda_reg * own)

    def weight(self, physics: Any, x: Tensor, y: Tensor) -> float:
        """The `lambda_reg` that the noise asks for as it passes the operator (`reconstruction.noise_gain`),
        the mean of a batch: one for denoising.

        :param x: an image batch of the shape to reconstruct.
        :param y: measurements.
        """
        return float(noise_gain(physics, x, y).weight(adaptive=False).mean())

    def _planes(self, x: Tensor, *levels: Level) -> tuple[Tensor, list[Level]]:
        """The images as the regularizer takes them, and what there is one of per image."""
        flat: list[Level] = [_flat(level) for level in levels]
        if not self.per_channel:
            return x, flat
        channels = x.shape[1]
        repeated: list[Level] = [
            level.repeat_interleave(channels)
            if isinstance(level, Tensor) and level.ndim > 0
            else level
            for level in flat
        ]
        return x.flatten(0, 1).unsqueeze(1), repeated


def _flat(level: Level) -> Level:
    """A tensor of one level as 0-dim, of several as `(B,)`."""
    if isinstance(level, Tensor):
        return level.reshape(()) if level.numel() == 1 else level.reshape(-1)
    return level
