"""A large image in windows, and its regularizer evaluated on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from convexreg.adaptive import GivenInWindows
from convexreg.networks import tiling
from convexreg.networks.base import Sigma, converted
from convexreg.reconstruction.problem import Problem
from convexreg.regularizer import Regularizer
from convexreg.solvers.objective import Objective

_SIDE = 768
"""Of a window: large enough for a margin to add a fifth only, small enough to be no matter of memory."""
_MARGIN = 24
"""Pixels beyond what the gradient at a pixel depends on; with half of them the certificate of the whole is a
tenth weaker in gray, half as weak again in colour."""
CORNER = slice(0, 32)
"""A window of it shows what the regularizers of all windows have in common."""

R = TypeVar("R")


@dataclass(frozen=True)
class Window:
    """Rows and columns of an image.

    :ivar core: without the margin.
    :ivar outer: with it.
    """

    core: tuple[slice, slice]
    outer: tuple[slice, slice]

    def of(self, x: Tensor) -> Tensor:
        """With its margin, of images."""
        return x[(..., *self.outer)].contiguous()

    @property
    def inside(self) -> tuple[slice, slice]:
        """Where the core lies in the window."""
        rows, columns = (
            slice(core.start - outer.start, core.stop - outer.start)
            for core, outer in zip(self.core, self.outer, strict=True)
        )
        return rows, columns


@dataclass(frozen=True)
class Windows:
    """An image in windows whose cores do not overlap.

    :ivar threads: so many are looked at at a time, each on one thread.
    """

    windows: tuple[Window, ...]
    threads: int

    @classmethod
    def of(cls, problem: Problem, x: Tensor) -> Windows:
        """Those of an image, of one size about, which begin at multiples of the regularizer's blocks."""
        regularizer = problem.regularizer
        assert isinstance(regularizer, (Regularizer, GivenInWindows))
        network = regularizer.window(CORNER, CORNER).of(x.shape[1]).network
        reach, block = network.reach(), network.block
        assert reach is not None
        if isinstance(regularizer, GivenInWindows):
            block = regularizer.block
        margin = -(-(reach.radius + _MARGIN) // block) * block
        sides = [
            [
                (slice(first, last), slice(max(0, first - margin), min(last + margin, length)))
                for first, last in tiling.intervals(length, _SIDE, block)
            ]
            for length in x.shape[-2:]
        ]
        windows = tuple(
            Window((rows[0], columns[0]), (rows[1], columns[1]))
            for rows in sides[0]
            for columns in sides[1]
        )
        return cls(windows, torch.get_num_threads())

    def in_order(self, function: Callable[[Window], R]) -> Iterator[tuple[Window, R]]:
        """What a function makes of them, in their order.

        Torch's own threads would share the work of every operation, which is too little for them here.
        """
        if self.threads == 1:
            yield from ((window, function(window)) for window in self.windows)
            return
        pool = ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,))
        try:
            yield from zip(self.windows, pool.map(function, self.windows), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self.threads)  # of threads to come, as it was

    def cut(self, problem: Problem) -> Problem:
        """The same problem, evaluated window by window."""
        regularizer = problem.regularizer
        assert isinstance(regularizer, (Regularizer, GivenInWindows))
        return replace(problem, regularizer=_InWindows(regularizer, self))


class _InWindows(nn.Module):
    """The regularizer of an image, evaluated window by window in the type of the image."""

    def __init__(self, regularizer: Regularizer | GivenInWindows, windows: Windows) -> None:
        super().__init__()
        self.regularizer, self.windows = regularizer, windows

    def term(self, sigma: Sigma = None) -> Objective:
        return _TermInWindows(self.regularizer, self.windows, sigma)


class _TermInWindows(Objective):
    """`R(.; sigma)` as a sum over windows: a window has the terms of the filter responses in its core, the
    weights of the others are zero.

    `lipschitz` is known once it has been evaluated: a pixel lies in four windows at most, so that four times
    the largest bound of a window is one (`v^T H v = sum_t v_t^T H_t v_t <= max_t L_t sum_t |v_t|^2`).
    """

    def __init__(
        self, regularizer: Regularizer | GivenInWindows, windows: Windows, sigma: Sigma
    ) -> None:
        self.regularizer, self.windows, self.sigma = regularizer, windows, sigma
        self._largest = float("inf")

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total, gradient = x.new_zeros(1, dtype=torch.float64), torch.zeros_like(x)
        bounds = []
        for window, (value, grad, bound) in self.windows.in_order(partial(self._evaluated, x)):
            total += value
            gradient[(..., *window.outer)] += grad
            bounds.append(bound)
        self._largest = max(bounds)
        return total, gradient

    @torch.no_grad()
    def _evaluated(self, x: Tensor, window: Window) -> tuple[Tensor, Tensor, float]:
        own: Regularizer = self.regularizer.window(*window.outer).of(x.shape[1])
        piece = window.of(x)
        core = torch.zeros_like(piece[:, :1])
        core[(..., *window.inside)] = 1
        weighted = own.with_weights(core.expand(-1, own.network.terms, -1, -1))
        weighted = converted(weighted, x.device, x.dtype)
        value, grad = weighted.term(self.sigma).value_and_grad(piece)
        size = (piece.shape[-2], piece.shape[-1])
        return value, grad, float(weighted.lipschitz(size, self.sigma))

    def lipschitz(self, x: Tensor) -> Tensor:
        return x.new_full((), 4 * self._largest, dtype=torch.float64)

    def strong_convexity(self, x: Tensor) -> Tensor:
        return x.new_zeros((), dtype=torch.float64)
