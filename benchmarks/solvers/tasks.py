"""Minimisation tasks: the smooth convex objective of one measurement, and its exact minimum."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from benchmarks.problems.table import Measurement
from convexreg.files import write_atomically
from convexreg.regularizer import Regularizer
from convexreg.solvers import Box, Objective, QuasiNewton, Sum, certify, minimise

_FORMAT = "reference-1"


@dataclass(frozen=True)
class Task:
    """Minimise `|A x - y|^2 / 2 + R(x; sigma)` over a box.

    :ivar name: the problem, the image and the constraint.
    """

    name: str
    measurement: Measurement
    regularizer: Regularizer
    box: Box = field(default_factory=Box)

    @property
    def sigma(self) -> float:
        """The noise level, which the regularizer is conditioned on."""
        return self.measurement.sigma

    @cached_property
    def objective(self) -> Objective:
        """The objective in the dtype of the measurement."""
        terms = [self.measurement.data_term(), self.regularizer.term(self.sigma)]
        return Sum(terms, [1.0, 1.0])

    @cached_property
    def start(self) -> Tensor:
        """A feasible start."""
        return self.box.project(self.measurement.start)

    @cached_property
    def exact(self) -> Task:
        """The same task, from the same measurements, in float64."""
        m = self.measurement
        height, width = m.clean.shape[-2:]
        forward = m.problem.build(height, width, torch.float64, str(m.clean.device))
        exact = replace(m, clean=m.clean.double(), y=m.y.double(), forward=forward)
        return replace(
            self, measurement=exact, regularizer=copy.deepcopy(self.regularizer).double()
        )

    @property
    def digest(self) -> str:
        """Identifies the objective: measurements, operator, model, constraint."""
        content = hashlib.sha256(f"{_FORMAT} {self.measurement.problem} {self.box}".encode())
        tensors = [self.measurement.y, *self.regularizer.state_dict().values()]
        for tensor in tensors:
            content.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return content.hexdigest()[:16]


@dataclass(frozen=True)
class Reference:
    """The minimum of a task, computed in float64.

    :ivar gap: bound on `F(x) - F*` proven by the certificate at `x`; `inf` where there is none.
    :ivar stationarity: rms of the gradient mapping at `x`.
    """

    x: Tensor
    value: float
    gap: float
    stationarity: float
    evaluations: float


def reference(task: Task, folder: Path) -> Reference:
    """The minimum of `task`, from the cache in `folder` when it has been computed before."""
    path = folder / f"{task.digest}.safetensors"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        found = _solve(task)
        numbers = {key: value for key, value in vars(found).items() if key != "x"}
        write_atomically(path, save({"x": found.x.cpu()}, {"numbers": json.dumps(numbers)}))
    with safe_open(path, framework="pt") as file:
        x = file.get_tensor("x").to(task.start.device)
        return Reference(x=x, **json.loads(file.metadata()["numbers"]))


def _solve(task: Task) -> Reference:
    """A float32 solution, polished as far as float64 goes; the certificate says how far that is."""
    solver = QuasiNewton(memory=30, refresh=(2, 8, 20, 50, 100))
    rough = minimise(
        task.objective, task.start, solver, box=task.box, gtol=1e-6, max_iter=500, throw=False
    )
    exact = task.exact
    provable = task.box.bounded or bool((exact.objective.strong_convexity(exact.start) > 0).all())
    solution = minimise(
        exact.objective,
        rough.x.double(),
        solver,
        box=task.box,
        gap_tol=1e-13 if provable else None,
        gtol=1e-11,
        max_iter=2000,
        throw=False,
    )
    return Reference(
        x=solution.x,
        value=float(exact.objective.value(solution.x)),
        gap=float(certify(exact.objective, solution.x, task.box).gap),
        stationarity=float(solution.stationarity),
        evaluations=float(rough.evaluations + solution.evaluations),
    )
