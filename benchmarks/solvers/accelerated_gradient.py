"""Accelerated gradient methods, as learned regularizers were published with."""

from __future__ import annotations

import math

import torch

from benchmarks.solvers.recorder import Recorder
from benchmarks.solvers.tasks import Task
from convexreg.solvers.batch import inner

# Delta, eta and rho of the paper's experiments with learned regularizers.
SUFFICIENT_DECREASE, AVERAGING, SHRINK = 0.1, 0.8, 0.9


def nmapg(task: Task, record: Recorder) -> None:
    """Algorithm 2 of Li & Lin 2015 with the line search of its supplement (Algorithm 4).

    An extrapolated step `z` is taken when it decreases the weighted average `c` of past values
    enough, otherwise the better one of `z` and a plain gradient step `v`. Steps start from
    Barzilai-Borwein lengths, here of successive extrapolated points, so that no gradient is
    evaluated for them alone; they shrink by `SHRINK` until the decrease is sufficient.
    """
    objective, box = record.objective, task.problem.box
    x = x_old = z = task.start
    t, t_old, q, lipschitz = 1.0, 0.0, 1.0, 1.0
    average = float(objective.value(x))
    y_old = grad_old = None

    def descend(point, value, grad, constant, ceiling):
        """A step from `point` with enough decrease; returns it, its value and the constant."""
        while True:
            trial = box.project(point - grad / constant)
            its_value = float(objective.value(trial))
            move = trial - point
            needed = SUFFICIENT_DECREASE * float(inner(move, move))
            if its_value <= max(value, ceiling) - needed or constant > 1e12:
                return trial, its_value, needed, constant
            constant /= SHRINK

    while True:
        y = x + t_old / t * (z - x) + (t_old - 1) / t * (x - x_old)
        value, grad = objective.value_and_grad(y)
        if y_old is not None and grad_old is not None:
            s, r = y - y_old, grad - grad_old
            product, size = float(inner(s, r)), float(inner(s, s))
            if product > 0 and size > 0:
                lipschitz = product / size
        z, z_value, needed, lipschitz = descend(y, float(value), grad, lipschitz, average)
        y_old, grad_old = y, grad
        x_old, following, following_value = x, z, z_value
        if z_value > average - needed:
            value, grad = objective.value_and_grad(x)
            v, v_value, _, _ = descend(x, float(value), grad, lipschitz, average)
            if v_value < z_value:
                following, following_value = v, v_value
        x = following
        t_old, t = t, (math.sqrt(4 * t**2 + 1) + 1) / 2
        q_next = AVERAGING * q + 1
        average = (AVERAGING * q * average + following_value) / q_next
        q = q_next
        record(x)
        if torch.equal(x, x_old):
            return


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
