"""`R(.; sigma)` of a regularizer as a term of an objective."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from convexreg.networks.bands import PlaneLayout, layout
from convexreg.networks.base import GradientNetwork, Sigma
from convexreg.networks.evaluation import Evaluation
from convexreg.solvers.batch import per_image
from convexreg.solvers.curvature import Curvature
from convexreg.solvers.objective import Objective
from convexreg.solvers.precision import without_autocast

if TYPE_CHECKING:
    from typing_extensions import Self


class OnImages(Protocol):
    """A function on images, computed by a network on planes (`convexreg.regularizer.Regularizer`)."""

    network: GradientNetwork
    in_channels: int

    @property
    def convex(self) -> bool: ...

    def of(self, channels: int) -> Self: ...

    def planes(self, x: Tensor, sigma: Sigma) -> tuple[Tensor, Sigma]: ...

    def reached(self, sigma: Sigma) -> tuple[Sigma, Tensor | None]: ...

    def lipschitz(
        self,
        image_size: tuple[int, int] | None = None,
        sigma: Sigma = None,
        *,
        channels: int | None = None,
    ) -> Tensor: ...

    def strong_convexity(self) -> Tensor: ...

    def subset(self, index: Tensor) -> Self: ...


class RegularizationTerm(Objective):
    """`R(.; sigma)` of a regularizer as a term of an objective: `sum_p w_p R(plane p)` on several planes."""

    def __init__(self, regularizer: OnImages, sigma: Sigma) -> None:
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
        value, grad = self._evaluated(x)
        assert value is not None
        assert grad is not None
        return value, grad

    @without_autocast
    def value(self, x: Tensor) -> Tensor:
        value, _ = self._evaluated(x, grad=False)
        assert value is not None
        return value

    @without_autocast
    def grad(self, x: Tensor) -> Tensor:
        _, grad = self._evaluated(x, value=False)
        assert grad is not None
        return grad

    def _evaluated(
        self, x: Tensor, *, value: bool = True, grad: bool = True
    ) -> tuple[Tensor | None, Tensor | None]:
        """`R(s x) / s^2` and `grad R(s x) / s` of the images, as far as they are asked for."""
        evaluation, planes, several, scale = self._planes(x)
        values, grads = evaluation.value_and_grad(planes, value=value, grad=grad)
        if several is not None:
            values = None if values is None else several.total(values)
            grads = None if grads is None else several.from_planes(several.weighted(grads))
        if scale is not None:
            values = None if values is None else values / scale.to(values) ** 2
            grads = None if grads is None else grads / per_image(scale.to(grads), grads)
        return values, grads

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
