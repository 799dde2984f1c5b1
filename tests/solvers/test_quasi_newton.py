"""The quasi-Newton matrix, against dense algebra, and its way along the bounds of a box."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from convexreg.solvers import Box, QuasiNewton, Status, minimise
from convexreg.solvers.curvature import Curvature, Preconditioner
from convexreg.solvers.limited_memory import Pair, two_loop_recursion
from tests.oracles import matrix
from tests.problems import UNIT, Counting, Quadratic, quadratic, spectra, spectrum_matrix

SHAPE = (1, 3, 4)


@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_two_loops_apply_the_matrix_of_bfgs(count: int, preconditioned: bool) -> None:
    """`H <- (I - s t^T / <s, t>) H (I - t s^T / <s, t>) + s s^T / <s, t>`, pair after pair.

    The first `H` is scaled so that `<t, H t> = <s, t>` for the newest pair.
    """
    model = Curvature(1 + torch.rand(1, 1, 3, 3).double(), 0.5 + torch.rand(1, *SHAPE).double())
    preconditioner = Preconditioner(model) if preconditioned else None
    dense = torch.eye(12).double() if preconditioner is None else matrix(preconditioner, SHAPE)
    expected, pairs = dense.repeat(2, 1, 1), []
    for _ in range(count):
        move = torch.randn(2, *SHAPE).double()
        change = move + 0.3 * torch.randn_like(move)
        pairs.append(Pair(move, change, 1 / (move * change).sum((1, 2, 3))))
    for image in range(2):
        columns = [(p.move[image].flatten(), p.change[image].flatten()) for p in pairs]
        for s, t in columns[-1:]:
            expected[image] *= s.dot(t) / (t @ dense @ t)
        for s, t in columns:
            keep = torch.eye(12).double() - torch.outer(t, s) / s.dot(t)
            expected[image] = keep.T @ expected[image] @ keep + torch.outer(s, s) / s.dot(t)
    grad = torch.randn(2, *SHAPE).double()
    applied, _ = two_loop_recursion(tuple(pairs), preconditioner, grad, torch.ones(()))
    product = (expected @ grad.flatten(1).unsqueeze(2)).reshape(2, *SHAPE)
    torch.testing.assert_close(applied, product)


def test_among_free_variables_the_matrix_is_their_own() -> None:
    """With moves of them only it is that of a smaller problem, where the others do not exist."""
    hessian = spectrum_matrix(spectra(1, 12, (1e3,)))[0]
    free = (torch.arange(12) % 3 > 0).double().reshape(1, *SHAPE)
    kept = free.flatten() > 0
    pairs, fewer = [], []
    for _ in range(3):
        move = free * torch.randn(1, *SHAPE).double()
        change = (hessian @ move.flatten()).reshape(1, *SHAPE)
        pairs.append(Pair.of(move, change))
        fewer.append(Pair.of(move.flatten()[None, kept], change.flatten()[None, kept]))
    grad = torch.randn(1, *SHAPE).double()
    applied = two_loop_recursion(tuple(pairs), None, grad, free)[0].flatten()
    expected, _ = two_loop_recursion(tuple(fewer), None, grad.flatten()[None, kept], torch.ones(()))
    torch.testing.assert_close(applied[kept], expected[0])
    assert (applied[~kept] == 0).all()


@pytest.mark.parametrize("condition", [50.0, 1e4])
def test_pixels_near_a_bound_do_not_stop_the_search(condition: float) -> None:
    """From starts at, near and away from the bounds; the free variables have a matrix of their own."""
    problem = quadratic(spectra(300, 3, (condition,)))
    near = problem.minimiser.clamp(1e-12, 1 - 1e-12)
    x0 = torch.where(torch.rand(300, 3) < 0.5, near, problem.x0)
    solution = minimise(problem.objective, x0, QuasiNewton(), box=UNIT, gtol=1e-8, max_iter=60)
    assert solution.converged
    torch.testing.assert_close(solution.x, problem.minimiser, rtol=0, atol=1e-5)


def test_free_variables_are_those_that_no_bound_holds() -> None:
    x = torch.tensor([[0.0, 0.0, 1e-9, 1e-9, 1e-3, 0.5, 1.0, 1.0, 1 - 1e-9]]).double()
    grad = torch.tensor([[1.0, -1.0, 1.0, -1.0, 1.0, 1.0, 1.0, -1.0, -1.0]]).double()
    expected = [[0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]]
    assert UNIT.free_variables(x, grad).tolist() == expected


@pytest.mark.parametrize(
    "settings",
    [{"memory": 0}, {"memory": -1}, {"max_halvings": 0}, {"armijo": 0.0}, {"armijo": 0.5}],
)
def test_settings_that_make_no_sense_are_refused(settings) -> None:
    with pytest.raises(ValueError, match="the quasi-Newton method needs memory >= 1"):
        QuasiNewton(**settings)


@pytest.mark.parametrize("box", [Box(), UNIT], ids=["free", "unit"])
@pytest.mark.parametrize("bounded", [True, False])
def test_where_halvings_do_not_suffice_the_proven_step_does(box: Box, bounded: bool) -> None:
    """One trial of length one, a thousand times too long: without the proven step it ends where it starts."""
    problem = quadratic(1e3 * spectra(20, 6, (30.0,)), box)
    assert isinstance(problem.objective, Quadratic)
    if not bounded:
        problem.objective.largest = torch.full_like(problem.objective.largest, float("inf"))
    values: list[torch.Tensor] = [problem.objective.value(problem.x0)]
    counting = Counting(problem.objective)
    solution = minimise(
        counting,
        problem.x0,
        QuasiNewton(max_halvings=1),
        box=box,
        gap_tol=1e-6,
        callback=lambda progress: values.append(progress.value),
    )
    assert all((after <= before).all() for before, after in pairwise(values))
    assert float(solution.evaluations.max()) <= counting.evaluations
    if bounded:
        assert solution.converged
        torch.testing.assert_close(solution.x, problem.minimiser, rtol=0, atol=1e-2)
    else:
        assert Status.STAGNATED in solution.status.tolist()
