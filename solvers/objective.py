"""What a solver needs to know about the function it minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from .batch import of_images, per_image
from .curvature import Curvature


class Objective(ABC):
    """A convex differentiable function of a batch `x = (B, ...)`, one value per image.

    The constants are theorems: `lipschitz` bounds the gradient's Lipschitz constant from above and
    `strong_convexity` the modulus from below, each 0-dim or one per image `(B,)`. `inf` says that no
    bound is known (solvers then search for a step), `0` that no modulus is.
    """

    @abstractmethod
    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`F(x)`, `(B,)` in float64, and its gradient in the shape of `x`."""

    def value(self, x: Tensor) -> Tensor:
        """`F(x)`, `(B,)` in float64."""
        return self.value_and_grad(x)[0]

    def grad(self, x: Tensor) -> Tensor:
        """The gradient in the shape of `x`; differentiable where the objective is so twice."""
        return self.value_and_grad(x)[1]

    @abstractmethod
    def lipschitz(self, x: Tensor) -> Tensor:
        """Upper bound on the Lipschitz constant of the gradient, for inputs shaped like `x`."""

    @abstractmethod
    def strong_convexity(self, x: Tensor) -> Tensor:
        """Lower bound on the modulus of strong convexity, for inputs shaped like `x`."""

    def curvature(self, x: Tensor) -> Curvature | None:
        """A model of the Hessian at `x` for preconditioning, or `None` where there is none.

        What it costs is counted as it says itself (`Curvature.evaluations`).
        """
        return None

    def subset(self, index: Tensor) -> Objective | None:
        """The objective of some images of the batch, or `None` where it cannot be taken apart.

        :param index: their numbers, `(N,)` integers.
        """
        return None

    def check(self, x: Tensor) -> None:  # noqa: B027 - most objectives have nothing to check
        """Refuse a gradient that is not that of the value, as far as a cheap test can tell.

        :param x: an image batch of the shape to minimise over.
        :raises ValueError: it is not; nothing could be proven of a minimum.
        """


class Sum(Objective):
    """`sum_i c_i F_i` with `c_i >= 0`, each 0-dim or one per image.

    :raises ValueError: a coefficient that is negative or NaN, no term, or not as many of both.
    """

    def __init__(self, terms: Sequence[Objective], coefficients: Sequence[Tensor | float]) -> None:
        if not terms or len(terms) != len(coefficients):
            raise ValueError(
                f"a sum needs terms, and as many coefficients, got {len(terms)} and {len(coefficients)}"
            )
        self.terms = list(terms)
        self.coefficients = [
            c.double()
            if isinstance(c, Tensor)
            else torch.tensor(c, dtype=torch.float64, device="cpu")
            for c in coefficients
        ]
        if not all((c >= 0).all() for c in self.coefficients):
            raise ValueError("the coefficients of a convex sum must be nonnegative")

    def __repr__(self) -> str:
        return f"Sum({', '.join(map(repr, self.terms))})"

    def _pairs(self, x: Tensor) -> list[tuple[Tensor, Objective]]:
        return [
            (c.to(x.device), term) for c, term in zip(self.coefficients, self.terms, strict=True)
        ]

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, grad = x.new_zeros(x.shape[0], dtype=torch.float64), None
        for c, term in self._pairs(x):
            its_value, its_grad = term.value_and_grad(x)
            value = value + c * its_value
            scale = per_image(c.to(x.dtype), x)
            grad = scale * its_grad if grad is None else torch.addcmul(grad, scale, its_grad)
        assert grad is not None
        return value, grad

    def value(self, x: Tensor) -> Tensor:
        value = x.new_zeros(x.shape[0], dtype=torch.float64)
        return sum((c * term.value(x) for c, term in self._pairs(x)), value)

    def grad(self, x: Tensor) -> Tensor:
        parts = (per_image(c.to(x.dtype), x) * term.grad(x) for c, term in self._pairs(x))
        return sum(parts, torch.zeros_like(x))

    def lipschitz(self, x: Tensor) -> Tensor:
        # a term of weight zero has constant zero, even where none is known
        return torch.stack(
            [
                torch.where(c > 0, c * term.lipschitz(x), 0.0).expand(x.shape[0])
                for c, term in self._pairs(x)
            ]
        ).sum(0)

    def strong_convexity(self, x: Tensor) -> Tensor:
        return torch.stack(
            [(c * term.strong_convexity(x)).expand(x.shape[0]) for c, term in self._pairs(x)]
        ).sum(0)

    def curvature(self, x: Tensor) -> Curvature | None:
        total: Curvature | None = None
        for c, term in self._pairs(x):
            part = term.curvature(x)
            if part is None:
                return None
            total = part.scaled(c) if total is None else total.plus(part, c)
        return total

    def subset(self, index: Tensor) -> Sum | None:
        terms = [term.subset(index) for term in self.terms]
        chosen = [term for term in terms if term is not None]
        if len(chosen) < len(terms):
            return None
        return Sum(chosen, [of_images(c, index) for c in self.coefficients])

    def check(self, x: Tensor) -> None:
        for term in self.terms:
            term.check(x)
