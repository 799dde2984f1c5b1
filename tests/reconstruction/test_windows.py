"""A large image is denoised by windows, to what the problem of the whole has as its minimum."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from convexreg import ConvexRegularizer, reconstruct
from convexreg.networks import colour
from convexreg.reconstruction import by_windows, windows
from convexreg.reconstruction.defaults import Tolerance
from convexreg.reconstruction.problem import Problem, proximal_problem
from convexreg.solvers import Progress, Status
from convexreg.solvers.certificates import certify
from convexreg.solvers.operators import Identity
from tests.reconstruction.test_planes import colour_model
from tests.tables import perturbed
from tests.test_adaptive import adaptive as small_adaptive
from tests.test_regularizer import SMALL


def convex() -> ConvexRegularizer:
    return perturbed(SMALL.build(), 0.1)


MODELS = {
    "convex": convex,
    "adaptive": small_adaptive,
    "colour": colour_model,
    "adaptive colour": lambda: colour_model(adaptive=True),
}


def noisy(channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    ramp = torch.linspace(0, 1, 46, dtype=torch.float64).expand(1, channels, 37, 46)
    return ramp + 0.1 * torch.randn(ramp.shape, generator=generator, dtype=torch.float64)


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every image is large; two threads."""
    monkeypatch.setattr(colour, "LARGE", 1)
    monkeypatch.setattr(windows, "_SIDE", 16)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def problem_of(model, channels: int = 1) -> Problem:
    """The problem of the last round, or the only one."""
    y = noisy(channels)
    if hasattr(model, "given_in_turn"):
        with torch.no_grad():
            model = model.given_in_turn(y, 0.1)
    return proximal_problem(y, model, 0.1, 0.8).anchored(y.mean((2, 3), keepdim=True) + 0 * y, 0.1)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_minimum_is_that_of_the_whole(name: str, dtype: torch.dtype) -> None:
    model, channels = MODELS[name](), 3 if "colour" in name else 1
    y = noisy(channels).to(dtype)
    asked = {"sigma": 0.1, "regularizer": model, "lam": 0.8}
    result = reconstruct(y, Identity(), **asked, gap_tol=1e-5)
    assert result.converged
    assert result.certificate.dtype == torch.float64
    exact = reconstruct(y.double(), Identity(), **asked, gap_tol=1e-9)
    true = exact.problem.objective.value(result.image.double()) - exact.certificate.lower
    if "adaptive" not in name:  # else the problems differ as their first rounds do
        assert bool(true <= result.certificate.gap + exact.certificate.gap)
    torch.testing.assert_close(result.image.double(), exact.image, rtol=0, atol=5e-3)


@pytest.mark.parametrize("name", ["convex", "adaptive"])
def test_value_gradient_and_bound_are_those_of_the_whole(name: str) -> None:
    problem = problem_of(MODELS[name]())
    x = noisy(1) + 0.05
    cut = windows.Windows.of(problem, x).cut(problem)
    value, grad = cut.objective.value_and_grad(x)
    whole, its = problem.objective.value_and_grad(x)
    torch.testing.assert_close(value, whole, rtol=1e-7, atol=0)
    torch.testing.assert_close(grad, its, rtol=0, atol=1e-7)
    # of the Hessian of the sum over windows, column by column of a corner
    move = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    change = (cut.objective.grad(x + 1e-3 * move) - grad).norm() / (1e-3 * move.norm())
    assert change <= cut.objective.lipschitz(x)
    assert cut.objective.strong_convexity(x) == problem.objective.strong_convexity(x)


@pytest.mark.parametrize("name", ["convex", "adaptive"])
def test_threads_change_nothing_and_are_not_changed(name: str) -> None:
    problem = problem_of(MODELS[name]())
    start = noisy(1)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        solved = by_windows.minimise(problem, start, in_float64=True, tolerance=Tolerance(1e-4))
        assert torch.get_num_threads() == threads
        results.append(solved)
    first, second = results
    assert torch.equal(first.solution.x, second.solution.x)
    assert torch.equal(first.solution.certificate.gap, second.solution.certificate.gap)
    assert torch.equal(first.lipschitz, second.lipschitz)


def test_windows_that_do_not_do_cost_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the whole is solved from there."""
    problem, start = problem_of(convex()), noisy(1)
    for closer, enough in ((by_windows._CLOSER, True), (1e4, False)):
        monkeypatch.setattr(by_windows, "_CLOSER", closer)
        seen = list[Progress]()
        solved = by_windows.minimise(
            problem, start, in_float64=True, tolerance=Tolerance(1e-6), callback=seen.append
        )
        assert bool(seen[-1].gap.isinf()) == enough
        assert solved.solution.converged
        certificate = certify(problem.objective, solved.solution.x)
        assert bool(solved.solution.certificate.gap <= 1.01e-6 * certificate.lower)


def test_the_way_is_told_and_time_is_kept() -> None:
    problem, start, seen = problem_of(convex()), noisy(1), list[Progress]()
    solved = by_windows.minimise(
        problem, start, in_float64=False, tolerance=Tolerance(1e-3), callback=seen.append
    )
    shares = torch.cat([progress.done for progress in seen])
    assert len(seen) == 9
    assert bool((shares.diff() > 0).all())
    assert shares[-1] == 1
    assert torch.equal(seen[-1].x, solved.solution.x)
    late = by_windows.minimise(
        problem, start, in_float64=True, tolerance=Tolerance(1e-6), time_limit=0.0
    )
    assert int(late.solution.status) == Status.TIME_LIMIT
    certificate = certify(problem.objective, late.solution.x)
    torch.testing.assert_close(late.solution.certificate.gap, certificate.gap)


def test_a_failure_in_a_window_is_one_of_the_call() -> None:
    problem = problem_of(convex())

    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        by_windows.minimise(
            problem, noisy(1), in_float64=False, tolerance=Tolerance(1e-3), callback=interrupt
        )
    assert torch.get_num_threads() == 2
