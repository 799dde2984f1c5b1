"""Reconstruction methods under test.

A method of your own takes ten lines in a file given by `--load FILE.py`:

    from benchmarks.methods.table import METHODS, Method
    from scipy.ndimage import median_filter
    import torch

    def median(measurement, weight):
        return torch.from_numpy(median_filter(measurement.y.numpy(), (1, 1, 3, 3)))

    METHODS["median"] = Method("3 x 3 median", median, families=("denoising",))

A function that returns a tensor has done a fixed amount of work (outcome `finished`); return a
`Result` to say more. With `weight=1.0` in the row the weight is tuned from there on the tuning images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from benchmarks.harness.options import Options
from benchmarks.harness.outcome import outcome_of
from benchmarks.harness.registry import selected
from benchmarks.methods import (
    block_matching,
    total_generalized_variation,
    total_variation,
    wavelets,
)
from benchmarks.methods.models import NamedModel, Unavailable, models
from benchmarks.methods.result import Result
from benchmarks.problems.table import Measurement
from convexreg.adaptive import FIRST_ROUND_GAP, FIRST_ROUND_GRADIENT, AdaptiveRegularizer
from convexreg.regularizer import Regularizer
from convexreg.solvers import QuasiNewton, Solution, Sum, minimise

FAMILIES = ("denoising", "deblurring", "physics")
# Certified relative gap where the objective is strongly convex (denoising). Elsewhere nothing is
# certified without a box, and the rms of the gradient decides; both leave the PSNR unchanged to 0.01 dB.
GAP_TOLERANCE, GRADIENT_TOLERANCE, MAX_ITERATIONS = 1e-4, 1e-5, 500


@dataclass(frozen=True)
class Method:
    """A row of the table.

    :ivar reconstruct: `(measurement, weight)` to an image or a `Result`; raises
        `Unavailable` when it cannot be tried here.
    :ivar weight: where the tuning of the weight starts, in units in which one is a fair guess; `None`
        when there is nothing to tune.
    :ivar tuned: the families in which the weight is tuned; elsewhere it is one.
    """

    description: str
    reconstruct: Callable[[Measurement, float], Tensor | Result]
    weight: float | None = None
    families: tuple[str, ...] = FAMILIES
    tuned: tuple[str, ...] = FAMILIES


METHODS: dict[str, Method] = {
    "measurements": Method(
        "the data in the shape of the image", lambda measurement, weight: measurement.naive
    ),
    "TV": Method("isotropic total variation, to high accuracy", total_variation.reconstruct, 1.0),
    "TGV": Method(
        "second-order total generalized variation (deepinv)",
        total_generalized_variation.reconstruct,
        1.0,
        ("denoising",),
    ),
    "wavelets": Method(
        "l1 norm of orthonormal wavelet coefficients, deepinv's FISTA", wavelets.reconstruct, 1.0
    ),
    "BM3D": Method(
        "block matching, package bm3d (no regularizer)",
        block_matching.reconstruct,
        families=("denoising",),
    ),
}


def methods(options: Options, family: str) -> dict[str, Method]:
    """Classical methods and one method per model, those of the family and those asked for.

    :raises ValueError: a name asked for is not a method's.
    """
    table = dict(METHODS)
    for model in models(options):
        table[model.name] = Method(
            f"learned convex regularizer, {model.description}",
            partial(_variational, model, options.time_limit),
            1.0,
            tuned=FAMILIES if model.tune_denoising else FAMILIES[1:],
        )
    table = {name: row for name, row in table.items() if family in row.families}
    return selected(table, options.methods, "method", f" for {family}")


def _variational(
    model: NamedModel, time_limit: float, measurement: Measurement, weight: float
) -> Result:
    """The minimiser of `|A x - y|^2 / 2 + weight R(x; sigma)`, certified where it can be.

    Adaptive regularizers take a rough first round; evaluations are those of both rounds.
    """
    regularizer = model.load().to(measurement.y.device)
    levels = regularizer.sigma_range
    if levels is not None and measurement.sigma > levels[1]:
        raise Unavailable(f"trained for noise levels up to {255 * levels[1]:.3g}/255")
    start, before = measurement.start, 0.0
    if isinstance(regularizer, AdaptiveRegularizer):
        tolerances = (FIRST_ROUND_GAP, FIRST_ROUND_GRADIENT)
        first = _minimiser(measurement, regularizer.first, weight, start, tolerances, time_limit)
        start, before = first.x, float(first.evaluations)
        regularizer = regularizer.given(start, measurement.sigma)
    tolerances = (GAP_TOLERANCE, GRADIENT_TOLERANCE)
    solution = _minimiser(measurement, regularizer, weight, start, tolerances, time_limit)
    return Result(
        solution.x,
        outcome_of(int(solution.status)),
        evaluations=before + float(solution.evaluations),
        certified=float(solution.certificate.relative_gap),
    )


def _minimiser(
    measurement: Measurement,
    regularizer: Regularizer,
    weight: float,
    start: Tensor,
    tolerances: tuple[float, float],
    time_limit: float,
) -> Solution:
    """To a certified relative gap where there can be one, else to an rms of the gradient."""
    terms = [measurement.data_term(), regularizer.term(measurement.sigma)]
    objective = Sum(terms, [1.0, weight])
    certified = bool((objective.strong_convexity(start) > 0).all())
    return minimise(
        objective,
        start,
        QuasiNewton(),
        gap_tol=tolerances[0] if certified else None,
        gtol=None if certified else tolerances[1],
        max_iter=MAX_ITERATIONS,
        time_limit=time_limit,
        throw=False,
    )
