"""Convex potentials `psi` with their gradients and proven curvature bounds.

A potential acts on channels (dimension 1) and locally: on images each pixel (or small window) has
its own value, on vectors `(B, C)` there is one value per vector. `value` returns one number per
position, `(B, ...)` without the channel dimension.

`weight` multiplies the terms of a potential: nonnegative, broadcastable to `(B, groups, ...)`, where
`groups` is the number of terms (channels for elementwise potentials). A nonnegative weight keeps the
potential convex. It carries noise conditioning and spatially varying strength.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn


def per_channel(parameter: Tensor, u: Tensor) -> Tensor:
    """Shape `(C, ...)` parameters to broadcast against `(B, C, ...)`."""
    return parameter.reshape(parameter.shape[0], *[1] * (u.ndim - 2))


def supremum(weight: Tensor) -> Tensor:
    """Largest weight of each group: `(B or 1, groups)`."""
    return weight.flatten(2).amax(2) if weight.ndim > 2 else weight


def derivative(function: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    """`f'(u)` of an elementwise function, whether gradients are recorded or not."""
    with torch.inference_mode(False), torch.enable_grad():
        # a tensor made in inference mode cannot be differentiated
        point = (u.clone() if u.is_inference() else u.detach()).requires_grad_()
        (result,) = torch.autograd.grad(function(point).sum(), point)
    return result


class Potential(nn.Module, ABC):
    """A function of the channels at each position; convex unless `convex` says otherwise."""

    convex: bool = True
    radius: int = 0
    """How many pixels away the gradient at a pixel looks, one way."""
    block: int = 1
    """Side of the blocks of pixels that have a value together."""
    nonnegative: bool = False
    """Whether no value is negative: what some outer functions `rho` need to be monotone."""

    groupwise: bool = False
    """Whether every channel belongs to one term, and a term depends on a group of consecutive channels."""

    def groups(self, channels: int) -> int:
        """How many terms the potential sums over `channels` channels."""
        return channels

    def magnitude(self, u: Tensor) -> Tensor:
        """2-norm of the argument of every term, `(B, groups, ...)`."""
        return u.unflatten(1, (self.groups(u.shape[1]), -1)).norm(dim=2)

    @abstractmethod
    def value_and_grad(self, u: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Value per position `(B, ...)` and gradient `(B, C, ...)`, computed together."""

    def value(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        return self.value_and_grad(u, weight)[0]

    @abstractmethod
    def grad(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        """Gradient in `u`, `(B, C, ...)`."""

    def terms_and_grad(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Value of every term `(B, groups, ...)` and gradient in the shape of `u`, of a groupwise potential.

        :param u: `(B, members, groups, ...)`, may be overwritten.
        """
        raise NotImplementedError(f"the terms of {type(self).__name__} share channels")

    @abstractmethod
    def curvature_bound(self, channels: int, weight: Tensor | None = None) -> Tensor:
        """`D` with `Hessian <= Diag(D)` everywhere: `(C,)`, or `(B, C)` with weights."""

    @abstractmethod
    def curvature(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        """The Hessian's diagonal at `u`, `(B, C, ...)`, negative entries replaced by zero."""


class ElementwisePotential(Potential):
    """`psi(u) = sum_c psi_c(u_c)`: subclasses give the scalar `density`, `activation` and the bound
    on its derivative."""

    groupwise = True

    @abstractmethod
    def density(self, u: Tensor) -> Tensor:
        """`psi_c(u_c)`, in the shape of `u`."""

    @abstractmethod
    def activation(self, u: Tensor) -> Tensor:
        """`psi_c'(u_c)`, in the shape of `u`."""

    @abstractmethod
    def scalar_curvature_bound(self) -> Tensor | float:
        """`sup |psi_c''|`, one number or `(C,)`."""

    def value_and_grad(self, u: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        density, activation = self.density(u), self.activation(u)
        if weight is not None:
            density, activation = weight * density, weight * activation
        return density.sum(1), activation

    def terms_and_grad(self, u: Tensor) -> tuple[Tensor, Tensor]:
        (channels,) = u.unbind(1)
        return self.density(channels), self.activation(channels).unsqueeze(1)

    def value(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        density = self.density(u)
        return (density if weight is None else weight * density).sum(1)

    def grad(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        activation = self.activation(u)
        return activation if weight is None else weight * activation

    def curvature(self, u: Tensor, weight: Tensor | None = None) -> Tensor:
        curvature = derivative(self.activation, u)
        curvature = curvature if self.convex else curvature.clamp_min(0)
        return curvature if weight is None else weight * curvature

    def curvature_bound(self, channels: int, weight: Tensor | None = None) -> Tensor:
        bound = self.scalar_curvature_bound()
        if not isinstance(bound, Tensor):
            bound = torch.tensor(bound, dtype=torch.float64, device="cpu")
        if weight is None:
            return bound.expand(channels)
        return supremum(weight) * bound.expand(channels).to(weight)
