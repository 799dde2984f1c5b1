"""deepinv's own solvers: its iterations, without the cost it evaluates in between."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from benchmarks.solvers.recorder import Recorder
from benchmarks.solvers.tasks import Task
from convexreg.solvers import Objective, Sum


def _beside_the_data(task: Task) -> Objective:
    """The regularizer and the anchor."""
    whole = task.problem.objective
    return Sum(whole.terms[1:], whole.coefficients[1:])


def _iterate(task: Task, record: Recorder, iteration: Any, step: float, start: Any) -> None:
    """With the rest as deepinv's prior; its gradient counts as one evaluation."""
    from deepinv.optim import L2, Prior

    class CountedPrior(Prior):
        def grad(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            record.objective.evaluations += 1
            return _beside_the_data(task).grad(x)

    data: Any = task.problem.data
    parameters = {"stepsize": step, "lambda": 1.0, "g_param": None, "a": 3}
    state: dict[str, Any] = {"est": start, "cost": None, "it": 0}
    prior, fidelity = CountedPrior(), L2()
    while True:
        state = iteration(state, fidelity, prior, parameters, data.y, data.operator)
        record(state["est"][0])


def gradient_descent(task: Task, record: Recorder) -> None:
    """deepinv's `GD` with step `1 / L`."""
    from deepinv.optim.optim_iterators import GDIteration

    step = 1 / float(task.problem.objective.lipschitz(task.start))
    _iterate(task, record, GDIteration(has_cost=False), step, (task.start,))


def fista(task: Task, record: Recorder) -> None:
    """deepinv's `FISTA` with the data term's exact prox and the regularizer's gradient.

    Its momentum `(k + a - 1) / (k + a)` is larger than that of Chambolle & Dossal 2015 it cites,
    and has no `1 / k^2` rate.
    """
    from deepinv.optim.optim_iterators import FISTAIteration

    step = 1 / float(_beside_the_data(task).lipschitz(task.start))
    iteration = FISTAIteration(g_first=True, has_cost=False)
    _iterate(task, record, iteration, step, (task.start, task.start))
