"""`R(.; sigma)` of a regularizer as a term of an objective."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from convexreg.networks.bands import PlaneLayout, layout
from convexreg.networks.base import Sigma
from convexreg.networks.evaluation import Evaluation
from convexreg.solvers.batch import per_image
from convexreg.solvers.curvature import Curvature
from convexreg.solvers.objective import Objective
from convexreg.solvers.precision import without_autocast

if TYPE_CHECKING:
    from convexreg.regularizer import Regularizer


class RegularizationTerm(Objective):
    """`R(.; sigma)` of a regularizer as a term of an objective: `sum_p w_p R(plane p)` on several planes."""

    def __init__(self, regularizer: Regularizer, sigma: Sigma) -> None:
        self.regularizer, self.sigma = regularizer, sigma
        self._evaluations: dict[int, Evaluation] = {}

    def _planes(self, x: Tensor) -> tuple[Evaluation, Tensor, PlaneLayout | None, Tensor | None]:
        """How to evaluate what the network takes, that, how it is planes of the images if it is, and the
        scale that takes them to its noise levels."""
        regularizer, channels = self.regularizer.of(x.shape[1]), x.shape[1]
        planes, levels = regularizer.planes(x, self.sigma)
        if channels not in self._evaluations:
            self._evaluations[channels] = Evaluation(regularizer.network, levels)
        _, scale = regularizer.reached(self.sigma)
        several = None if channels == regularizer.in_channels else layout(channels)
        return self._evaluations[channels], planes, several, scale

    @without_autocast
    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        evaluation, planes, several, scale = self._planes(x)
        value, grad = evaluation.value_and_grad(planes)
        assert value is not None
        assert grad is not None
        return _value(value, several, scale), _grad(grad, several, scale)

    @without_autocast
    def value(self, x: Tensor) -> Tensor:
        evaluation, planes, several, scale = self._planes(x)
        value, _ = evaluation.value_and_grad(planes, grad=False)
        assert value is not None
        return _value(value, several, scale)

    @without_autocast
    def grad(self, x: Tensor) -> Tensor:
        evaluation, planes, several, scale = self._planes(x)
        _, grad = evaluation.value_and_grad(planes, value=False)
        assert grad is not None
        return _grad(grad, several, scale)

    @without_autocast
    def curvature(self, x: Tensor) -> Curvature | None:
        evaluation, planes, several, _ = self._planes(x)
        model = evaluation.curvature(planes)
        return model if several is None or model is None else several.curvature(model)

    def lipschitz(self, x: Tensor) -> Tensor:
        size = (x.shape[-2], x.shape[-1])
        return self.regularizer.lipschitz(size, self.sigma, channels=x.shape[1]).to(x.device)

    def strong_convexity(self, x: Tensor) -> Tensor:
        if self.regularizer.convex:
            return self.regularizer.strong_convexity().to(x.device)
        return -self.lipschitz(x)  # no Hessian of a function with L-Lipschitz gradient is below -L

    def subset(self, index: Tensor) -> RegularizationTerm:
        sigma = self.sigma
        if isinstance(sigma, Tensor) and sigma.numel() > 1:
            sigma = sigma.reshape(-1)[index.to(sigma.device)]
        return RegularizationTerm(self.regularizer.subset(index), sigma)


def _value(value: Tensor, several: PlaneLayout | None, scale: Tensor | None) -> Tensor:
    """Of the images, `R(s x) / s^2`."""
    value = value if several is None else several.total(value)
    return value if scale is None else value / scale.to(value) ** 2


def _grad(grad: Tensor, several: PlaneLayout | None, scale: Tensor | None) -> Tensor:
    """Of the images, `grad R(s x) / s`."""
    grad = grad if several is None else several.from_planes(several.weighted(grad))
    return grad if scale is None else grad / per_image(scale.to(grad), grad)
