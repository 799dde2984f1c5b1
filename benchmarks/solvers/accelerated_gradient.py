"""Accelerated gradient with gradient restart, as CRR-NN uses it."""

from __future__ import annotations

import math

from benchmarks.solvers.recorder import Recorder
from benchmarks.solvers.tasks import Task
from convexreg.solvers.batch import inner


def accelerated_gradient_with_restart(task: Task, record: Recorder) -> None:
    """`x_{k+1} = P(z_k - grad F(z_k) / L)` with FISTA's momentum, reset when it points uphill.

    The solver of CRR-NN (Goujon et al. 2023), with the proven global `L`; restart by the gradient
    scheme of O'Donoghue & Candes 2015, eq. 13.
    """
    objective = record.objective
    x = z = task.start
    step = 1 / float(objective.lipschitz(x))
    t = 1.0
    while True:
        _, grad = objective.value_and_grad(z)
        following = task.problem.box.project(z - step * grad)
        if float(inner(z - following, following - x)) > 0:
            t = 1.0
        t_next = (1 + math.sqrt(1 + 4 * t**2)) / 2
        z = following + (t - 1) / t_next * (following - x)
        x, t = following, t_next
        record(x)
