"""Single steps and their search: what contradicts a constant, what rounding excuses, where it starts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convexreg.solvers import FISTA, Backtracking, Box, FreeFISTA, Objective, Progress, minimise
from convexreg.solvers.batch import inner
from convexreg.solvers.proximal_step import contradicts, proximal_step
from tests.problems import SEARCH, Quadratic, quadratic


@pytest.mark.parametrize("ratio", [0.99, 1.01])
def test_two_points_of_a_parabola_tell_its_constant(ratio: float) -> None:
    """`c x^2 / 2` contradicts the constant `L` exactly where `c > L`."""
    lipschitz = torch.tensor([0.1, 1.0, 30.0]).double()
    a, b = torch.randn(2, 3, 1).double().unbind()
    curvature = ratio * lipschitz

    def at(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return curvature * inner(x, x) / 2, curvature.unsqueeze(1) * x, x

    assert contradicts(*at(a), *at(b), lipschitz).tolist() == [ratio > 1] * 3


class OnePlus(Objective):
    """`1 + |x|^2`."""

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return 1 + inner(x, x), 2 * x

    def lipschitz(self, x: Tensor) -> Tensor:
        return torch.tensor(2.0).double()

    strong_convexity = lipschitz


@pytest.mark.parametrize(("share", "accepted"), [(0.1, 1.0), (10.0, 2.0)])
def test_a_search_is_excused_for_what_sums_cannot_resolve_and_no_more(
    share: float, accepted: float
) -> None:
    """With `L = 1` the step leads from `y` to `-y` and violates the test by `2 |y|^2`.

    Rounding of `n` terms cancels down to `4 eps F / sqrt(n)`.
    """
    size = 4096
    unresolved = 4 * torch.finfo(torch.float32).eps / size**0.5
    y = torch.full((1, size), (share * unresolved / 2 / size) ** 0.5)
    value, grad = OnePlus().value_and_grad(y)
    one = torch.ones(1).double()
    step = proximal_step(OnePlus(), y, value, grad, one, 0 * one, Box(), Backtracking())
    assert step.lipschitz.item() == accepted


def flat_and_steep() -> tuple[Quadratic, Tensor, list[Progress]]:
    """A problem whose steep part is solved first, so that later steps could be longer."""
    problem = quadratic(torch.tensor([[10.0, 0.3, 0.1, 0.03]]).double(), Box(), stated_mu=False)
    assert isinstance(problem.objective, Quadratic)
    return problem.objective, problem.x0, []


def test_the_constant_of_a_searched_fista_only_grows() -> None:
    """As its theorem asks; once it is large enough every step costs one gradient and one value."""
    objective, x0, history = flat_and_steep()
    solver = FISTA(backtracking=SEARCH)
    minimise(objective, x0, solver, gtol=1e-14, max_iter=40, callback=history.append)
    constants = torch.stack([progress.state.lipschitz for progress in history])
    assert (constants.diff(dim=0) >= 0).all()
    assert constants[0] > SEARCH.initial
    spent = torch.stack([progress.state.evaluations for progress in history]).diff(dim=0)
    assert (spent[constants.diff(dim=0) == 0] == 1.5).all()


def test_free_fista_follows_the_paper_while_its_step_changes() -> None:
    """Calatroni & Chambolle 2019: the momentum follows the ratio of the steps."""
    objective, x0, history = flat_and_steep()
    solver = FreeFISTA(Backtracking(initial=0.5, increase=3.0, decrease=0.75))
    # restarts come after the first block, of 22 iterations
    minimise(objective, x0, solver, gtol=1e-14, max_iter=22, callback=history.append)
    rho, t, known, longer = 1 / 3.0, 1.0, 0.5, False
    x = previous = x0
    constants = []
    for progress in history:
        L = known * (0.75 if longer else 1)
        while True:
            following = (1 + (1 + 4 * L / known * t**2) ** 0.5) / 2
            y = x + (t - 1) / following * (x - previous)
            value, grad = objective.value_and_grad(y)
            trial = y - grad / L
            excess = objective.value(trial) - value - inner(grad, trial - y)
            bound = L / 2 * inner(trial - y, trial - y)
            if excess <= bound:
                break
            L = 3.0 * L
        x, previous, t, known, longer = trial, x, following, L, bool(excess <= rho * bound)
        constants.append(L)
        torch.testing.assert_close(progress.state.x, x, rtol=0, atol=1e-12)
    changes = torch.tensor(constants).diff()
    assert (changes > 0).any()
    assert (changes < 0).any()


@pytest.mark.parametrize("increase", [1.5, 2.0, 4.0])
def test_blocks_are_doubled_by_the_rule_of_the_paper(increase: float) -> None:
    """`q = 4 / (rho (n + 1)^2) decay`, and `2 n` where `n <= C / sqrt(q)`, `C = 6.38 / sqrt(rho)`."""
    solver, length, rho = FreeFISTA(Backtracking(increase=increase)), 20, 1 / increase
    decay = (6.38 / rho**0.5 / length) ** 2 * rho * (length + 1) ** 2 / 4
    for factor, expected in ((0.99, 40), (1.01, 20)):
        # (F(r_0) - F(r)) / (F(r_1) - F(r)) with F(r) = 0.5
        blocks = ((0.5 + factor * decay, length), (1.5, length))
        assert solver._next_length(blocks, 0.5) == expected
    # the least ratio of all blocks counts
    several = ((0.5 + 9 * decay**2, length), (0.5 + 0.9 * decay, length), (1.5, length))
    assert solver._next_length(several, 0.5) == 40
