"""The solvers of the convergence benchmark.

A new solver is a row: `PEERS["mine"] = Peer("what it is", run)`, where `run(task, record)` minimises
`record.objective` from `task.start` over `task.box` and calls `record(x)` after every iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.solvers import deepinv_iterations, lbfgs
from benchmarks.solvers.accelerated_gradient import accelerated_gradient_with_restart, nmapg
from benchmarks.solvers.convexreg_solvers import own
from benchmarks.solvers.recorder import Recorder
from benchmarks.solvers.tasks import Task
from convexreg.solvers import FISTA, Backtracking, FreeFISTA, GradientDescent, QuasiNewton
from convexreg.solvers.certificates import (
    fista_rate,
    gradient_descent_rate,
    strongly_convex_fista_rate,
)


@dataclass(frozen=True)
class Constants:
    """What the proven rates depend on."""

    lipschitz: float
    strong_convexity: float
    distance: float
    initial_gap: float


@dataclass(frozen=True)
class Peer:
    """A solver under test.

    :ivar run: `(task, record)`, until the recorder stops it.
    :ivar box: whether it can handle a constraint.
    :ivar rate: proven bound on `F(x_k) - F*`, from `k` and the constants.
    """

    description: str
    run: Callable[[Task, Recorder], None]
    box: bool = False
    rate: Callable[[int, Constants], float] | None = None


def _gradient_descent(k: int, c: Constants) -> float:
    return gradient_descent_rate(k, c.lipschitz, c.strong_convexity, c.distance)


def _fista(k: int, c: Constants) -> float:
    if c.strong_convexity == 0:
        return fista_rate(k, c.lipschitz, c.distance)
    return strongly_convex_fista_rate(k, c.lipschitz, c.strong_convexity, c.distance, c.initial_gap)


PEERS: dict[str, Peer] = {
    "quasi-Newton": Peer("preconditioned L-BFGS (ours)", own(QuasiNewton()), True),
    "FISTA": Peer("FISTA with the proven step (ours)", own(FISTA()), True, _fista),
    "FISTA backtracking": Peer(
        "FISTA with a searched step (ours)", own(FISTA(Backtracking())), True
    ),
    "Free-FISTA": Peer(
        "FISTA with searched steps and proven restarts (ours)", own(FreeFISTA()), True
    ),
    "gradient descent": Peer(
        "gradient descent with the proven step (ours)",
        own(GradientDescent()),
        True,
        _gradient_descent,
    ),
    "nmAPG": Peer(
        "nonmonotone accelerated proximal gradient (Li & Lin 2015)",
        nmapg,
        True,
    ),
    "AG restart": Peer(
        "accelerated gradient with gradient restart, as in CRR-NN",
        accelerated_gradient_with_restart,
        True,
    ),
    "L-BFGS (torch)": Peer("torch.optim.LBFGS, strong Wolfe, memory 20", lbfgs.torch_lbfgs),
    "L-BFGS-B (SciPy)": Peer("scipy.optimize L-BFGS-B, memory 20", lbfgs.scipy_lbfgsb, True),
    "GD (deepinv)": Peer("deepinv's GD", deepinv_iterations.gradient_descent),
    "FISTA (deepinv)": Peer(
        "deepinv's FISTA, exact prox of the data term", deepinv_iterations.fista
    ),
}
