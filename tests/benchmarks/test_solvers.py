"""The peers of the convergence benchmark, and how they are watched."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pandas import DataFrame

from benchmarks.harness.outcome import Outcome, outcome_of
from benchmarks.problems.table import PROBLEMS
from benchmarks.solvers.convexreg_solvers import own
from benchmarks.solvers.recorder import CountedObjective, Recorder, Stop
from benchmarks.solvers.report import performance_profile
from benchmarks.solvers.table import PEERS
from benchmarks.solvers.tasks import Task, reference
from convexreg.solvers import (
    FISTA,
    Backtracking,
    Box,
    FreeFISTA,
    GradientDescent,
    QuasiNewton,
    Status,
    minimise,
)


@pytest.fixture(scope="module")
def task() -> Task:
    from benchmarks.methods.models import cosines

    image = torch.rand((1, 20, 17), generator=torch.Generator().manual_seed(1))
    return Task.of("noise-25 random", PROBLEMS["noise-25"].measure(image, 0), cosines())


def test_reference_is_certified_and_cached(task, tmp_path):
    first = reference(task, tmp_path)
    assert 0 <= first.gap <= 1e-12 * first.value
    (path,) = tmp_path.iterdir()
    written = path.stat().st_mtime_ns
    again = reference(task, tmp_path)
    assert torch.equal(first.x, again.x)
    assert first.value == again.value
    assert path.stat().st_mtime_ns == written


@pytest.mark.parametrize("name", PEERS)
def test_every_solver_reaches_the_minimum(task, name, tmp_path):
    record = Recorder(
        task, reference(task, tmp_path), target=1e-5, max_evaluations=1500, time_limit=60
    )
    with torch.no_grad(), pytest.raises(Stop) as stop:
        PEERS[name].run(task, record)
    assert stop.value.outcome is Outcome.CONVERGED
    assert record.points[-1].evaluations == record.objective.evaluations


@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if peer.box])
def test_every_constrained_solver_reaches_the_minimum(task, name, tmp_path):
    box = Box(0.3, 0.6)
    boxed = Task("box", replace(task.problem, box=box), box.project(task.start))
    record = Recorder(
        boxed, reference(boxed, tmp_path), target=1e-5, max_evaluations=1500, time_limit=60
    )
    with torch.no_grad(), pytest.raises(Stop) as stop:
        PEERS[name].run(boxed, record)
    assert stop.value.outcome is Outcome.CONVERGED


@pytest.mark.parametrize(
    "solver",
    [GradientDescent(), FISTA(), FISTA(Backtracking()), FreeFISTA(), QuasiNewton()],
    ids=repr,
)
def test_counters_agree_with_what_solvers_claim(task, solver):
    counted = CountedObjective(task.problem.objective)
    solution = minimise(counted, task.start, solver, gap_tol=1e-4, max_iter=300)
    assert counted.evaluations == float(solution.evaluations)


def test_time_limit_and_failure_are_outcomes(task, tmp_path):
    exact = reference(task, tmp_path)
    record = Recorder(task, exact, target=1e-12, max_evaluations=1e9, time_limit=0.0)
    with pytest.raises(Stop) as stop:
        own(GradientDescent())(task, record)
    assert stop.value.outcome is Outcome.TIME_LIMIT
    record = Recorder(task, exact, target=1e-12, max_evaluations=1e9, time_limit=60)
    with pytest.raises(Stop) as stop:
        record(task.start * float("nan"))
    assert stop.value.outcome is Outcome.FAILED


def test_every_status_has_an_outcome():
    assert outcome_of(Status.CONVERGED) is Outcome.CONVERGED
    assert outcome_of(Status.TIME_LIMIT) is Outcome.TIME_LIMIT
    assert outcome_of(Status.STAGNATED) is Outcome.STAGNATED
    assert outcome_of(Status.MAX_ITERATIONS) is Outcome.ITERATION_LIMIT
    assert {outcome_of(s) for s in Status if s.failed} == {Outcome.FAILED}


def test_performance_profile_by_hand():
    costs = {"a": {"p": 1.0, "q": 4.0, "r": None}, "b": {"p": 2.0, "q": 2.0}, "c": {}}
    curves = performance_profile(DataFrame(costs, ["p", "q", "r"], dtype=float))
    assert curves["a"][0][1:3] == [1, 2]
    assert curves["a"][1][-1] == pytest.approx(2 / 3)
    assert curves["b"][0][1:3] == [1, 2]
    assert curves["c"][1] == [0, 0]
