"""Smooth convex priors of deepinv as terms of an objective."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .deepinv_rules import CurvatureBounds, prior_bounds
from .objective import Objective


class PriorTerm(Objective):
    """`g(x)` of a deepinv prior with the methods `fn` and `grad`.

    :param bounds: constants of the prior; found by its exact type when omitted (`Tikhonov`,
        `SmoothedTVPrior`). Whoever gives others vouches for them.
    :param g_param: passed on to the prior.
    :raises ValueError: no constants given for a prior whose constants are not known here.
    """

    def __init__(
        self, prior: Any, bounds: CurvatureBounds | None = None, *, g_param: Any = None
    ) -> None:
        self.prior, self.g_param, self.bounds = prior, g_param, bounds
        if bounds is None and prior_bounds(prior, torch.empty(1, 1, 1, 1, device="cpu")) is None:
            raise ValueError(
                f"no constants are known for the prior {type(prior).__name__}; if it is convex and smooth, "
                "state them: as its attributes lipschitz and strong_convexity, or by PriorTerm(prior, "
                "CurvatureBounds(lipschitz, strong_convexity)), both of convexreg.solvers"
            )

    def _bounds(self, x: Tensor) -> CurvatureBounds:
        bounds = self.bounds or prior_bounds(self.prior, x)
        assert bounds is not None
        return bounds

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.value(x), self.grad(x)

    def value(self, x: Tensor) -> Tensor:
        return self.prior.fn(x, self.g_param).double()

    def grad(self, x: Tensor) -> Tensor:
        return self.prior.grad(x, self.g_param)

    def lipschitz(self, x: Tensor) -> Tensor:
        return torch.tensor(self._bounds(x).lipschitz, dtype=torch.float64, device=x.device)

    def strong_convexity(self, x: Tensor) -> Tensor:
        return torch.tensor(self._bounds(x).strong_convexity, dtype=torch.float64, device=x.device)

    def subset(self, index: Tensor) -> PriorTerm | None:
        several = isinstance(self.g_param, Tensor) and self.g_param.numel() > 1
        return None if several else self
