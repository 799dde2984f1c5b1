"""Extrapolated iterates, and lower bounds from points that are not the answer."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from convexreg.solvers import Box, Progress, QuasiNewton, certify, minimise
from convexreg.solvers.certificates import lower_bound
from convexreg.solvers.extrapolation import evaluate_some, reduced_rank_extrapolation
from tests.problems import UNIT, Counting, Quadratic, quadratic, spectra

BOXES = {"free": Box(), "unit": UNIT, "nonnegative": Box(lower=0.0)}
ALL = torch.ones(())


def _iterates(count: int, batch: int = 4, size: int = 7):
    """Iterates in random directions on quadratics, with moves and changes."""
    problem = quadratic(spectra(batch, size, (30.0,)), Box())
    x, points = problem.x0, []
    for _ in range(count + 1):
        grad = problem.objective.grad(x)
        points.append((x, grad))
        x = x - 0.02 * grad + 0.1 * torch.randn_like(x)
    moves = [b[0] - a[0] for a, b in pairwise(points)]
    changes = [b[1] - a[1] for a, b in pairwise(points)]
    return problem.objective, *points[-1], moves, changes


@pytest.mark.parametrize("count", [1, 3, 5])
def test_the_extrapolation_is_the_least_squares_solution(count: int) -> None:
    objective, x, grad, moves, changes = _iterates(count)
    there = reduced_rank_extrapolation(x, grad, moves, changes, ALL)
    stacked = torch.stack(changes, 2)
    weights = torch.linalg.lstsq(stacked, grad.unsqueeze(2), driver="gelsd").solution
    rest = grad - (stacked @ weights).squeeze(2)
    torch.testing.assert_close(there.grad.norm(dim=1), rest.norm(dim=1), rtol=1e-4, atol=1e-9)
    # of a quadratic function what it promises is so
    value, actual = objective.value_and_grad(there.x)
    torch.testing.assert_close(actual, there.grad, rtol=0, atol=1e-7)
    torch.testing.assert_close(value - objective.value(x), there.rise, rtol=1e-6, atol=1e-9)


def test_pixels_that_are_held_and_moves_that_are_none_have_no_say() -> None:
    _, x, grad, moves, changes = _iterates(3)
    free = torch.ones_like(x)
    free[:, :2] = 0
    there = reduced_rank_extrapolation(x, grad, moves, changes, free)
    stacked = torch.stack(changes, 2)[:, 2:]
    weights = torch.linalg.lstsq(stacked, grad[:, 2:, None], driver="gelsd").solution
    rest = grad[:, 2:] - (stacked @ weights).squeeze(2)
    torch.testing.assert_close(there.grad[:, 2:].norm(dim=1), rest.norm(dim=1), rtol=1e-4, atol=0)
    still = torch.zeros_like(x)
    padded = reduced_rank_extrapolation(x, grad, [still, *moves], [still, *changes], ALL)
    plain = reduced_rank_extrapolation(x, grad, moves, changes, ALL)
    torch.testing.assert_close(padded.x, plain.x, rtol=0, atol=1e-9)
    nowhere = reduced_rank_extrapolation(x, grad, [still], [still], ALL)
    assert torch.equal(nowhere.x, x)


def test_an_image_is_extrapolated_as_it_would_be_alone() -> None:
    _, x, grad, moves, changes = _iterates(4)
    whole = reduced_rank_extrapolation(x, grad, moves, changes, ALL)
    one = slice(2, 3)
    alone = reduced_rank_extrapolation(
        x[one], grad[one], [m[one] for m in moves], [c[one] for c in changes], ALL
    )
    torch.testing.assert_close(alone.x, whole.x[one], rtol=0, atol=1e-10)


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
def test_every_point_bounds_the_minimum(box: Box) -> None:
    """3,000 random quadratics, points anywhere, in the box or not."""
    problem = quadratic(spectra(3000, 5, (1.5, 10.0, 300.0)), box)
    objective = problem.objective
    mu = objective.strong_convexity(problem.x0).expand(3000)
    for scale in (1e-3, 0.1, 3.0):
        z = problem.minimiser + scale * torch.randn_like(problem.x0)
        value, grad = objective.value_and_grad(z)
        lower = lower_bound(value, grad, z, mu, box)
        assert (lower <= 1 + 1e-12 * value.abs()).all()
        certificate = certify(objective, problem.x0, box, support=z)
        gap = objective.value(problem.x0) - 1
        assert (certificate.gap >= gap - 1e-12 * (1 + gap)).all()
        torch.testing.assert_close(certificate.lower, lower, rtol=1e-12, atol=1e-12)
    same = certify(objective, problem.x0, box, support=problem.x0)
    assert torch.equal(same.gap, certify(objective, problem.x0, box).gap)


@pytest.mark.parametrize("box", [Box(), UNIT], ids=["free", "unit"])
def test_solves_end_sooner_with_true_bounds_and_counted_evaluations(box: Box) -> None:
    problem = quadratic(spectra(40, 12, (300.0, 3000.0)), box)
    assert isinstance(problem.objective, Quadratic)

    class Plain(QuasiNewton):
        def sharpened(self, objective, state, box, gap_tol, wanted):
            return state

    def check(progress: Progress) -> None:
        gap = problem.objective.value(progress.x) - 1
        assert (progress.gap >= gap - 1e-12).all()

    counting = Counting(problem.objective)
    options = {"box": box, "gap_tol": 1e-3}
    quick = minimise(counting, problem.x0, QuasiNewton(), callback=check, **options)
    plain = minimise(problem.objective, problem.x0, Plain(), **options)
    assert quick.converged
    assert plain.converged
    assert quick.evaluations.sum() < plain.evaluations.sum()
    certificate = certify(problem.objective, quick.x, box, support=quick.support)
    assert (certificate.relative_gap <= 1.0001e-3).all()
    one = minimise(
        Counting(alone := Quadratic(*(t[:1] for t in _parts(problem.objective)))),
        problem.x0[:1],
        QuasiNewton(),
        **options,
    )
    assert torch.equal(one.evaluations, quick.evaluations[:1])
    assert alone.value(one.x) == problem.objective.value(quick.x)[:1]


def _parts(objective: Quadratic):
    return (
        objective.matrix,
        objective.centre,
        objective.slope,
        objective.largest,
        objective.smallest,
    )


def test_some_images_are_evaluated_like_all() -> None:
    problem = quadratic(spectra(5, 4, (10.0,)), Box())
    which = torch.tensor([True, False, True, False, False])
    value, grad = evaluate_some(problem.objective, problem.x0, which)
    expected = problem.objective.value_and_grad(problem.x0)
    assert torch.equal(value[which], expected[0][which])
    assert torch.equal(grad[which], expected[1][which])


def test_the_estimate_stops_a_solve_and_is_of_the_right_size() -> None:
    problem = quadratic(spectra(30, 12, (30.0, 300.0)), Box())
    solution = minimise(
        problem.objective, problem.x0, QuasiNewton(), gap_tol=1e-14, decrement_tol=1e-4
    )
    gap = problem.objective.value(solution.x) - 1
    assert solution.converged
    assert float(gap.median()) < 1e-2
    assert float(gap.median()) > 1e-12
    with pytest.raises(ValueError, match="decrement_tol must be positive"):
        minimise(problem.objective, problem.x0, QuasiNewton(), gap_tol=1, decrement_tol=0)
