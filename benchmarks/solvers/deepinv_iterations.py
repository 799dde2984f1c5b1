"""deepinv's own solvers: its iterations, without the cost it evaluates in between."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.solvers.recorder import Recorder
from benchmarks.solvers.tasks import Task


def _prior(task: Task, record: Recorder) -> Any:
    """The regularizer as a deepinv prior; its gradient counts as one evaluation."""
    from deepinv.optim import Prior

    class CountedPrior(Prior):
        def grad(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            record.objective.evaluations += 1
            return task.regularizer.grad(x, task.sigma)

    return CountedPrior()


def _iterate(task: Task, record: Recorder, iteration: Any, step: float, start: Any) -> None:
    from deepinv.optim import L2

    m = task.measurement
    prior, data_fidelity = _prior(task, record), L2()
    parameters = {"stepsize": step, "lambda": 1.0, "g_param": None, "a": 3}
    state: dict[str, Any] = {"est": start, "cost": None, "it": 0}
    while True:
        state = iteration(state, data_fidelity, prior, parameters, m.y, m.forward.physics)
        record(state["est"][0])


def gradient_descent(task: Task, record: Recorder) -> None:
    """deepinv's `GD` with step `1 / L`."""
    from deepinv.optim.optim_iterators import GDIteration

    step = 1 / float(task.objective.lipschitz(task.start))
    _iterate(task, record, GDIteration(has_cost=False), step, (task.start,))


def fista(task: Task, record: Recorder) -> None:
    """deepinv's `FISTA` with the data term's exact prox and the regularizer's gradient.

    Its momentum `(k + a - 1) / (k + a)` is larger than that of Chambolle & Dossal 2015 it cites,
    and has no `1 / k^2` rate.
    """
    from deepinv.optim.optim_iterators import FISTAIteration

    grid = (task.start.shape[-2], task.start.shape[-1])
    with torch.no_grad():
        step = 1 / float(task.regularizer.lipschitz(grid, task.sigma))
    iteration = FISTAIteration(g_first=True, has_cost=False)
    _iterate(task, record, iteration, step, (task.start, task.start))
