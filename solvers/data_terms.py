"""Data terms `D(A x, y)`: smooth and convex, with proven constants."""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

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

    def noise_level(self) -> Tensor | None:
        """Standard deviation of the noise that the distance is of, if it says so: `(B,)` in float64."""
        return None

    def noise_levels(self, x: Tensor) -> Tensor | None:
        """Those of the measurements of an image, in the shape of `y`, if they depend on it."""
        return None

    def scale(self, level: Tensor) -> Tensor | None:
        """How many times `|A x - y|^2 / 2` it is, about, where the noise has that level, if that can be said.

        :param level: `(B,)`.
        """
        return None

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

    def scale(self, level: Tensor) -> Tensor:
        return torch.full_like(level, self.modulus)

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

    :param weights: positive, in the shape of `y`: the inverse of the variances, relative to that of the noise
        level of the problem.
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

    def scale(self, level: Tensor) -> Tensor:
        return torch.ones_like(level)

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
