"""Data terms `D(A x, y)`: smooth and convex, with proven constants."""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from .batch import inner
from .curvature import Curvature
from .normal_curvature import probed_curvature
from .objective import Objective
from .operators import (
    NOTHING_PROVEN,
    LinearOperator,
    OperatorBounds,
    acts_on_each_image,
    check_adjoint,
    operator_in_float64,
)


class DataTerm(Objective):
    """`sum_i d((A x)_i; y_i)` with a convex `d`, `0 <= modulus <= d'' <= curvature_bound`.

    Gradient `A^T d'(A x)`, with Lipschitz constant `curvature_bound |A|^2`.

    :param operator: with `A` and `A_adjoint` (deepinv's physics).
    :param y: measurements `(B, ...)`, real.
    :param bounds: proven bounds on the spectrum of `A^T A`, see `solvers.deepinv_rules`.
    :raises ValueError: complex measurements.
    """

    modulus: float = 0.0

    def __init__(
        self, operator: LinearOperator, y: Tensor, bounds: OperatorBounds = NOTHING_PROVEN
    ) -> None:
        if y.is_complex():
            raise ValueError(
                "the measurements are complex; give real and imaginary part as two channels"
            )
        self.operator, self.y, self.bounds = operator, y, bounds
        self._normal: Curvature | None = bounds.normal
        self._checked = False

    def __repr__(self) -> str:
        operator, shape = type(self.operator).__name__, tuple(self.y.shape)
        return f"{type(self).__name__}({operator}, measurements {shape})"

    @abstractmethod
    def distance(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """`d(z; y)` and its derivative, in the shape of `y`."""

    @abstractmethod
    def curvature_bound(self) -> Tensor:
        """`sup d''`, 0-dim or `(B,)` in float64."""

    @abstractmethod
    def weight(self, z: Tensor) -> Tensor:
        """About `d''(z; y)`, in the shape of `y`, for preconditioning."""

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, derivative = self.distance(self.operator.A(x))
        return value.flatten(1).sum(1, dtype=torch.float64), self.operator.A_adjoint(derivative)

    def value(self, x: Tensor) -> Tensor:
        return self.distance(self.operator.A(x))[0].flatten(1).sum(1, dtype=torch.float64)

    def grad(self, x: Tensor) -> Tensor:
        return self.operator.A_adjoint(self.distance(self.operator.A(x))[1])

    def hessian_product(self, x: Tensor, u: Tensor) -> Tensor:
        """`A^T Diag(weight) A u` at `x`: the Hessian times `u` where `weight` is `d''`."""
        weight = self.weight(self.operator.A(x))
        return self.operator.A_adjoint(weight * self.operator.A(u))

    def lipschitz(self, x: Tensor) -> Tensor:
        bound = torch.as_tensor(self.bounds.largest, dtype=torch.float64, device=x.device)
        return self.curvature_bound().to(x.device) * bound

    def strong_convexity(self, x: Tensor) -> Tensor:
        bound = torch.as_tensor(self.bounds.smallest, dtype=torch.float64, device=x.device)
        return self.modulus * bound

    def curvature(self, x: Tensor) -> Curvature | None:
        """That of `A^T A`, found once, times the mean of `d''`."""
        if x.ndim != 4:
            return None
        if self._normal is not None:
            return self._normal.scaled(self._mean_weight(x))
        probed = probed_curvature(self.operator, x)
        self._normal = replace(probed, evaluations=0.0)  # paid once
        return probed.scaled(self._mean_weight(x))

    def _mean_weight(self, x: Tensor) -> Tensor:
        """The mean of `d''` at `x`, one number or one per image."""
        return self.weight(self.operator.A(x)).flatten(1).mean(1)

    def subset(self, index: Tensor) -> DataTerm | None:
        """`None` where the operator does not act on some images as it does on all of them."""
        if not acts_on_each_image(self.operator, self.y, index):
            return None
        part = copy.copy(self)
        part.y, part.bounds = self.y[index], self.bounds.subset(index)
        part._normal = None if self._normal is None else self._normal.subset(index)
        return part

    def check(self, x: Tensor) -> None:
        """See `operators.check_adjoint`; done once."""
        if not self._checked:
            check_adjoint(self.operator, x)
            self._checked = True

    def given(self, *, operator: LinearOperator, y: Tensor) -> DataTerm:
        """The same data term of another operator and other measurements; bounds are kept."""
        other = copy.copy(self)
        other.operator, other.y = operator, y
        return other

    def in_float64(self, x: Tensor) -> DataTerm:
        """The same data term in float64, for images shaped like `x`.

        :raises PrecisionError: the operator cannot be copied, cannot compute in float64, or is another one
            there.
        """
        exact = self.given(operator=operator_in_float64(self.operator, x), y=self.y.double())
        exact._checked, exact._normal = False, None
        return exact


class LeastSquares(DataTerm):
    """`|A x - y|^2 / (2 sigma^2)`.

    :param sigma: positive; one by default.
    """

    def __init__(
        self,
        operator: LinearOperator,
        y: Tensor,
        bounds: OperatorBounds = NOTHING_PROVEN,
        *,
        sigma: float = 1.0,
    ) -> None:
        super().__init__(operator, y, bounds)
        if not sigma > 0:
            raise ValueError(f"sigma must be positive, got {sigma:g}")
        self.modulus = sigma**-2

    @property
    def sees_images(self) -> bool:
        """Whether it is `|x - y|^2 / 2`: the identity, of which that alone is known by its proof."""
        return self.modulus == 1 and self.bounds.identity

    def distance(self, z: Tensor) -> tuple[Tensor, Tensor]:
        residual = z - self.y
        derivative = residual if self.modulus == 1 else self.modulus * residual
        return residual * derivative / 2, derivative

    def curvature_bound(self) -> Tensor:
        return torch.tensor(self.modulus, dtype=torch.float64, device=self.y.device)

    def weight(self, z: Tensor) -> Tensor:
        return torch.full_like(z, self.modulus)

    def hessian_product(self, x: Tensor, u: Tensor) -> Tensor:
        return self.modulus * self.operator.A_adjoint(self.operator.A(u))

    def _mean_weight(self, x: Tensor) -> Tensor:
        return x.new_tensor(self.modulus)


class WeightedLeastSquares(DataTerm):
    """`sum_i w_i (A x - y)_i^2 / 2`: independent noise that is not equally strong everywhere.

    :param weights: positive, in the shape of `y`: the inverse of the variances, up to a factor.
    :raises ValueError: weights that are not positive and finite, or of another shape.
    """

    def __init__(
        self,
        operator: LinearOperator,
        y: Tensor,
        bounds: OperatorBounds = NOTHING_PROVEN,
        *,
        weights: Tensor,
    ) -> None:
        super().__init__(operator, y, bounds)
        if weights.shape != y.shape or not bool(((weights > 0) & weights.isfinite()).all()):
            raise ValueError(
                f"the weights must be positive and finite, in the shape {tuple(y.shape)}; got "
                f"{tuple(weights.shape)} from {weights.min().item():g} to {weights.max().item():g}"
            )
        self.weights = weights

    def distance(self, z: Tensor) -> tuple[Tensor, Tensor]:
        residual = z - self.y
        derivative = self.weights * residual
        return residual * derivative / 2, derivative

    def curvature_bound(self) -> Tensor:
        return self.weights.flatten(1).amax(1).double()

    def strong_convexity(self, x: Tensor) -> Tensor:
        smallest = torch.as_tensor(self.bounds.smallest, dtype=torch.float64, device=x.device)
        return self.weights.flatten(1).amin(1).double() * smallest

    def weight(self, z: Tensor) -> Tensor:
        return self.weights

    def curvature(self, x: Tensor) -> Curvature | None:
        """Scaled pixel by pixel where every pixel has its measurement."""
        model = super().curvature(x)
        if model is None or self.weights.shape[2:] != x.shape[2:]:
            return model
        weights = self.weights.mean(1, keepdim=True)
        relative = weights / weights.mean((2, 3), keepdim=True)
        return replace(model, diagonal=relative * model.diagonal)

    def subset(self, index: Tensor) -> DataTerm | None:
        part = super().subset(index)
        if isinstance(part, WeightedLeastSquares):
            part.weights = self.weights[index]
        return part

    def in_float64(self, x: Tensor) -> DataTerm:
        exact = super().in_float64(x)
        assert isinstance(exact, WeightedLeastSquares)
        exact.weights = self.weights.double()
        return exact


class PoissonLikelihood(DataTerm):
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
        bounds: OperatorBounds = NOTHING_PROVEN,
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

    def curvature_bound(self) -> Tensor:
        largest = self.y.flatten(1).amax(1).double().clamp_min(self.background)
        return largest / (self.background * self.gain) ** 2

    def weight(self, z: Tensor) -> Tensor:
        mean = z / self.gain + self.background
        counts = torch.where(mean < self.background, self.y.clamp_min(self.background), self.y)
        return counts / (mean.clamp_min(self.background) * self.gain) ** 2


class SmoothedL1(DataTerm):
    """`sum_i h(A x - y)` with Huber's `h(r) = r^2 / (2 delta)` for `|r| <= delta`, else `|r| - delta / 2`.

    `|A x - y|_1` exceeds it by at most `m delta / 2`, `m` the number of measurements: what a
    certificate says of the smoothed problem holds for the exact one up to that.

    :param delta: positive.
    :raises ValueError: one that is not.
    """

    def __init__(
        self,
        operator: LinearOperator,
        y: Tensor,
        bounds: OperatorBounds = NOTHING_PROVEN,
        *,
        delta: float,
    ) -> None:
        super().__init__(operator, y, bounds)
        if not delta > 0:
            raise ValueError(f"delta must be positive, got {delta:g}")
        self.delta = delta

    def distance(self, z: Tensor) -> tuple[Tensor, Tensor]:
        residual = z - self.y
        derivative = (residual / self.delta).clamp(-1, 1)
        return derivative * (residual - self.delta / 2 * derivative), derivative

    def curvature_bound(self) -> Tensor:
        return torch.tensor(1 / self.delta, dtype=torch.float64, device=self.y.device)

    def weight(self, z: Tensor) -> Tensor:
        return 1 / (z - self.y).abs().clamp_min(self.delta)


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
