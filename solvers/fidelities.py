"""Data terms other than least squares: smooth, convex, with proven constants."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .curvature import Curvature
from .data_terms import LeastSquares, LinearOperator, normal_curvature
from .objective import Objective, Sum, per_image
from .physics_norms import OperatorBounds


class Fidelity(Objective):
    """`sum_i d((A x)_i; y_i)` with a smooth convex `d`, `0 <= d'' <= slope`.

    Gradient `A^T d'(A x)`, with Lipschitz constant `slope |A|^2`.
    """

    def __init__(self, operator: LinearOperator, y: Tensor, bounds: OperatorBounds) -> None:
        self.operator, self.y, self.bounds = operator, y, bounds

    @abstractmethod
    def distance(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """`d(z; y)` and its derivative, in the shape of `y`."""

    @abstractmethod
    def slope(self) -> Tensor:
        """`sup d''`, 0-dim or `(B,)` in float64."""

    @abstractmethod
    def weight(self, z: Tensor) -> Tensor:
        """About `d''(z; y)`, in the shape of `y`, for preconditioning."""

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, derivative = self.distance(self.operator.A(x))
        return value.flatten(1).sum(1, dtype=torch.float64), self.operator.A_adjoint(derivative)

    def value(self, x: Tensor) -> Tensor:
        return self.distance(self.operator.A(x))[0].flatten(1).sum(1, dtype=torch.float64)

    def lipschitz(self, x: Tensor) -> Tensor:
        bound = torch.as_tensor(self.bounds.largest, dtype=torch.float64, device=x.device)
        return self.slope().to(x.device) * bound

    def strong_convexity(self, x: Tensor) -> Tensor:
        return torch.zeros((), dtype=torch.float64, device=x.device)

    def curvature(self, x: Tensor) -> Curvature | None:
        part = normal_curvature(self.operator, x)
        if part is None:
            return None
        mean = per_image(self.weight(self.operator.A(x)).flatten(1).mean(1), x)
        return Curvature(mean * part.symbol, mean * part.diagonal)


class PoissonLikelihood(Fidelity):
    """`sum_i z - y + y log(y / z)` with `z = A x / gain + background`: photon counts `y`.

    The negative log-likelihood of Poisson counts with mean `z`, up to a constant. Below the background
    `b`, where no `x >= 0` leads if `A` has no negative entries, it is continued by a parabola of the same
    value and slope with the second derivative `max(y, b) / b^2`: its Taylor polynomial where `y >= b`, and
    elsewhere the parabola whose minimum is at `z = y` (where the likelihood has its own), so that an
    empty pixel cannot run off. Then the Lipschitz constant `max(y, b) / b^2 |A|^2 / gain^2` holds
    everywhere.

    :param gain: of the image per count, positive.
    :param background: mean counts without an image, positive.
    :raises ValueError: negative counts, or a gain or background that is not positive.
    """

    def __init__(
        self,
        operator: LinearOperator,
        y: Tensor,
        bounds: OperatorBounds,
        *,
        gain: float = 1.0,
        background: float,
    ) -> None:
        super().__init__(operator, y, bounds)
        if not gain > 0 or not background > 0:
            raise ValueError(
                f"the Poisson likelihood has a bounded second derivative for a positive background "
                f"only; got gain={gain:g}, background={background:g}"
            )
        if bool((y < 0).any()):
            raise ValueError(f"counts cannot be negative, got {y.min().item():g}")
        self.gain, self.background = gain, background

    def distance(self, z: Tensor) -> tuple[Tensor, Tensor]:
        mean = z / self.gain + self.background
        inside = mean.clamp_min(self.background)
        below = mean - inside
        # the terms are of the size of the counts, their sum is about one half: in float64
        counts, exact = self.y.double(), inside.double()
        value = exact - counts + torch.xlogy(counts, counts / exact)
        slope = (inside - self.y) / inside
        bend = self.y.clamp_min(self.background) / self.background**2
        value = value + below * (slope + bend * below / 2)
        return value, (slope + bend * below) / self.gain

    def slope(self) -> Tensor:
        largest = self.y.flatten(1).amax(1).double().clamp_min(self.background)
        return largest / (self.background * self.gain) ** 2

    def weight(self, z: Tensor) -> Tensor:
        mean = z / self.gain + self.background
        counts = torch.where(mean < self.background, self.y.clamp_min(self.background), self.y)
        return counts / (mean.clamp_min(self.background) * self.gain) ** 2


class SmoothedL1(Fidelity):
    """`sum_i h(A x - y)` with Huber's `h(r) = r^2 / (2 delta)` for `|r| <= delta`, else `|r| - delta / 2`.

    `|A x - y|_1` exceeds it by at most `m delta / 2`, `m` the number of measurements: what a
    certificate says of the smoothed problem holds for the exact one up to that.

    :param delta: positive.
    :raises ValueError: one that is not.
    """

    def __init__(
        self, operator: LinearOperator, y: Tensor, bounds: OperatorBounds, *, delta: float
    ) -> None:
        super().__init__(operator, y, bounds)
        if not delta > 0:
            raise ValueError(f"delta must be positive, got {delta:g}")
        self.delta = delta

    def distance(self, z: Tensor) -> tuple[Tensor, Tensor]:
        residual = z - self.y
        slope = (residual / self.delta).clamp(-1, 1)
        return slope * (residual - self.delta / 2 * slope), slope

    def slope(self) -> Tensor:
        return torch.tensor(1 / self.delta, dtype=torch.float64)

    def weight(self, z: Tensor) -> Tensor:
        return 1 / (z - self.y).abs().clamp_min(self.delta)


L1_SMOOTHING = 1e-3


def data_term(
    fidelity: Any, operator: LinearOperator, y: Tensor, bounds: OperatorBounds
) -> Objective:
    """The data term of a deepinv data fidelity, by its exact type.

    `L2` is `|A x - y|^2 / (2 sigma^2)`; `PoissonLikelihood` needs a positive background; `L1` is smoothed
    with `delta = 1e-3`. An `Objective` that was built by hand is taken as it is.

    :raises ValueError: a fidelity that is not convex, not smooth, or not known here.
    """
    if isinstance(fidelity, Objective):
        return fidelity
    kind = type(fidelity)
    rule = _RULES.get(f"{kind.__module__}.{kind.__qualname__}")
    if rule is None:
        raise ValueError(
            f"the fidelity {kind.__name__} is not known to be convex and smooth, so nothing could be "
            "proven; known: L2, PoissonLikelihood (with a background) and L1 (smoothed)"
        )
    return rule(fidelity, operator, y, bounds)


def _least_squares(fidelity: Any, operator: LinearOperator, y: Tensor, bounds: Any) -> Objective:
    return Sum([LeastSquares(operator, y, bounds)], [float(fidelity.d.norm)])


def _poisson(fidelity: Any, operator: LinearOperator, y: Tensor, bounds: Any) -> Objective:
    counts = y / fidelity.gain if fidelity.d.denormalize else y
    return PoissonLikelihood(operator, counts, bounds, gain=fidelity.gain, background=fidelity.bkg)


def _l1(fidelity: Any, operator: LinearOperator, y: Tensor, bounds: Any) -> Objective:
    return SmoothedL1(operator, y, bounds, delta=L1_SMOOTHING)


_RULES: dict[str, Callable[[Any, LinearOperator, Tensor, OperatorBounds], Objective]] = {
    "deepinv.optim.data_fidelity.L2": _least_squares,
    "deepinv.optim.data_fidelity.PoissonLikelihood": _poisson,
    "deepinv.optim.data_fidelity.L1": _l1,
}
