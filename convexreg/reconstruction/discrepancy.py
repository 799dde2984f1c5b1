"""The weight of the regularizer from the noise level alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convexreg.models.files import DEFAULT_MODEL, regularizer_of
from convexreg.reconstruction.start import ANCHOR, starting_image
from convexreg.regularizer import ConvexRegularizer
from convexreg.solvers.data_terms import LeastSquares, Proximity
from convexreg.solvers.loop import minimise
from convexreg.solvers.objective import Sum, inner
from convexreg.solvers.physics_norms import OperatorBounds
from convexreg.solvers.quasi_newton import QuasiNewton

_SMALLEST, _BISECTIONS = 2.0**-6, 6


@torch.no_grad()
def discrepancy_weight(
    y: Tensor,
    physics: Any,
    *,
    sigma: Tensor | float,
    regularizer: ConvexRegularizer | str | Path = DEFAULT_MODEL,
) -> Tensor:
    """The largest weight `lam <= 1` whose reconstruction fits the measurements as the noise lets it:

        |A x_lam - y|^2 <= m sigma^2      (Morozov 1966)

    with `m` the number of measurements (zeros are taken for places without one). The misfit of minimisers
    grows with `lam` for every convex regularizer, so that bisection on a logarithmic scale finds it,
    between 1/64 and 1, to 7 %, but for what rough solves (to a gradient of 1e-4, with an anchor of 1e-3)
    leave open. Where no such weight fits it is 1/64. One is what denoising asks for; operators that lose
    more need less.

    :param y: measurements `(B, ...)`.
    :param sigma: standard deviation of the noise, a number or one per image.
    :return: `(B,)` in float64.
    """
    model = regularizer_of(regularizer, convex=True)
    batch = y.shape[0]
    level = torch.as_tensor(sigma, dtype=torch.float64, device=y.device).reshape(-1).expand(batch)
    start = starting_image(y, physics, sigma)
    data = LeastSquares(physics, y, OperatorBounds(float("inf")))
    allowed = (y != 0).flatten(1).sum(1) * level.square()
    low = torch.full((batch,), _SMALLEST, dtype=torch.float64, device=y.device)
    high = weight = torch.ones_like(low)
    x = start
    for _ in range(_BISECTIONS + 1):
        objective = Sum([data, model.term(level), Proximity(start)], [1.0, weight, ANCHOR])
        x = minimise(objective, x, QuasiNewton(), gtol=1e-4, max_iter=40).x
        misfit = physics.A(x) - y
        fits = inner(misfit, misfit) <= allowed
        low, high = torch.where(fits, weight, low), torch.where(fits, high, weight)
        if bool((low == high).all()):
            break
        weight = (low * high).sqrt()
    return low
