"""Problems that fall apart into independent ones, which are then solved one by one.

- Denoising a colour image with a gray model: the colour transform is orthonormal, so that data term and
  regularizer are sums over its planes, and so is their minimum. Every plane then has its own curvature model
  and its own steps, and stops when it is done.
- A batch of large images: what a solver keeps of one is in memory at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from convexreg.networks import colour
from convexreg.reconstruction.problem import Problem
from convexreg.regularizer import Regularizer
from convexreg.solvers.certificates import Certificate, relative_gap
from convexreg.solvers.data_terms import LeastSquares
from convexreg.solvers.loop import Progress
from convexreg.solvers.operators import Identity
from convexreg.solvers.solution import Solution

_LARGE = 2**19
"""Pixels of an image from which on images are solved one by one: smaller ones share their overhead."""


def minimise(problem: Problem, start: Tensor, **options: Any) -> Solution:
    """`problem.minimise(start, **options)`, part by part where that is the same."""
    parts = _planes(problem, start)
    if parts is None:
        return _one_by_one(problem, start, **options)
    callback = options.pop("callback", None)
    if callback is not None:
        options["callback"] = lambda progress: callback(_of_colour(progress))
    return _colour_solution(_one_by_one(parts, colour.planes(start), **options))


def _planes(problem: Problem, start: Tensor) -> Problem | None:
    """The problem on the planes of colour images, if it is a sum over them."""
    data, regularizer = problem.data, problem.regularizer
    if not (
        isinstance(data, LeastSquares)
        and isinstance(regularizer, Regularizer)
        and start.shape[1:2] == (3,)
        and regularizer.in_channels == 1
        and problem.box.everything
        and data.y.shape == start.shape
        and data.modulus == 1
        and isinstance(data.bounds.largest, float)
        and data.bounds.largest == data.bounds.smallest == 1  # A is orthogonal then
    ):
        return None
    levels = problem.sigma
    lam = torch.as_tensor(problem.lam, dtype=torch.float64, device=start.device)
    weights = colour.weighted(lam.expand(start.shape[0]).repeat_interleave(3))
    operator = Identity()
    target = colour.planes(data.operator.A_adjoint(data.y))
    return replace(
        problem,
        data=LeastSquares(operator, target, replace(data.bounds, normal=None)),
        regularizer=regularizer.of_planes(),
        sigma=colour.per_plane(levels),
        lam=weights,
        centre=None if problem.centre is None else colour.planes(problem.centre),
    )


def _one_by_one(problem: Problem, start: Tensor, **options: Any) -> Solution:
    """Large images in turn, others together."""
    count = start.shape[0]
    if count == 1 or start[0].numel() < _LARGE or problem.objective.subset(_index(0)) is None:
        return problem.minimise(start, **options)
    began, limit = time.perf_counter(), options.pop("time_limit", None)
    callback, throw = options.pop("callback", None), options.pop("throw", True)
    solutions: list[Solution] = []
    whole = _Whole(start, callback) if callback is not None else None
    for number in range(count):
        if whole is not None:
            options["callback"] = whole.of(number)
        left = None if limit is None else max(limit - time.perf_counter() + began, 0)
        part = problem.subset(_index(number))
        solutions.append(
            part.minimise(start[number : number + 1], time_limit=left, throw=False, **options)
        )
    return _joined(solutions, throw)
