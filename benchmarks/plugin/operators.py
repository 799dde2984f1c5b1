"""Gradient descent with the regularizer on every forward operator of deepinv's own tests."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from convexreg.regularizer import ConvexRegularizer
from convexreg.solvers import operator_bounds

SIGMA = 0.1
_MARGIN = 1.02
"""On deepinv's power iteration, which comes from below: to judge by, never to reconstruct with."""


@dataclass(frozen=True)
class Descent:
    """What happened on one operator.

    :ivar proven: whether its norm has a proven bound.
    :ivar monotone: whether no step increased the objective, to rounding.
    :ivar decrease: relative decrease of the objective.
    """

    operator: str
    proven: bool
    monotone: bool
    decrease: float


def operators() -> Iterator[tuple[str, Any, tuple[int, ...]]]:
    """Name, physics and image size of every linear operator on real 2-D images that builds here.

    Those of three-dimensional images, with complex images, or with packages that are not installed
    are left out.
    """
    from _pytest.outcomes import Skipped
    from deepinv.tests.test_physics import OPERATORS, find_operator

    for name in OPERATORS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # deepinv's own
                physics, size, _, dtype = find_operator(name, torch.device("cpu"))
        except Skipped:
            continue
        if len(size) == 3 and not dtype.is_complex:
            yield name, physics, tuple(size)


def descend(
    regularizer: ConvexRegularizer, name: str, physics: Any, size: tuple[int, ...], steps: int = 20
) -> Descent:
    """deepinv's `GD` with step `1 / (|A|^2 + L)` from the back-projection of noisy measurements."""
    from deepinv.optim import GD, L2, StackedPhysicsDataFidelity
    from deepinv.utils import TensorList

    from convexreg import ConvexPrior

    generator = torch.Generator().manual_seed(0)
    x = torch.rand((1, *size), generator=generator)
    colour_or_gray = size[0] in (1, 3)
    prior = ConvexPrior(regularizer, per_channel=not colour_or_gray)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deepinv's own
        bound = float(torch.as_tensor(operator_bounds(physics, x).largest).max())
        proven = bound < float("inf")
        square = bound if proven else _MARGIN * float(physics.compute_sqnorm(x, verbose=False))
        slope = float(prior.lipschitz((size[1], size[2]), SIGMA))
        y = physics.A(x)
        parts = len(y) if isinstance(y, TensorList) else 1
        model = GD(
            data_fidelity=L2() if parts == 1 else StackedPhysicsDataFidelity([L2()] * parts),
            prior=prior,
            stepsize=1 / (square + slope),
            g_param=SIGMA,
            max_iter=steps,
        )
        _, metrics = model(y, physics, compute_metrics=True)
    costs = metrics["cost"][0]
    rounding = 1e-6 * costs[0]
    monotone = all(b <= a + rounding for a, b in pairwise(costs))
    return Descent(name, proven, monotone, 1 - costs[-1] / costs[0])
