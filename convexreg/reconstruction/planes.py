"""Denoising a colour image with a gray model, plane by plane.

The colour transform is orthonormal, so that data term and regularizer are sums over the planes, and so is
their minimum: every plane is an image of its own, with its own steps, and stops when it is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from convexreg.networks import colour
from convexreg.reconstruction.problem import Problem, proximal_problem
from convexreg.regularizer import Regularizer
from convexreg.solvers.certificates import Certificate
from convexreg.solvers.data_terms import LeastSquares
from convexreg.solvers.loop import Progress
from convexreg.solvers.solution import Solution, SolverError, Status

_SEVERITY = (
    Status.CONVERGED,
    Status.STAGNATED,
    Status.MAX_ITERATIONS,
    Status.TIME_LIMIT,
    Status.BOUND_VIOLATED,
    Status.NOT_FINITE,
)
_LARGE = 2**20
"""Pixels of an image whose planes are solved in turn: what a solver keeps of one is in memory at a time."""


def minimise(problem: Problem, start: Tensor, **options: Any) -> Solution:
    """`problem.minimise(start, **options)`, on the planes of colour images where the problem is theirs.

    A callback is told of the colour images; of large ones of their planes, each as a gray image, in turn.
    """
    planes = _of_planes(problem, start)
    if planes is None:
        return problem.minimise(start, **options)
    callback, points = options.pop("callback", None), colour.planes(start)
    if start[0, 0].numel() < _LARGE:
        follow = None if callback is None else lambda progress: callback(_of_colour(progress))
        return _merged([planes.minimise(points, callback=follow, throw=False, **options)])
    limit, began, solved = options.pop("time_limit", None), time.perf_counter(), []
    for index in torch.arange(len(points), device=start.device).split(1):
        left = None if limit is None else max(limit - time.perf_counter() + began, 0)
        one = planes.subset(index)
        solved.append(
            one.minimise(points[index], callback=callback, time_limit=left, throw=False, **options)
        )
    return _merged(solved)


def _of_planes(problem: Problem, start: Tensor) -> Problem | None:
    """The problem of the planes, if it is a sum over them: images seen as they are, without a box."""
    data, regularizer = problem.data, problem.regularizer
    if (
        not isinstance(data, LeastSquares)
        or not data.sees_images
        or not isinstance(regularizer, Regularizer)
        or (regularizer.in_channels, *start.shape[1:2]) != (1, 3)
        or not problem.box.everything
    ):
        return None
    lam = torch.as_tensor(problem.lam, dtype=torch.float64, device=start.device)
    planes = proximal_problem(
        colour.planes(data.y),
        regularizer.of_planes(),
        colour.per_plane(problem.sigma),
        colour.weighted(lam.expand(start.shape[0]).repeat_interleave(3)),
    )
    centre = None if problem.centre is None else colour.planes(problem.centre)
    return replace(planes, anchor=problem.anchor, centre=centre)


def _sum(value: Tensor) -> Tensor:
    return value.reshape(-1, 3).sum(1)


def _rms(value: Tensor) -> Tensor:
    return value.reshape(-1, 3).square().mean(1).sqrt()


def _of_colour(progress: Progress) -> Progress:
    gap = _sum(progress.gap)
    value = None if progress.value is None else _sum(progress.value)
    return replace(
        progress,
        x=colour.from_planes(progress.x),
        value=value,
        gap=gap,
        relative_gap=progress.relative_gap.reshape(-1, 3).amax(1),
        stationarity=_rms(progress.stationarity),
        step_size=progress.step_size.reshape(-1, 3).amax(1),
        evaluations=_sum(progress.evaluations) / 3,
        active=progress.active.reshape(-1, 3).any(1),
        done=progress.done.reshape(-1, 3).amin(1),
    )


def _support(solutions: list[Solution]) -> Tensor | None:
    found = [s.support for s in solutions if s.support is not None]
    return colour.from_planes(torch.cat(found)) if len(found) == len(solutions) else None


def _merged(solutions: list[Solution]) -> Solution:
    """That of the colour images: bounds add up, evaluations are of one plane in three, the worst status.

    :raises SolverError: a plane failed.
    """

    def joined(of: Callable[[Solution], Tensor]) -> Tensor:
        return torch.cat([of(solution) for solution in solutions])

    gap, lower = (
        _sum(joined(lambda s: s.certificate.gap)),
        _sum(joined(lambda s: s.certificate.lower)),
    )
    distance = joined(lambda s: s.certificate.distance).reshape(-1, 3).norm(dim=1)
    codes = joined(lambda s: s.status).reshape(-1, 3)
    severity = torch.tensor([_SEVERITY.index(Status(int(code))) for code in codes.flatten()])
    worst = severity.to(codes.device).reshape(-1, 3).argmax(1, keepdim=True)
    whole = Solution(
        colour.from_planes(joined(lambda s: s.x)),
        codes.gather(1, worst).squeeze(1),
        joined(lambda s: s.iterations).reshape(-1, 3).amax(1),
        _sum(joined(lambda s: s.evaluations)) / 3,
        Certificate(gap, lower, distance, solutions[0].certificate.dtype),
        _rms(joined(lambda s: s.stationarity)),
        sum(solution.seconds for solution in solutions),
        _support(solutions),
    )
    if any(Status(int(code)).failed for code in whole.status):
        raise SolverError(whole)
    return whole
