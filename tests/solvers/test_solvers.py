"""Solvers: rates, minimisers, counts."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch

from convexreg.solvers import (
    Box,
    Progress,
    Proximity,
    Sum,
    minimise,
)
from tests.problems import (
    PROBLEMS,
    SOLVERS,
    UNIT,
    Counting,
    Problem,
    Quadratic,
    SolverCase,
    quadratic,
    small_regularizer,
    spectra,
)
from tests.tables import over


@functools.cache
def posed(name: str) -> Problem:
    """The problem of a row, solved by other means once."""
    torch.manual_seed(0)
    return PROBLEMS[name]()


def recorded(problem: Problem, case: SolverCase, **options) -> list[Progress]:
    """Every iteration of a solve that only the iteration limit or the tolerance ends."""
    history: list[Progress] = []
    options = {"gtol": 1e-14, "max_iter": 40} | options
    minimise(
        problem.objective,
        problem.x0,
        case.solver,
        box=problem.box,
        callback=history.append,
        **options,
    )
    return history


def certified(problem: Problem) -> bool:
    """Whether a gap can be proven."""
    modulus = problem.objective.strong_convexity(problem.x0)
    return problem.box.bounded or bool((modulus > 0).all())


@pytest.mark.parametrize("name", PROBLEMS)
@over("case", SOLVERS)
def test_gap_obeys_curve_and_certificate_at_every_iteration(case: SolverCase, name: str) -> None:
    problem = posed(name)
    objective, least = problem.objective, problem.least
    start = problem.box.project(problem.x0)
    distance = (start - problem.minimiser).flatten(1).norm(dim=1)
    initial = objective.value(start) - least
    constants = [
        bound.expand(len(start)).tolist()
        for bound in (objective.lipschitz(start), objective.strong_convexity(start))
    ]
    rounding = 1e-11 * (1 + least.abs())
    for progress in recorded(problem, case):
        assert torch.equal(problem.box.project(progress.x), progress.x)
        gap = objective.value(progress.x) - least
        assert (gap <= progress.gap + rounding).all()
        assert (gap <= progress.relative_gap * least + rounding).all()
        far = (progress.x - problem.minimiser).flatten(1).square().sum(1)
        mu = objective.strong_convexity(start)
        assert (mu / 2 * far <= progress.gap + 1e-7 * rounding**0.5).all()
        if case.rate is not None:
            for index, (L, mu) in enumerate(zip(*constants, strict=True)):
                curve = case.rate(
                    progress.iteration, L, mu, float(distance[index]), float(initial[index])
                )
                assert float(gap[index]) <= curve + float(rounding[index])


@pytest.mark.parametrize("box", [Box(), UNIT], ids=["free", "unit"])
@pytest.mark.parametrize("stated_mu", [True, False])
@pytest.mark.parametrize("name", ["gd", "fista"])
def test_iterates_are_those_of_the_theorem(name: str, stated_mu: bool, box: Box) -> None:
    """Written down from the papers: on easy problems a wrong momentum stays below the curve too."""
    problem = quadratic(spectra(3, 6, (60.0,)), box, stated_mu=stated_mu)
    objective = problem.objective
    assert isinstance(objective, Quadratic)
    L, mu = objective.largest.unsqueeze(1), objective.smallest.unsqueeze(1)
    x = y = problem.x0
    t = 1.0
    for progress in recorded(problem, SOLVERS[name]):
        following = box.project(y - objective.value_and_grad(y)[1] / L)
        larger = (1 + (1 + 4 * t**2) ** 0.5) / 2
        root = (mu / L).sqrt()
        momentum = (1 - root) / (1 + root) if stated_mu else (t - 1) / larger
        y = following + momentum * (following - x) if name == "fista" else following
        x, t = following, larger
        torch.testing.assert_close(progress.x, x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", PROBLEMS)
@over("case", SOLVERS)
def test_reaches_the_minimiser_of_another_method(case: SolverCase, name: str) -> None:
    problem = posed(name)
    tolerance = {"gap_tol": 1e-6} if certified(problem) else {"gtol": 1e-6}
    solution = minimise(
        problem.objective,
        problem.x0,
        case.solver,
        box=problem.box,
        max_iter=20000,
        **tolerance,
    )
    assert solution.converged
    gap = problem.objective.value(solution.x) - problem.least
    assert (gap >= -1e-11 * (1 + problem.least.abs())).all()
    if certified(problem):
        assert (gap <= 1e-6 * problem.least).all()
        assert (solution.certificate.relative_gap <= 1e-6).all()
        assert (gap <= solution.certificate.gap + 1e-13).all()
        far = (solution.x - problem.minimiser).flatten(1).norm(dim=1)
        assert (far <= solution.certificate.distance + 1e-8).all()
    else:
        assert (gap <= 1e-5).all()
        assert solution.certificate.gap.isinf().all()
        assert solution.certificate.distance.isinf().all()


@pytest.mark.parametrize("name", ["quadratic", "quadratic-singular-box", "denoising-m"])
@over("case", SOLVERS)
def test_evaluations_are_counted(case: SolverCase, name: str) -> None:
    """One image: exactly what the objective sees. A batch: its hardest image never waits for free."""
    problem = posed(name)
    counting = Counting(problem.objective)
    solution = minimise(counting, problem.x0, case.solver, box=problem.box, gtol=1e-4, max_iter=50)
    assert float(solution.evaluations.max()) <= counting.evaluations
    alone = quadratic(spectra(1, 6, (40.0,)), problem.box)
    if name == "denoising-m":
        noisy = problem.x0[:1]
        alone = replace(
            problem,
            objective=Sum([Proximity(noisy), small_regularizer().term(0.1)], [1.0, 1.0]),
            x0=noisy,
        )
    counting = Counting(alone.objective)
    solution = minimise(counting, alone.x0, case.solver, box=alone.box, gtol=1e-4, max_iter=50)
    assert float(solution.evaluations) == counting.evaluations
