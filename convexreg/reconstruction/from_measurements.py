"""From measurements to a certified reconstruction."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from convexreg.adaptive import AdaptiveRegularizer
from convexreg.models.config import AnyRegularizer
from convexreg.models.files import DEFAULT_MODEL, regularizer_of
from convexreg.reconstruction.checks import (
    check_arguments,
    check_linear,
    check_measurements,
    check_positive,
    checked_start,
)
from convexreg.reconstruction.discrepancy import discrepancy_weight
from convexreg.reconstruction.problem import (
    LOOSE,
    Problem,
    Reconstruction,
    Settings,
    Tolerance,
    solve,
)
from convexreg.reconstruction.start import starting_image
from convexreg.reconstruction.weight import sure_weight
from convexreg.solvers.box import Box
from convexreg.solvers.loop import Progress, Solver
from convexreg.solvers.physics_norms import operator_bounds
from convexreg.solvers.quasi_newton import QuasiNewton

# Of the regularizer for blurs: tuning for three kernels, two noise levels and three models chose 0.13 to
# 0.32 (`benchmarks/results/deblurring`).
BLUR_WEIGHT = 0.25
_WEIGHT_RULES = {"discrepancy": discrepancy_weight, "sure": sure_weight}

__all__ = ["BLUR_WEIGHT", "Reconstruction", "reconstruct"]


def reconstruct(
    y: Tensor,
    physics: Any,
    *,
    sigma: Tensor | float,
    regularizer: AnyRegularizer | str | Path | None = None,
    fidelity: Any = None,
    lam: Tensor | float | Literal["auto", "discrepancy", "sure"] = "auto",
    anchor: float | Literal["auto"] = "auto",
    box: tuple[float, float] | None = None,
    gap_tol: float | None = None,
    gtol: float | None = None,
    max_iter: int = 1000,
    time_limit: float | None = None,
    solver: Solver[Any] | None = None,
    x0: Tensor | None = None,
    callback: Callable[[Progress], None] | None = None,
) -> Reconstruction:
    """Reconstruct images from linear measurements `y = A x + noise`.

    Minimises `|A x - y|^2 / 2 + lam R(x; sigma) + anchor |x - x0|^2 / 2`, a convex problem, and says
    how far the result can be from its minimum.

    :param y: measurements `(B, ...)`, floating point.
    :param physics: a deepinv `LinearPhysics`, or any object with `A` and its exact `A_adjoint`.
    :param sigma: standard deviation of the noise in `y`, one number or one per image.
    :param regularizer: a regularizer, the name of a shipped model or the path of a model file;
        the shipped `mgradnet-m` by default. An adaptive one solves two problems, the first one loosely
        (result `first`), the second one, convex given the first, as asked for.
    :param fidelity: a deepinv data fidelity instead of `|A x - y|^2 / 2`, see `solvers.data_term`. The
        weight has to be given then, since the noise level says nothing about it.
    :param lam: weight of the regularizer. `"auto"` is one, which is what the noise level asks for in
        denoising. At the price of several rough solves `"discrepancy"` finds the weight whose misfit is
        that of the noise (`reconstruction.discrepancy`), and `"sure"` the one with the least estimated risk
        of predicting the measurements (`reconstruction.weight`); with an adaptive regularizer both look at
        its first round.
    :param anchor: weight of the squared distance to the starting image. It makes the problem strongly
        convex, so that the minimiser is unique and has a certificate, and solvers converge well.
        `"auto"`: zero where the data term does so already (denoising), else 1e-3, which changes a PSNR
        by hundredths of a decibel.
    :param box: bounds on the pixels, two numbers, `math.inf` where there is none; bounded ones make a
        (pessimistic) certificate possible without an anchor.
    :param gap_tol: certified relative gap to reach; 1e-4 by default for denoising, else 1e-2. With
        neither strong convexity nor a box there is no certificate, and the default is `gtol = 1e-5`.
    :param gtol: stop at this rms of the gradient instead, or as well.
    :param max_iter: iterations, of an adaptive regularizer in each of its rounds.
    :param time_limit: seconds after which no further iteration is begun. What comes before and after the
        iterations (a starting image, a rule for `lam`, the final certificate) is not counted.
    :param solver: `QuasiNewton()` by default; FISTA and gradient descent are there as references.
    :param x0: starting image `(B, C, H, W)`, and the anchor; see `convexreg.reconstruction.start` for
        the default.
    :param callback: called after every iteration, see `solvers.minimise`.
    :raises ValueError: measurements, physics or parameters that make no sense; the message says why.
    :raises solvers.SolverError: the solve failed.
    """
    check_measurements(y)
    sigma = check_positive("sigma", sigma, y, allow_zero=False)
    check_arguments(physics, solver)
    if isinstance(lam, str) and fidelity is not None:
        raise ValueError(
            f"another fidelity than |A x - y|^2 / 2 needs lam as a number; got {lam!r}"
        )
    if isinstance(lam, str) and lam not in ("auto", *_WEIGHT_RULES):
        raise ValueError(f'lam must be a number, "auto", "discrepancy" or "sure"; got {lam!r}')
    if anchor != "auto" and (isinstance(anchor, str) or not 0 <= anchor < math.inf):
        raise ValueError(f'anchor must be a finite number, zero or more, or "auto"; got {anchor!r}')
    given = 1.0 if isinstance(lam, str) else lam
    weight = check_positive("lam", given, y, allow_zero=True)
    chosen = regularizer_of(DEFAULT_MODEL if regularizer is None else regularizer)
    with torch.inference_mode(False):  # a rule for lam may differentiate it
        model = copy.deepcopy(chosen).to(y.device, y.dtype)
    with torch.no_grad():
        start = _start(y, physics, sigma) if x0 is None else checked_start(x0, y, physics)
        if fidelity is None:  # else the measurements may be counts
            _warn_of_other_scales(start, sigma)
        bounds = operator_bounds(physics, start)
        if bool((torch.as_tensor(bounds.largest) == float("inf")).any()):
            check_linear(physics, start)
        adaptive = isinstance(model, AdaptiveRegularizer)
        convex = model.first if adaptive else model
        if isinstance(lam, str) and lam != "auto":
            weight = _WEIGHT_RULES[lam](y, physics, sigma=sigma, regularizer=convex)
        problem = Problem(
            y, physics, bounds, convex, fidelity, sigma, weight, Box() if box is None else Box(*box)
        )
        settings = Settings(solver or QuasiNewton(), max_iter, time_limit, callback)
        if not adaptive:
            return solve(problem, start, anchor, settings, Tolerance(gap_tol, gtol))
        began = time.perf_counter()
        first = solve(problem, start, anchor, settings, LOOSE)
        problem = replace(problem, model=model.given(first.image, sigma))
        if time_limit is not None:
            left = time_limit - (time.perf_counter() - began)
            settings = replace(settings, time_limit=max(left, 0.0))
        second = solve(problem, first.image, anchor, settings, Tolerance(gap_tol, gtol))
        return replace(second, first=first)


def _warn_of_other_scales(start: Tensor, sigma: Tensor) -> None:
    """Images in [0, 1] exceed that by noise only; those in [0, 255] by far."""
    peak = float(start.abs().max())
    if peak > 2 + 10 * float(sigma.max()):
        warnings.warn(
            f"the images seem to reach {peak:.4g}, but models know those in [0, 1]: divide the measurements "
            "and sigma by what stands for white (255), or the operator by its norm",
            stacklevel=3,
        )


def _start(y: Tensor, physics: Any, sigma: Tensor) -> Tensor:
    try:
        return starting_image(y, physics, sigma)
    except RuntimeError as error:
        raise ValueError(
            f"the physics cannot be applied to measurements of shape {tuple(y.shape)} and {y.dtype}; its "
            f"filters and masks must fit them and have the same dtype ({error})"
        ) from error
