"""Objectives that go wrong."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from convexreg.solvers import Objective


class Faulty(Objective):
    """An objective that is well until its `after`-th gradient, where `spoil` changes the answer."""

    def __init__(
        self, inner: Objective, after: int, spoil: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    ) -> None:
        self.inner, self.after, self.spoil = inner, after, spoil
        self.calls = 0

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        value, grad = self.inner.value_and_grad(x)
        return self.spoil(value, grad) if self.calls > self.after else (value, grad)

    def lipschitz(self, x: Tensor) -> Tensor:
        return self.inner.lipschitz(x)

    def strong_convexity(self, x: Tensor) -> Tensor:
        return self.inner.strong_convexity(x)
