"""OGM-G: the last gradient of every cycle obeys its theorem, which is attained; refusals; counts."""

from __future__ import annotations

import pytest
import torch

from convexreg.solvers import OGMG, Box, Progress, minimise
from convexreg.solvers.certificates import gradient_norm_rate
from tests.problems import PROBLEMS, UNIT, Counting, blur, quadratic, spectra
from tests.tables import over

FREE = {
    name: PROBLEMS[name]
    for name in ("quadratic-singular", "quadratic-modulus-unknown", "denoising-m", "blur")
}


@pytest.mark.parametrize("cycle", [1, 2, 5, 30])
@over("build", FREE)
def test_the_last_gradient_of_every_cycle_obeys_the_theorem(build, cycle: int) -> None:
    torch.manual_seed(0)
    problem = build()
    objective = problem.objective
    lipschitz = objective.lipschitz(problem.x0).expand(len(problem.x0))
    values = [objective.value(problem.x0)]
    norms: list[torch.Tensor] = []

    def record(progress: Progress) -> None:
        values.append(objective.value(progress.x))
        norms.append(objective.value_and_grad(progress.x)[1].flatten(1).square().sum(1))

    minimise(objective, problem.x0, OGMG(cycle), gtol=1e-14, max_iter=3 * cycle, callback=record)
    least = problem.least
    for end in range(cycle, len(values), cycle):
        for i, constant in enumerate(lipschitz.tolist()):
            gap = max(float(values[end - cycle][i] - least[i]), 0.0)  # rounding
            bound = gradient_norm_rate(cycle, constant, gap)
            assert float(norms[end - 1][i]) <= bound * (1 + 1e-9) + 1e-20


@pytest.mark.parametrize("cycle", [1, 2, 3, 10, 40])
def test_the_bound_is_attained(cycle: int) -> None:
    """On `L x^2 / 2` the squared gradient is `2 L F(x_0) / theta_0^2`: every coefficient is right."""
    theta = 1.0
    for i in reversed(range(cycle)):
        theta = (1 + (1 + (8 if i == 0 else 4) * theta**2) ** 0.5) / 2
    problem = quadratic(torch.full((1, 3), 7.0).double(), Box())
    ends = []
    minimise(
        problem.objective,
        problem.x0,
        OGMG(cycle),
        gtol=1e-30,
        max_iter=cycle,
        callback=lambda progress: ends.append(progress.x),
        throw=False,
    )
    grad = problem.objective.value_and_grad(ends[-1])[1]
    gap = float(problem.objective.value(problem.x0) - problem.least)
    expected = 14 * gap / theta**2
    assert float(grad.square().sum()) == pytest.approx(expected, rel=1e-6)
    assert expected <= gradient_norm_rate(cycle, 7.0, gap)
    assert expected >= 0.4 * gradient_norm_rate(cycle, 7.0, gap)


def test_one_evaluation_a_step_and_images_independent() -> None:
    torch.manual_seed(0)
    problem = blur(Box())
    counting = Counting(problem.objective)
    solution = minimise(counting, problem.x0, OGMG(20), gtol=1e-3, max_iter=2000)
    assert solution.converged
    assert counting.evaluations == 1 + int(solution.iterations.max())
    assert torch.equal(solution.evaluations, 1.0 + solution.iterations.double())
    assert (solution.stationarity <= 1e-3).all()


def test_what_it_cannot_do_is_refused() -> None:
    objective, start = quadratic(spectra(4, 6, (2.0,)), Box()).objective, torch.zeros(4, 6).double()
    with pytest.raises(ValueError, match="without constraints"):
        minimise(objective, start, OGMG(), box=UNIT, gtol=1e-3)
    with pytest.raises(ValueError, match="at least one step"):
        minimise(objective, start, OGMG(0), gtol=1e-3)
