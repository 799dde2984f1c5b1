"""Smooth convex priors of deepinv as terms of an objective, with their constants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .objective import Objective


@dataclass(frozen=True)
class SlopeBounds:
    """What is proven of a prior's gradient.

    :ivar lipschitz: upper bound on its Lipschitz constant.
    :ivar strong_convexity: lower bound on its modulus.
    """

    lipschitz: float
    strong_convexity: float = 0.0


class PriorTerm(Objective):
    """`g(x)` of a deepinv prior with the methods `fn` and `grad`.

    :param bounds: constants of the prior; found by its exact type when omitted (`Tikhonov`,
        `SmoothedTVPrior`). Whoever gives others vouches for them.
    :param g_param: passed on to the prior.
    :raises ValueError: no constants given for a prior whose constants are not known here.
    """

    def __init__(
        self, prior: Any, bounds: SlopeBounds | None = None, *, g_param: Any = None
    ) -> None:
        self.prior, self.g_param = prior, g_param
        if bounds is None:
            kind = type(prior)
            rule = _RULES.get(f"{kind.__module__}.{kind.__qualname__}")
            if rule is None:
                raise ValueError(
                    f"no constants are known for the prior {kind.__name__}; state them: "
                    "PriorTerm(prior, SlopeBounds(lipschitz, strong_convexity))"
                )
            self.bounds = partial(rule, prior)
        else:
            self.bounds = lambda _: bounds

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.value(x), self.prior.grad(x, self.g_param)

    def value(self, x: Tensor) -> Tensor:
        return self.prior.fn(x, self.g_param).double()

    def lipschitz(self, x: Tensor) -> Tensor:
        return torch.tensor(self.bounds(x).lipschitz, dtype=torch.float64, device=x.device)

    def strong_convexity(self, x: Tensor) -> Tensor:
        return torch.tensor(self.bounds(x).strong_convexity, dtype=torch.float64, device=x.device)


def _tikhonov(prior: Any, x: Tensor) -> SlopeBounds:
    """`|x|^2 / 2`."""
    return SlopeBounds(1.0, 1.0)


def _smoothed_total_variation(prior: Any, x: Tensor) -> SlopeBounds:
    """`sum sqrt(|D x|^2 + eps^2)` has curvature at most `|D|^2 / eps`, `|D|^2 <= 8` on images, 12 on volumes.

    Forward differences have `|D_i|^2 <= 4` in each direction (Chambolle 2004, Thm 3.1). The prior's own
    inner step assumes `|D|^2 = 4`.
    """
    return SlopeBounds(4 * (x.ndim - 2) / prior.eps)


_RULES: dict[str, Callable[[Any, Tensor], SlopeBounds]] = {
    "deepinv.optim.prior.Tikhonov": _tikhonov,
    "deepinv.optim.prior.SmoothedTVPrior": _smoothed_total_variation,
}
