"""Limited-memory BFGS as PyTorch and SciPy ship it."""

from __future__ import annotations

import numpy
import torch

from benchmarks.solvers.recorder import Recorder
from benchmarks.solvers.tasks import Task

MEMORY = 20


def torch_lbfgs(task: Task, record: Recorder) -> None:
    """`torch.optim.LBFGS` with its strong Wolfe line search; reports every point it evaluates."""
    x = task.start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [x],
        lr=1,
        history_size=MEMORY,
        max_iter=10**6,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        value, grad = record.objective.value_and_grad(x.detach())
        x.grad = grad
        record(x.detach())
        return float(value)

    optimizer.step(closure)


def scipy_lbfgsb(task: Task, record: Recorder) -> None:
    """`scipy.optimize.minimize(method="L-BFGS-B")`, with the box when there is one."""
    from scipy.optimize import Bounds, minimize

    start, box = task.start, task.problem.box

    def image(flat: numpy.ndarray) -> torch.Tensor:
        return torch.from_numpy(flat.copy()).to(start).reshape(start.shape)

    def value_and_grad(flat: numpy.ndarray) -> tuple[float, numpy.ndarray]:
        value, grad = record.objective.value_and_grad(image(flat))
        return float(value), grad.flatten().double().cpu().numpy()

    minimize(
        value_and_grad,
        start.flatten().double().cpu().numpy(),
        jac=True,
        method="L-BFGS-B",
        bounds=None if box.everything else Bounds(box.lower, box.upper),
        callback=lambda flat: record(image(flat)),
        options={"maxcor": MEMORY, "maxiter": 10**6, "maxfun": 10**6, "ftol": 0, "gtol": 0},
    )
