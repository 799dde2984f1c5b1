"""Gradient networks: maps that are gradients of scalar functions by construction.

`g` is a *gradient network* when its Jacobian is symmetric everywhere and a *monotone* one (mGradNet)
when it is positive semidefinite as well, so that its potential is convex (Chaudhari, Pranav & Moura,
"Gradient networks", 2024, Defs 2-4). All networks run over any `LinearOperator`: on vectors
`(B, n)` with dense matrices, on images `(B, C, H, W)` with convolutions.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor, nn

from convexreg.networks.conditioning import Conditioning, SpatialWeights
from convexreg.networks.operators import LinearOperator, Reach, places

if TYPE_CHECKING:
    from typing_extensions import Self

Sigma = Tensor | float | None


def per_image_sum(value: Tensor) -> Tensor:
    """Sum over everything but the batch, accumulated in float64: `(B, ...)` to `(B,)`."""
    return value.unsqueeze(-1).flatten(1).sum(1, dtype=torch.float64)


M = TypeVar("M", bound=nn.Module)


def replaced(module: M, **children: nn.Module) -> M:
    """A copy of `module` that shares its parameters and has other modules for some of its own."""
    twin = copy.copy(module)
    twin._modules = {**module._modules, **children}
    return twin


def converted(module: M, device: torch.device, dtype: torch.dtype) -> M:
    """The module on another device and in another floating-point type, differentiable in its tensors.

    What need not change is shared with the original, which stays as it is; the other parameters and buffers
    are `.to(device, dtype)` of the original's and no leaves, so that gradients reach the original's. If
    nothing changes the module itself comes back. Spatial weights, by far the largest tensors, keep their
    type: they are cast where they are used.
    """
    fields = [part.field for part in module.modules() if isinstance(part, SpatialWeights)]

    def convert(tensor: Tensor) -> Tensor:
        kept = not tensor.is_floating_point() or any(tensor is field for field in fields)
        return tensor.to(device, tensor.dtype if kept else dtype)

    return with_tensors(module, convert)


def with_tensors(module: M, change: Callable[[Tensor], Tensor]) -> M:
    """The module with its parameters and buffers changed, each once; itself if none changes.

    What need not change is shared with the original, which stays as it is.
    """
    return _with_tensors(module, change, {})


def _with_tensors(module: M, change: Callable[[Tensor], Tensor], done: dict[Any, Any]) -> M:
    """`done` holds what has been changed, so that what is shared stays shared."""
    if module in done:
        return done[module]

    def changed(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        if tensor not in done:
            done[tensor] = change(tensor)
        return done[tensor]

    parameters, buffers = (
        {name: changed(tensor) for name, tensor in tensors.items()}
        for tensors in (module._parameters, module._buffers)
    )
    children = {
        name: None if child is None else _with_tensors(child, change, done)
        for name, child in module._modules.items()
    }
    pairs = (
        (module._parameters, parameters),
        (module._buffers, buffers),
        (module._modules, children),
    )
    if all(new[name] is old[name] for old, new in pairs for name in old):
        twin = module
    else:
        twin = copy.copy(module)
        twin.__dict__.update(_parameters=parameters, _buffers=buffers, _modules=children)
    done[module] = twin
    return twin


class GradientNetwork(nn.Module, ABC):
    """`x -> g(x) = grad potential(x)`, with the shape of `x`.

    `sigma` is the noise level a conditioned network is evaluated at, a float or one per image `(B,)`;
    networks without conditioning do not depend on it.

    :ivar block: parts of images begin at multiples of so many rows and columns.
    """

    block: int = 1

    @property
    @abstractmethod
    def monotone(self) -> bool:
        """Whether the potential is convex by construction."""

    @abstractmethod
    def forward(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        """`g(x)`."""

    @abstractmethod
    def density(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        """The terms of the potential at each position, `(B, ...)` without a channel dimension."""

    def density_and_grad(self, x: Tensor, sigma: Sigma = None) -> tuple[Tensor, Tensor]:
        """`density(x)` and `g(x)`, sharing what they have in common."""
        return self.density(x, sigma), self(x, sigma)

    def potential(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        """The function whose gradient is `g`, `(B,)` in float64, up to a constant in `x`."""
        return per_image_sum(self.density(x, sigma))

    def value_and_grad(self, x: Tensor, sigma: Sigma = None) -> tuple[Tensor, Tensor]:
        """`potential(x)` and `g(x)`."""
        density, grad = self.density_and_grad(x, sigma)
        return per_image_sum(density), grad

    def reach(self) -> Reach | None:
        """What the gradient at a pixel depends on; `None` for everything."""
        return None

    @abstractmethod
    def lipschitz(self, image_size: tuple[int, int] | None = None, sigma: Sigma = None) -> Tensor:
        """Proven Lipschitz constant of `g` (2-norm); `inf` where there is none. 0-dim or `(B,)`."""

    def strong_convexity(self) -> Tensor:
        """Proven modulus `mu >= 0` of the potential, 0-dim in float64."""
        return torch.zeros((), dtype=torch.float64, device="cpu")

    def summands(self) -> list[tuple[Tensor | float, GradientNetwork]]:
        """Networks with coefficients, of which this one is the sum."""
        return [(1.0, self)]

    def curvatures(
        self, x: Tensor, sigma: Sigma = None, step: int = 1
    ) -> list[tuple[LinearOperator, Tensor]] | None:
        """Operators `W` with curvatures `c` `(B, C, ...)` such that the Jacobian at `x` is about the sum of
        `W^T Diag(c) W`, for preconditioning; `None` where there is no such model.

        :param step: take only every so many rows and columns of `c`, those of `operators.sampled`.
        """
        return None

    @property
    def terms(self) -> int:
        """How many terms the potential sums at every pixel: those that weights can be given to."""
        raise NotImplementedError(f"{type(self).__name__} has no terms to give weights to")

    def magnitudes(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        """Size of the argument of every term, `(B, terms, ...)`, nonnegative."""
        raise NotImplementedError(f"{type(self).__name__} has no terms to give weights to")

    def with_weights(self, weights: Tensor) -> GradientNetwork:
        """The same network, sharing its parameters, with every term multiplied by a weight.

        :param weights: nonnegative, `(B or 1, terms, H, W)`. The result takes images of that size.
        """
        raise NotImplementedError(f"{type(self).__name__} has no terms to give weights to")

    def part(
        self, images: Tensor, rows: Tensor | None = None, columns: Tensor | None = None
    ) -> GradientNetwork:
        """The network for some images of a batch, or for a part of them: itself, unless it has spatial
        weights. All arguments are integer indices."""
        del images, rows, columns
        return self


class ConditionedNetwork(GradientNetwork):
    """A network of one operator and one conditioning, whose weights can vary from pixel to pixel."""

    operator: LinearOperator
    conditioning: Conditioning | None

    def with_weights(self, weights: Tensor) -> GradientNetwork:
        conditioning = self.conditioning
        if isinstance(conditioning, SpatialWeights):
            conditioning, weights = conditioning.conditioning, conditioning.field * weights
        return replaced(self, conditioning=SpatialWeights(conditioning, weights))

    def part(
        self, images: Tensor, rows: Tensor | None = None, columns: Tensor | None = None
    ) -> GradientNetwork:
        if not isinstance(self.conditioning, SpatialWeights):
            return self
        return replaced(self, conditioning=self.conditioning.part(images, rows, columns))

    def sampled(self, x: Tensor, step: int) -> Self:
        """The network for the responses `operator.sampled(x, step)`, with the weights of those places."""
        if step == 1:
            return self
        images = torch.arange(x.shape[0], device=x.device)
        rows, columns = (places(length, step, x.device) for length in x.shape[-2:])
        return cast("Self", self.part(images, rows, columns))


def squeeze_batch(bound: Tensor) -> Tensor:
    """A batch of one bound is a bound for everything."""
    return bound.squeeze(0) if bound.shape == (1,) else bound
