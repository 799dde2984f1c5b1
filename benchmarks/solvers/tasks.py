"""Minimisation tasks: the problem of one measurement, and its exact minimum."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from benchmarks.problems.table import Measurement
from convexreg.files import write_atomically
from convexreg.reconstruction.defaults import Tolerance
from convexreg.reconstruction.problem import Problem
from convexreg.reconstruction.start import starting_image
from convexreg.regularizer import Regularizer
from convexreg.solvers import Box, QuasiNewton
from convexreg.solvers.data_terms import DataTerm

_FORMAT = "reference-2"


@dataclass(frozen=True)
class Task:
    """A problem to minimise from a feasible start.

    :ivar name: the problem, the image and the constraint.
    """

    name: str
    problem: Problem
    start: Tensor

    @classmethod
    def of(
        cls, name: str, measurement: Measurement, regularizer: Regularizer, box: Box | None = None
    ) -> Task:
        """What `reconstruct` minimises at weight one, with its start and its anchor."""
        m, box = measurement, box or Box()
        start = starting_image(m.y, m.physics, m.sigma)
        problem = Problem(m.data_term(), regularizer, m.sigma, box=box).anchored(start)
        return cls(name, problem, box.project(start))

    @cached_property
    def exact(self) -> Problem:
        """The problem in float64."""
        return self.problem.exact(self.start)

    @property
    def digest(self) -> str:
        """Identifies the objective: measurements, operator, model, constraint."""
        p = self.problem
        assert isinstance(p.data, DataTerm)
        assert isinstance(p.regularizer, Regularizer)
        settings = f"{_FORMAT} {self.name} {p.sigma} {p.lam} {p.anchor} {p.box}"
        content = hashlib.sha256(settings.encode())
        # the anchor's centre follows from the measurements
        for tensor in (p.data.y, *p.regularizer.state_dict().values()):
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
    rough = task.problem.minimise(
        task.start, tolerance=Tolerance(gtol=1e-6), solver=solver, max_iter=500, throw=False
    )
    tolerance = Tolerance(gap_tol=1e-13, gtol=1e-9)
    solution = task.exact.minimise(
        rough.x.double(), tolerance=tolerance, solver=solver, max_iter=2000, throw=False
    )
    return Reference(
        x=solution.x,
        value=float(task.exact.objective.value(solution.x)),
        gap=float(solution.certificate.gap),
        stationarity=float(solution.stationarity),
        evaluations=float(rough.evaluations + solution.evaluations),
    )
