"""Linear forward operators: what is asked of them, what is proven of them, and how they are tested."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .batch import inner, of_images
from .curvature import Curvature

_FLOAT32_AGREEMENT = 1e-4
"""Relative change of an operator that its conversion to float64 may make: the rounding of float32."""


class LinearOperator(Protocol):
    """A linear forward operator, as deepinv's `LinearPhysics`."""

    def A(self, x: Tensor) -> Tensor:
        """Measurements of `x`."""
        ...

    def A_adjoint(self, y: Tensor) -> Tensor:
        """The exact adjoint of `A`."""
        ...


class Identity:
    """`A x = x`, the operator of denoising."""

    def A(self, x: Tensor) -> Tensor:
        return x

    def A_adjoint(self, y: Tensor) -> Tensor:
        return y


@dataclass(frozen=True)
class OperatorBounds:
    """`smallest <= eigenvalues of A^T A <= largest`, each a number or one per image `(B,)`.

    :ivar proof: where the bounds come from, in words.
    :ivar normal: a model of `A^T A` for preconditioning, where one is known that is nearly exact; `None`
        to probe the operator for one, which is better than a rough model.
    :ivar identity: whether the operator is known to be the identity.
    """

    largest: Tensor | float
    smallest: Tensor | float = 0.0
    proof: str = "none: the operator is not one with a known bound"
    normal: Curvature | None = None
    identity: bool = False

    def subset(self, index: Tensor) -> OperatorBounds:
        """The bounds for some images of the batch."""
        largest, smallest = (
            of_images(bound, index) if isinstance(bound, Tensor) else bound
            for bound in (self.largest, self.smallest)
        )
        normal = None if self.normal is None else self.normal.subset(index)
        return OperatorBounds(largest, smallest, self.proof, normal, self.identity)


NOTHING_PROVEN = OperatorBounds(float("inf"))


class PrecisionError(ValueError):
    """Something cannot be evaluated in float64; the message says what and why."""


def check_adjoint(operator: LinearOperator, x: Tensor) -> None:
    """Linearity, and the dot-product test of the adjoint, with random images and measurements.

    It is a test and not a proof: a wrong adjoint passes with probability zero, one that is wrong
    by less than `1e-4` (`1e-7` in float64) passes.

    :param x: an image batch of the shape that the operator takes.
    :raises ValueError: the operator is not linear, or `A_adjoint` not the adjoint of `A`.
    """
    tolerance = 1e-4 if x.dtype == torch.float32 else 1e-7
    generator = torch.Generator(device=x.device).manual_seed(0)

    def random(like: Tensor) -> Tensor:
        return torch.empty_like(like, requires_grad=False).normal_(generator=generator)

    u, v = random(x), random(x).abs()
    image_u, image_v = operator.A(u), operator.A(v)
    together = operator.A(u + 2 * v)
    scale = inner(image_u, image_u).sqrt() + inner(image_v, image_v).sqrt()
    difference = together - image_u - 2 * image_v
    if bool((inner(difference, difference).sqrt() > 10 * tolerance * scale).any()):
        raise ValueError(
            "the physics is not linear (A(u + 2 v) differs from A u + 2 A v), so the problem would not "
            "be convex; only linear measurements are reconstructed"
        )
    # of the measurements that A makes, and of any others
    for w in (image_v, random(image_v)):
        one, other = inner(image_v, w), inner(v, operator.A_adjoint(w))
        allowed = tolerance * (inner(image_v, image_v) * inner(w, w)).sqrt()
        if bool((~((one - other).abs() <= allowed)).any()):
            raise ValueError(
                "A_adjoint is not the adjoint of A (<A v, w> differs from <v, A^T w>), so the gradient "
                "would be wrong and nothing could be certified; correct the physics "
                "(deepinv.physics.adjoint_function makes the adjoint of any linear A)"
            )


def acts_on_each_image(operator: LinearOperator, y: Tensor, index: Tensor) -> bool:
    """Whether the operator does to some images of a batch what it does to them among all.

    Not where its parameters (masks, filters) are one per image of the batch.

    :param y: measurements of the batch.
    :param index: numbers of the images.
    """
    image = operator.A_adjoint(y)
    try:
        alone = operator.A_adjoint(y[index]), operator.A(image[index])
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # shapes that do not fit
        return False
    together = image[index], operator.A(image)[index]
    return all(
        one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-6)
        for one, other in zip(alone, together, strict=True)
    )


def operator_in_float64(operator: Any, x: Tensor) -> Any:
    """A copy of the operator that computes in float64, for images shaped like `x`.

    :raises PrecisionError: there is none.
    """
    name = type(operator).__name__
    try:
        # .to(torch.float64) would corrupt deepinv's complex buffers
        exact = copy.deepcopy(operator).double() if isinstance(operator, nn.Module) else operator
        there = exact.A(x.double())
        exact.A_adjoint(there)  # deepinv's tomography answers in float32, accurate as that is
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise PrecisionError(f"{name} cannot compute in float64 ({reason})") from error
    if there.dtype != torch.float64:
        raise PrecisionError(f"{name} computes in {there.dtype} whatever it is given")
    if bool((there - operator.A(x)).abs().max() > _FLOAT32_AGREEMENT * there.abs().max()):
        raise PrecisionError(f"{name} becomes another operator when it is converted to float64")
    return exact
