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

from convexreg.adaptive import GivenInTurn
from convexreg.networks import colour
from convexreg.reconstruction.problem import Problem, proximal_problem
from convexreg.regularizer import Regularizer
from convexreg.solvers.certificates import Certificate, certify
from convexreg.solvers.data_terms import LeastSquares
from convexreg.solvers.loop import Progress
from convexreg.solvers.operators import PrecisionError
from convexreg.solvers.solution import Solution, SolverError, Status

_SEVERITY = (
    Status.CONVERGED,
    Status.STAGNATED,
    Status.MAX_ITERATIONS,
    Status.TIME_LIMIT,
    Status.BOUND_VIOLATED,
    Status.NOT_FINITE,
)


def minimise(
    problem: Problem,
    start: Tensor,
    *,
    in_float64: bool = False,
    throw: bool = True,
    callback: Callable[[Progress], None] | None = None,
    **options: Any,
) -> tuple[Solution, str]:
    """`problem.minimise(start, **options)`, on the planes of colour images where the problem is theirs.

    A callback is told of the colour images; of large ones of their planes, each as a gray image, in turn.

    :param in_float64: certify the result in float64, free of the rounding of a float32 solve.
    :return: the solution, and why that was not possible, empty where it was or was not asked for.
    """
    planes = _of_planes(problem, start)
    if planes is not None and start[0, 0].numel() >= colour.LARGE:
        solution, remark = _in_turn(planes, colour.planes(start), callback, in_float64, options)
    else:
        if planes is None:
            solution = problem.minimise(start, callback=callback, throw=throw, **options)
        else:
            follow = None if callback is None else lambda progress: callback(_of_colour(progress))
            points = colour.planes(start)
            solution = planes.minimise(points, callback=follow, throw=False, **options)
            solution = _merged([solution])
        solution, remark = _certified(problem, solution) if in_float64 else (solution, "")
    if throw and any(Status(int(code)).failed for code in solution.status):
        raise SolverError(solution)
    return solution, remark


def _in_turn(
    planes: Problem,
    points: Tensor,
    callback: Callable[[Progress], None] | None,
    in_float64: bool,
    options: dict[str, Any],
) -> tuple[Solution, str]:
    """Plane after plane, certified while its weights, if it has any, are in memory."""
    limit, began = options.pop("time_limit", None), time.perf_counter()
    solved, constants, remark = [], [], ""
    for index in torch.arange(len(points), device=points.device).split(1):
        left = None if limit is None else max(limit - time.perf_counter() + began, 0)
        one, point = _plane(planes, index), points[index]
        solution = one.minimise(point, callback=callback, time_limit=left, throw=False, **options)
        if in_float64:
            solution, remark = _certified(one, solution)
            constants.append(one.objective.lipschitz(point).expand(1))
        solved.append(solution)
        del one  # with its weights, before there are those of the next plane
    whole = _merged(solved)
    if not in_float64:
        return whole, ""
    return _at_image(whole, solved, torch.cat(constants)), remark


def _plane(planes: Problem, index: Tensor) -> Problem:
    """The problem of one of the planes."""
    regularizer = planes.regularizer
    if not isinstance(regularizer, GivenInTurn):
        return planes.subset(index)
    return replace(planes, regularizer=regularizer.plane(index)).subset(index)


def _certified(problem: Problem, solution: Solution) -> tuple[Solution, str]:
    """With the certificate in float64, or as it is and why that was not possible."""
    if solution.x.dtype == torch.float64:
        return solution, ""
    try:
        exact = problem.exact(solution.x)
    except PrecisionError as error:
        dtype = str(solution.x.dtype).removeprefix("torch.")
        return solution, f"certified in {dtype} only: {error}"
    point = solution.x.double()
    exact.objective.check(point)
    return replace(solution, certificate=certify(exact.objective, point, problem.box)), ""


def _at_image(whole: Solution, solved: list[Solution], lipschitz: Tensor) -> Solution:
    """With the certificate of the image itself, which is not exactly that of its planes: it is rounded.

    A plane moves by `d`, and `F(x + d) <= F(x) + |grad F(x)| |d| + L/2 |d|^2` with
    `|grad F(x)|^2 <= 2 L (F(x) - F*)` (Nesterov 2018, Thm 2.1.5).

    :param lipschitz: `L` of every plane.
    """
    gap, distance = (
        torch.cat([getattr(solution.certificate, name) for solution in solved])
        for name in ("gap", "distance")
    )
    square = torch.zeros_like(gap)
    rows = 256  # in float64 a whole image takes twice its memory, a few times
    strips = [solution.x.split(rows, 2) for solution in solved]
    for image, *points in zip(whole.x.split(rows, 2), *strips, strict=True):
        moved = colour.planes(image.double()) - torch.cat(points).double()
        square += moved.square().sum((1, 2, 3))
    lipschitz = lipschitz.to(gap)
    gap = gap + (2 * lipschitz * gap * square).sqrt() + lipschitz / 2 * square
    certificate = replace(
        whole.certificate, gap=_sum(gap), distance=_norm(distance + square.sqrt())
    )
    return replace(whole, certificate=certificate)


def _of_planes(problem: Problem, start: Tensor) -> Problem | None:
    """The problem of the planes, if it is a sum over them: images seen as they are, without a box."""
    data, regularizer = problem.data, problem.regularizer
    if (
        not isinstance(data, LeastSquares)
        or not data.sees_images
        or not isinstance(regularizer, (Regularizer, GivenInTurn))
        or (regularizer.in_channels, *start.shape[1:2]) != (1, 3)
        or not problem.box.everything
    ):
        return None
    lam = torch.as_tensor(problem.lam, dtype=torch.float64, device=start.device)
    planes = proximal_problem(
        colour.planes(data.y),
        regularizer.of_planes() if isinstance(regularizer, Regularizer) else regularizer,
        colour.per_plane(problem.sigma),
        colour.weighted(lam.expand(start.shape[0]).repeat_interleave(3)),
    )
    centre = None if problem.anchor == 0 else problem.centre
    centre = None if centre is None else colour.planes(centre)
    return replace(planes, anchor=problem.anchor, centre=centre)


def _sum(value: Tensor) -> Tensor:
    return value.reshape(-1, 3).sum(1)


def _norm(value: Tensor) -> Tensor:
    return value.reshape(-1, 3).norm(dim=1)


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


def _merged(solutions: list[Solution]) -> Solution:
    """That of the colour images: bounds add up, evaluations are of one plane in three, the worst status."""

    def joined(of: Callable[[Solution], Tensor]) -> Tensor:
        return torch.cat([of(solution) for solution in solutions])

    gap, lower = (
        _sum(joined(lambda s: s.certificate.gap)),
        _sum(joined(lambda s: s.certificate.lower)),
    )
    distance = _norm(joined(lambda s: s.certificate.distance))
    codes = joined(lambda s: s.status).reshape(-1, 3)
    severity = torch.tensor([_SEVERITY.index(Status(int(code))) for code in codes.flatten()])
    worst = severity.to(codes.device).reshape(-1, 3).argmax(1, keepdim=True)
    return Solution(
        colour.from_planes(joined(lambda s: s.x)),
        codes.gather(1, worst).squeeze(1),
        joined(lambda s: s.iterations).reshape(-1, 3).amax(1),
        _sum(joined(lambda s: s.evaluations)) / 3,
        Certificate(gap, lower, distance, solutions[0].certificate.dtype),
        _rms(joined(lambda s: s.stationarity)),
        sum(solution.seconds for solution in solutions),
    )
