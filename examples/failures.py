"""How a solve can end: converged, and four failures provoked, each with its status and message.

python examples/failures.py
"""

from __future__ import annotations

import argparse

import torch
from skimage import data
from torch import Tensor

from convexreg import ConvexRegularizer, load_model
from convexreg.solvers import FISTA, Objective, Proximity, QuasiNewton, SolverError, Status, Sum
from convexreg.solvers import minimise as solve


class Faulty(Objective):
    """An objective whose Lipschitz constant is understated, or which fails after some evaluations."""

    def __init__(self, inner: Objective, *, understate: float = 1.0, good: int = 1000) -> None:
        self.inner, self.understate, self.good = inner, understate, good

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, grad = self.inner.value_and_grad(x)
        self.good -= 1
        return (value, grad) if self.good >= 0 else (value * float("nan"), grad)

    def lipschitz(self, x: Tensor) -> Tensor:
        return self.inner.lipschitz(x) / self.understate

    def strong_convexity(self, x: Tensor) -> Tensor:
        return self.inner.strong_convexity(x)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64, help="side of the picture in pixels")
    options = parser.parse_args(arguments)

    sigma, places = 0.1, slice(60, 60 + options.size)
    clean = torch.from_numpy(data.camera()).float()[None, None, places, places] / 255
    y = clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    model = load_model("mgradnet-m").regularizer
    assert isinstance(model, ConvexRegularizer)
    objective = Sum([Proximity(y), model.term(sigma)], [1.0, 1.0])
    wrong = Faulty(objective, understate=100)
    runs = {
        "as it should be": (objective, QuasiNewton(), 1e-4, 1000),
        "Lipschitz constant 100 times too small": (wrong, FISTA(), 1e-4, 1000),
        "NaN from the sixth evaluation on": (Faulty(objective, good=5), FISTA(), 1e-4, 1000),
        "too few iterations": (objective, QuasiNewton(), 1e-4, 5),
        "a tolerance below float32 rounding": (objective, QuasiNewton(), 1e-16, 1000),
    }
    for title, (problem, solver, tolerance, iterations) in runs.items():
        try:
            solution = solve(problem, y, solver, gap_tol=tolerance, max_iter=iterations)
            raised = ""
        except SolverError as error:
            solution, raised = error.solution, f" (raised {type(error).__name__})"
        status = Status(int(solution.status[0]))
        gap = float(solution.certificate.relative_gap[0])
        quality = float(-10 * (solution.x - clean).square().mean().log10())
        print(f"{title}: {status.name}{raised}")
        print(f"  {status.message}.")
        print(
            f"  after {int(solution.iterations[0])} iterations, certified relative gap {gap:.1e}, "
            f"{quality:.2f} dB"
        )


if __name__ == "__main__":
    main()
