"""What the classes for deepinv cost beyond the solvers and gradients they call."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.clock import alternating, processor_seconds
from convexreg import reconstruct
from convexreg.reconstruction.defaults import Tolerance
from convexreg.reconstruction.problem import proximal_problem
from convexreg.regularizer import ConvexRegularizer

SIGMA = 0.1


@dataclass(frozen=True)
class Comparison:
    """The same work through deepinv and without it."""

    name: str
    bare: Callable[[], Any]
    plugged: Callable[[], Any]

    def seconds(self, repeats: int) -> tuple[list[float], list[float]]:
        """Processor times of both."""
        runs = {
            "bare": lambda: processor_seconds(self.bare),
            "plugged": lambda: processor_seconds(self.plugged),
        }
        times = alternating(runs, repeats)
        return times["bare"], times["plugged"]


def comparisons(regularizer: ConvexRegularizer, clean: Tensor, steps: int) -> list[Comparison]:
    """Gradient descent without and with its cost, the proximal operator, and the whole solver."""
    from deepinv.optim import GD, L2
    from deepinv.physics import BlurFFT
    from deepinv.physics.functional import gaussian_blur

    from convexreg import ConvexDenoiser, ConvexPrior, ConvexReconstructor

    size: Any = tuple(clean.shape[1:])
    physics = BlurFFT(size, filter=gaussian_blur(sigma=(1.6, 1.6)))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    y = physics.A(clean) + 0.03 * noise
    prior, fidelity = ConvexPrior(regularizer), L2()
    step = prior.stepsize(physics, y, g_param=SIGMA)

    def descend(cost: bool) -> None:
        costs = []
        with torch.no_grad():
            x = physics.A_adjoint(y)
            for _ in range(steps):
                data = physics.A_adjoint(physics.A(x) - y)
                x = x - step * (data + regularizer.grad(x, SIGMA))
                if cost:
                    costs.append(fidelity(x, y, physics) + regularizer.energy(x, SIGMA))

    def plugged(cost: bool) -> None:
        prior.explicit_prior = cost
        options = {"stepsize": step, "g_param": SIGMA, "max_iter": steps}
        GD(data_fidelity=fidelity, prior=prior, **options)(y, physics)

    def denoise() -> None:
        with torch.no_grad():
            proximal_problem(y, regularizer, SIGMA).minimise(y, tolerance=Tolerance(gtol=1e-5))

    denoiser = ConvexDenoiser(regularizer)
    model = ConvexReconstructor(regularizer, sigma=0.03, max_iter=20)
    return [
        Comparison("GD, gradients", lambda: descend(False), lambda: plugged(False)),
        Comparison("GD, gradients and cost", lambda: descend(True), lambda: plugged(True)),
        Comparison("ConvexDenoiser", denoise, lambda: denoiser(y, SIGMA)),
        Comparison(
            "ConvexReconstructor",
            lambda: reconstruct(y, physics, sigma=0.03, regularizer=regularizer, max_iter=20),
            lambda: model(y, physics),
        ),
    ]


IMPORTS = {
    "torch": "import torch",
    "torch and convexreg": "import torch, convexreg",
    "deepinv": "import deepinv",
    "convexreg.ConvexPrior": "from convexreg import ConvexPrior",
}


def import_seconds(repeats: int) -> dict[str, list[float]]:
    """Processor seconds of a fresh process with each import."""

    def seconds(statement: str) -> float:
        program = f"import time; {statement}; print(time.process_time())"
        command = [sys.executable, "-c", program]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    runs = {name: partial(seconds, statement) for name, statement in IMPORTS.items()}
    return alternating(runs, repeats)
