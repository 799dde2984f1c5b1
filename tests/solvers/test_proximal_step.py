"""Single steps and their search: what rounding excuses, how constants and blocks of steps grow."""

from __future__ import annotations

from typing import TypeVar

import pytest
import torch
from torch import Tensor

from convexreg.solvers import FISTA, Backtracking, Box, FreeFISTA, Objective, Solver, State
from convexreg.solvers.batch import inner
from convexreg.solvers.free_fista import Blocks
from convexreg.solvers.proximal_step import proximal_step
from tests.problems import SEARCH, Quadratic, quadratic

S = TypeVar("S", bound=State)


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


def flat_and_steep() -> tuple[Quadratic, Tensor]:
    """A problem whose steep part is solved first, so that later steps could be longer."""
    problem = quadratic(torch.tensor([[10.0, 0.3, 0.1, 0.03]]).double(), Box(), stated_mu=False)
    assert isinstance(problem.objective, Quadratic)
    return problem.objective, problem.x0


def states(objective: Objective, x0: Tensor, solver: Solver[S], steps: int) -> list[S]:
    """What a solver goes through."""
    passed = [solver.init(objective, x0, Box())]
    for _ in range(steps):
        passed.append(solver.step(objective, passed[-1], Box()))
    return passed[1:]


def test_the_constant_of_a_searched_fista_only_grows() -> None:
    """As its theorem asks; once it is large enough every step costs one gradient and one value."""
    history = states(*flat_and_steep(), FISTA(backtracking=SEARCH), 40)
    constants = torch.stack([state.lipschitz for state in history])
    assert (constants.diff(dim=0) >= 0).all()
    assert constants[0] > SEARCH.initial
    spent = torch.stack([state.evaluations for state in history]).diff(dim=0)
    assert (spent[constants.diff(dim=0) == 0] == 1.5).all()


def test_free_fista_follows_the_paper_while_its_step_changes() -> None:
    """Calatroni & Chambolle 2019: the momentum follows the ratio of the steps."""
    objective, x0 = flat_and_steep()
    solver = FreeFISTA(Backtracking(initial=0.5, increase=3.0, decrease=0.75))
    rho, t, known, longer = 1 / 3.0, 1.0, 0.5, False
    x = previous = x0
    constants = []
    # restarts come after the first block, of 22 iterations
    for state in states(objective, x0, solver, 22):
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
        torch.testing.assert_close(state.x, x, rtol=0, atol=1e-12)
    changes = torch.tensor(constants).diff()
    assert (changes > 0).any()
    assert (changes < 0).any()


@pytest.mark.parametrize("increase", [1.5, 2.0, 4.0])
def test_blocks_are_doubled_by_the_rule_of_the_paper(increase: float) -> None:
    """`q = 4 / (rho (n + 1)^2) decay`, and `2 n` where `n <= C / sqrt(q)`, `C = 6.38 / sqrt(rho)`."""
    solver, length, rho = FreeFISTA(Backtracking(increase=increase)), 20, 1 / increase
    decay = (6.38 / rho**0.5 / length) ** 2 * rho * (length + 1) ** 2 / 4
    lengths = torch.full((2,), length)

    def ended(*before: float) -> Blocks:
        """One block of two images that ended at 1.5."""
        return Blocks.of(torch.tensor(before).double(), torch.full((2,), 1.5).double(), lengths)

    # (F(r_0) - F(r)) / (F(r_1) - F(r)) with F(r) = 0.5
    value = torch.full((2,), 0.5).double()
    blocks = ended(0.5 + 0.99 * decay, 0.5 + 1.01 * decay)
    assert solver.next_length(blocks, value, lengths).tolist() == [40, 20]
    # the least ratio of all blocks counts, columns that are none do not
    several = blocks.followed_by(ended(0.5 + 9 * decay, 0.5 + 0.9 * decay))
    assert solver.next_length(several, value, lengths).tolist() == [40, 40]
    none = Blocks(several.before, torch.full_like(several.after, -float("inf")), several.length)
    assert solver.next_length(none, value, lengths).tolist() == [20, 20]
