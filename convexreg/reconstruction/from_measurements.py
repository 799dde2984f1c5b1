"""From measurements to a certified reconstruction."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from convexreg.adaptive import AdaptiveRegularizer, rounds
from convexreg.models.files import DEFAULT_MODEL, regularizer_of
from convexreg.networks.base import converted
from convexreg.reconstruction import planes
from convexreg.reconstruction.checks import (
    check_contradictions,
    check_measurements,
    check_operator,
    check_positive,
    check_solver,
    checked_start,
    warn_of_other_scales,
)
from convexreg.reconstruction.defaults import (
    ACCURACIES,
    FIRST_ROUND,
    GOOD_ANCHOR,
    GOOD_START,
    MAX_ITER,
    Accuracy,
    Tolerance,
)
from convexreg.reconstruction.noise import (
    Noise,
    depends_on_the_image,
    measurement_noise,
    photon_noise,
)
from convexreg.reconstruction.noise_gain import noise_gain
from convexreg.reconstruction.problem import Problem, Regularization
from convexreg.reconstruction.regularization import as_regularization
from convexreg.reconstruction.result import Reconstruction
from convexreg.reconstruction.start import starting_image
from convexreg.reconstruction.weight import WEIGHT_RULES
from convexreg.regularizer import Regularizer
from convexreg.solvers.box import Box
from convexreg.solvers.data_terms import DataTerm
from convexreg.solvers.deepinv_rules import data_term
from convexreg.solvers.history import History
from convexreg.solvers.loop import Progress, Solver
from convexreg.solvers.objective import Objective
from convexreg.solvers.precision import without_autocast
from convexreg.solvers.solution import Solution

_ESTIMATES = 2
"""Rough reconstructions that say how strong noise is that depends on the image: what one leaves of it where
the image is bright shows in its variances."""


@without_autocast
def reconstruct(
    y: Tensor,
    physics: Any,
    *,
    sigma: Tensor | float | None = None,
    regularizer: Any = DEFAULT_MODEL,
    fidelity: Any = None,
    lam: Tensor | float | Literal["auto", "discrepancy", "sure"] = "auto",
    anchor: float | Literal["auto"] = "auto",
    box: tuple[float, float] | None = None,
    accuracy: Accuracy = "default",
    gap_tol: float | None = None,
    gtol: float | None = None,
    max_iter: int = MAX_ITER,
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
    :param sigma: standard deviation of the noise in `y`: one number, one per image, or one per measurement
        in the shape of `y`, which then weighs `|A x - y|^2` (`reconstruction.noise`). By default that of the
        physics' noise model, if it is Gaussian, Poisson or both.
    :param regularizer: the name of a shipped model (`mgradnet-m-colour-adaptive` by default), the path of a
        model file, a regularizer, a deepinv prior whose constants are known or that states them as
        `lipschitz` and `strong_convexity`, an object with `energy(x, sigma)`, one number per image `(B,)`,
        and its `grad(x, sigma)` in the shape of `x` (`sigma` is `(B,)`), or a `solvers.Objective`. An
        adaptive one solves a problem in every round, the first ones loosely (result `first`), the last one,
        convex given the one before, as asked for.
    :param fidelity: a deepinv data fidelity instead of `|A x - y|^2 / 2`, see `solvers.data_term`, or an
        `Objective` that takes its place. The weight has to be given then, since the noise level says
        nothing about it.
    :param lam: weight of the regularizer. `"auto"` is one for denoising and for regularizers that are not
        ours, else what the noise asks for as it passes the operator (`reconstruction.noise_gain`, result
        `gain`). At the price of several rough solves `"discrepancy"` finds the weight whose misfit is
        that of the noise, and `"sure"` the one with the least estimated risk of predicting the
        measurements (`reconstruction.weight`); with an adaptive regularizer both look at its first round.
    :param anchor: weight of the squared distance to the starting image `x0`. It makes the problem strongly
        convex, so that the minimiser is unique and has a certificate, and solvers converge well.
        `"auto"`: zero where the data term does so already (denoising); else 0.03, about a first solution
        instead, a good one with an anchor of 1e-3 at the starting image. Both change a PSNR by hundredths of
        a decibel, and certificates are as much tighter as the anchor is stronger.
    :param box: bounds on the pixels, two numbers, `math.inf` where there is none; bounded ones make a
        (pessimistic) certificate possible without an anchor.
    :param accuracy: `"default"` reaches a certified relative gap of 1e-3 in denoising, else of 1e-2, where
        the picture no longer changes; `"fast"` ten times that, `"exact"` a tenth. With neither strong
        convexity nor a box there is no certificate, and 1e-5, 1e-4 or 1e-6 is the rms of the gradient.
    :param gap_tol: certified relative gap to reach instead.
    :param gtol: stop at this rms of the gradient instead, or as well.
    :param max_iter: iterations, of an adaptive regularizer in each of its rounds.
    :param time_limit: seconds after which no further iteration is begun. What comes before and after the
        iterations (a starting image, a rule for `lam`, the final certificate) is not counted.
    :param solver: `QuasiNewton()` by default; FISTA and gradient descent are there as references.
    :param x0: starting image `(B, C, H, W)`, and the anchor; see `reconstruction.start` for the default.
    :param callback: called after every iteration, see `solvers.minimise`.
    :return: the result; its image carries no derivative, see `Problem.differentiable`.
    :raises ValueError: measurements, physics or parameters that make no sense; the message says why.
    :raises TypeError: an argument that is not what it has to be at all.
    :raises solvers.SolverError: the solve failed.
    """
    check_measurements(y)
    y = y.contiguous()  # FFTs of old versions of PyTorch fail on expanded tensors
    check_operator(physics, y)
    check_solver(solver)
    noise = measurement_noise(sigma, physics, y)
    check_contradictions(noise.level, y)
    if isinstance(lam, str) and fidelity is not None:
        raise ValueError(
            "another fidelity than |A x - y|^2 / 2 needs lam as a number: the noise level says nothing of it"
        )
    if isinstance(lam, str) and lam not in ("auto", *WEIGHT_RULES):
        raise ValueError(f'lam must be a number, "auto", "discrepancy" or "sure"; got {lam!r}')
    if accuracy != "default" and gap_tol is not None:
        raise ValueError(
            f"accuracy={accuracy!r} and gap_tol={gap_tol!r} both say when to stop; give one of them"
        )
    if accuracy not in ACCURACIES:
        raise ValueError(
            f'accuracy must be "fast", "default" or "exact", gap_tol takes a number; got {accuracy!r}'
        )
    if anchor != "auto" and (isinstance(anchor, str) or not 0 <= anchor < math.inf):
        raise ValueError(f'anchor must be a finite number, zero or more, or "auto"; got {anchor!r}')
    rule = WEIGHT_RULES.get(lam) if isinstance(lam, str) else None
    weight = check_positive("lam", 1.0 if isinstance(lam, str) else lam, y, allow_zero=True)
    model = regularizer_of(regularizer)
    if isinstance(model, nn.Module):
        model = converted(model, y.device, y.dtype)
    if not isinstance(model, AdaptiveRegularizer):
        model = as_regularization(model)
    last = replace(ACCURACIES[accuracy], gap_tol=gap_tol, gtol=gtol)
    if sigma is None and fidelity is None and depends_on_the_image(physics, y):
        convex = model.first if isinstance(model, AdaptiveRegularizer) else model
        for _ in range(_ESTIMATES):
            told = noise.level if noise.levels is None else noise.levels
            rough = reconstruct(
                y,
                physics,
                sigma=told,
                regularizer=convex,
                lam=weight,
                anchor=anchor,
                accuracy="fast",
            )
            noise = photon_noise(physics, rough.image, y)
    sigma = noise.level
    # differentiated in the measurements, as the minimiser depends on them through its anchor too
    centre = starting_image(y, physics, sigma) if x0 is None else checked_start(x0, y, physics)
    data: Objective = (
        fidelity if isinstance(fidelity, Objective) else data_term(physics, y, fidelity)
    )
    if fidelity is None and isinstance(data, DataTerm):  # else the measurements may be counts
        warn_of_other_scales(centre, sigma, data)
        data = noise.weighted(data)
    else:
        noise = Noise(sigma)
    pixels = Box() if box is None else Box(*box)
    began, history = time.perf_counter(), History()

    def solve(convex: Regularization, there: Tensor, is_last: bool) -> Reconstruction:
        nonlocal weight, rule, began
        convex = noise.adjusted(convex, there)
        problem = Problem(data, convex, sigma, weight, box=pixels).anchored(there, anchor)
        if rule is not None:
            weight, rule = rule(problem, there.detach()), None
            problem, began = problem.with_weight(weight), time.perf_counter()

        def left() -> float | None:
            return None if time_limit is None else max(time_limit - time.perf_counter() + began, 0)

        spent = None
        if is_last and anchor == "auto" and problem.anchor > 0 and max_iter > 1:
            spent = problem.minimise(
                there.detach(),
                tolerance=GOOD_START[accuracy],
                solver=solver,
                max_iter=max_iter - 1,
                time_limit=left(),
                callback=history.before(_to_be_continued(callback)),
            )
            there = _differentiated(problem, spent.x)
            problem = problem.anchored(there, GOOD_ANCHOR)
        result = _solve(
            problem,
            there.detach(),
            last if is_last else FIRST_ROUND,
            solver or problem.solver(there),
            in_float64=is_last,
            max_iter=max_iter if spent is None else max_iter - int(spent.iterations.max()),
            time_limit=left(),
            callback=history.before(callback if spent is None else _continued(callback, spent)),
        )
        return result if spent is None else result.including(spent)

    gain = None
    ours = isinstance(model, (Regularizer, AdaptiveRegularizer))
    if isinstance(lam, str) and lam == "auto" and ours:
        gain = noise_gain(physics, centre.detach(), y.detach())
        frozen = isinstance(model, Regularizer) and model.weighted_shape is not None
        weight = gain.weight(adaptive=frozen or isinstance(model, AdaptiveRegularizer))
    result, *others = rounds(model, solve, centre, sigma)
    for other in others:
        result = replace(other, first=result)
    return replace(result, gain=gain, history=history)


@torch.no_grad()
def _solve(
    problem: Problem,
    start: Tensor,
    tolerance: Tolerance,
    solver: Solver[Any],
    *,
    in_float64: bool,
    **limits: Any,
) -> Reconstruction:
    """One convex problem from `start`, certified."""
    gap_tol, gtol = problem.tolerances(tolerance, start)
    # A margin, so that rounding of the solve does not decide about the certificate; what is not
    # positive is passed on as it is, to be refused.
    margin = None if gap_tol is None else min(gap_tol, 0.99 * gap_tol)
    tolerance = replace(tolerance, gap_tol=margin, gtol=gtol)
    solution, remark = planes.minimise(
        problem, start, in_float64=in_float64, tolerance=tolerance, solver=solver, **limits
    )
    method = _method(solver, problem)
    return Reconstruction.of(problem, solution, gap_tol, gtol, method, remark)


def _differentiated(problem: Problem, x: Tensor) -> Tensor:
    """The solution `x` as a function of what is being differentiated, where it is one."""
    if not torch.is_grad_enabled() or not problem.inputs or not problem.box.everything:
        return x
    return problem.differentiable(problem.refined(x))


def _to_be_continued(
    callback: Callable[[Progress], None] | None,
) -> Callable[[Progress], None] | None:
    """The callback of a solve at whose end all images go on in another one."""
    if callback is None:
        return None

    def follow(progress: Progress) -> None:
        ended = not bool(progress.active.any())
        callback(replace(progress, active=progress.active | ended))

    return follow


def _continued(
    callback: Callable[[Progress], None] | None, spent: Solution
) -> Callable[[Progress], None] | None:
    """The callback of a solve that goes on where another one has stopped."""
    if callback is None:
        return None

    def follow(progress: Progress) -> None:
        callback(
            replace(
                progress,
                iteration=progress.iteration + int(spent.iterations.max()),
                evaluations=progress.evaluations + spent.evaluations,
                seconds=progress.seconds + spent.seconds,
            )
        )

    return follow


def _method(solver: Solver[Any], problem: Problem) -> str:
    """The solver, and where its step size comes from."""
    if isinstance(problem.data, DataTerm) and "1/L" in solver.description:
        bounds = problem.data.bounds
        largest = float(torch.as_tensor(bounds.largest, device="cpu").max())
        return f"{solver.description} (|A|^2 <= {largest:.4g}, {bounds.proof})"
    return solver.description
