"""Denoising colour images by subproblems: each takes its own steps, and stops when it is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from convexreg.networks import colour
from convexreg.reconstruction import by_windows
from convexreg.reconstruction.clock import Clock
from convexreg.reconstruction.problem import Problem
from convexreg.reconstruction.solved import certified
from convexreg.reconstruction.subproblems import (
    Subproblem,
    image_of,
    joined,
    merged,
    subproblems,
)
from convexreg.solvers.progress import Progress
from convexreg.solvers.solution import Solution, SolverError, Status


def minimise(
    problem: Problem,
    start: Tensor,
    *,
    in_float64: bool = False,
    throw: bool = True,
    callback: Callable[[Progress], None] | None = None,
    **options: Any,
) -> tuple[Solution, str]:
    """`problem.minimise(start, **options)`, by its subproblems where it is a sum of such.

    A callback is told of the colour images; of large ones and of parts of different noise of the images of
    the subproblems, one by one.

    :param in_float64: certify the result in float64, free of the rounding of a float32 solve.
    :return: the solution, and why that was not possible, empty where it was or was not asked for.
    """
    parts = subproblems(problem, start)
    # parts of different noise have bounds of their own, that of the whole is as loose as the worst of them
    if parts and (start[0, 0].numel() >= colour.LARGE or parts[0].ratio != parts[-1].ratio):
        solution, remark = _in_turn(parts, start, callback, in_float64, options)
    else:
        if parts:
            solution = _one_after_another(parts, start, callback, options)
            solved = certified(problem, solution, in_float64=in_float64)
        else:
            solved = by_windows.minimise(
                problem, start, in_float64=in_float64, callback=callback, throw=throw, **options
            )
        solution, remark = solved.solution, solved.remark
    if throw and any(Status(int(code)).failed for code in solution.status):
        raise SolverError(solution)
    return solution, remark


def _one_after_another(
    parts: Sequence[Subproblem],
    start: Tensor,
    callback: Callable[[Progress], None] | None,
    options: dict[str, Any],
) -> Solution:
    clock = Clock(options.pop("time_limit", None))
    points, solved = [part.of(start) for part in parts], list[Solution]()
    for number, part in enumerate(parts):
        follow = None if callback is None else _told(callback, parts, points, solved)
        solution = part.problem.minimise(
            points[number], callback=follow, time_limit=clock.left(), throw=False, **options
        )
        points[number] = solution.x
        solved.append(solution)
    return merged(parts, solved)


def _in_turn(
    parts: Sequence[Subproblem],
    start: Tensor,
    callback: Callable[[Progress], None] | None,
    in_float64: bool,
    options: dict[str, Any],
) -> tuple[Solution, str]:
    """Image after image, certified while its weights, if it has any, are in memory."""
    clock = Clock(options.pop("time_limit", None))
    solved, constants, remark = [], [], ""
    for part in parts:
        points = part.of(start)
        solved.append([])
        constants.append([])
        for index in torch.arange(len(points), device=points.device).split(1):
            one, point = part.alone(index), points[index]
            result = by_windows.minimise(
                one,
                point,
                in_float64=in_float64,
                callback=callback,
                time_limit=clock.left(),
                throw=False,
                **options,
            )
            remark = result.remark or remark
            constants[-1].append(result.lipschitz)
            solved[-1].append(result.solution)
            del one  # with its weights, before there are those of the next one
    whole = merged(parts, [joined(each) for each in solved])
    if not in_float64:
        return whole, ""
    return _at_image(whole, parts, solved, [torch.cat(each) for each in constants]), remark


def _at_image(
    whole: Solution,
    parts: Sequence[Subproblem],
    solved: Sequence[Sequence[Solution]],
    constants: Sequence[Tensor],
) -> Solution:
    """With the certificate of the image itself, which is not exactly that of its parts: it is rounded.

    A part moves by `d`, and `F(x + d) <= F(x) + |grad F(x)| |d| + L/2 |d|^2` with
    `|grad F(x)|^2 <= 2 L (F(x) - F*)` (Nesterov 2018, Thm 2.1.5).

    :param constants: `L` of all images of every part.
    """
    gaps, distances = [], []
    rows = 256  # in float64 a whole image takes twice its memory, a few times
    for part, solutions, lipschitz in zip(parts, solved, constants, strict=True):
        gap, distance = (
            torch.cat([getattr(solution.certificate, name) for solution in solutions])
            for name in ("gap", "distance")
        )
        square = torch.zeros_like(gap)
        strips = [solution.x.split(rows, 2) for solution in solutions]
        for image, *points in zip(whole.x.split(rows, 2), *strips, strict=True):
            moved = part.of(image.double()) - torch.cat(points).double()
            square += moved.square().sum((1, 2, 3))
        bound = lipschitz.to(gap)
        gap = gap + (2 * bound * gap * square).sqrt() + bound / 2 * square
        gaps.append(part.sum(gap))
        distances.append(part.norm(distance + square.sqrt()))
    certificate = replace(
        whole.certificate,
        gap=torch.stack(gaps).sum(0),
        distance=torch.stack(distances).norm(dim=0),
    )
    return replace(whole, certificate=certificate)


def _told(
    callback: Callable[[Progress], None],
    parts: Sequence[Subproblem],
    points: Sequence[Tensor],
    solved: Sequence[Solution],
) -> Callable[[Progress], None]:
    """The callback of the subproblem to be solved next, which tells of the colour images.

    As long as others wait nothing is known of their value and gap.
    """
    number, points = len(solved), list(points)
    part, waiting = parts[number], len(parts) - number - 1
    before = merged(parts[:number], solved) if solved else None

    def follow(progress: Progress) -> None:
        points[number] = progress.x
        told = replace(
            progress,
            x=image_of(parts, points),
            value=None if progress.value is None else part.sum(progress.value),
            gap=part.sum(progress.gap),
            relative_gap=part.largest(progress.relative_gap),
            stationarity=part.rms(progress.stationarity),
            step_size=part.largest(progress.step_size),
            evaluations=part.share(progress.evaluations),
            active=part.largest(progress.active.to(torch.uint8)).bool(),
            done=(number - part.largest(-progress.done)) / len(parts),
        )
        if before is not None:
            certificate, value = before.certificate, told.value
            told = replace(
                told,
                iteration=told.iteration + int(before.iterations.max()),
                value=None if value is None else value + certificate.lower + certificate.gap,
                gap=told.gap + certificate.gap,
                relative_gap=told.relative_gap.maximum(certificate.relative_gap),
                stationarity=told.stationarity.hypot(before.stationarity),
                evaluations=told.evaluations + before.evaluations,
                seconds=told.seconds + before.seconds,
            )
        if waiting:
            unknown = torch.full_like(told.gap, float("inf"))
            active = torch.ones_like(told.active)
            told = replace(told, value=None, gap=unknown, relative_gap=unknown, active=active)
        callback(told)

    return follow
