"""From measurements to a certified reconstruction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn

from convexreg.adaptive import AdaptiveRegularizer, rounds
from convexreg.models.files import DEFAULT_MODEL, regularizer_of
from convexreg.networks.base import converted
from convexreg.networks.colour import in_planes
from convexreg.reconstruction.arrangement import arranged
from convexreg.reconstruction.checks import (
    check_contradictions,
    check_measurements,
    check_operator,
    check_positive,
    check_request,
    check_solver,
    checked_start,
    warn_of_other_scales,
)
from convexreg.reconstruction.clock import Clock
from convexreg.reconstruction.colour_noise import ColourNoise, Planes
from convexreg.reconstruction.defaults import MAX_ITER, Accuracy
from convexreg.reconstruction.noise import (
    Noise,
    depends_on_the_image,
    estimated_photon_noise,
    measurement_noise,
)
from convexreg.reconstruction.noise_gain import noise_gain
from convexreg.reconstruction.problem import Problem, Regularization
from convexreg.reconstruction.regularization import as_regularization
from convexreg.reconstruction.result import Reconstruction
from convexreg.reconstruction.round import Rounds
from convexreg.reconstruction.start import is_identity, seen_pixels, starting_image
from convexreg.reconstruction.weight import WEIGHT_RULES, likelihood_scale
from convexreg.regularizer import Regularizer
from convexreg.solvers.box import Box
from convexreg.solvers.data_terms import DataTerm
from convexreg.solvers.deepinv_rules import data_term
from convexreg.solvers.objective import Objective
from convexreg.solvers.precision import without_autocast
from convexreg.solvers.progress import Progress
from convexreg.solvers.solver import Solver


@without_autocast
def reconstruct(
    y: Any,
    physics: Any,
    *,
    sigma: Any = None,
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

    :param y: measurements `(B, ...)`, floating point or complex, or a list of them (deepinv's `TensorList`),
        one for each part of a stacked physics.
    :param physics: a deepinv `LinearPhysics`, or any object with `A` and its exact `A_adjoint`. Its images
        are `(B, C, H, W)`: gray, colour (three channels), or any other number of channels (bands, real and
        imaginary part), which our regularizers see one by one; or complex; or volumes `(B, C, D, H, W)`,
        seen slice by slice (`reconstruction.arrangement`).
    :param sigma: standard deviation of the noise in `y`: one number, one per image, or one per measurement
        in the shape of `y`, which then weighs `|A x - y|^2` (`reconstruction.noise`); of a stacked physics
        one number, or a list of one for each part; of colour images that are denoised a `ColourNoise`. By
        default that of the physics' noise model, if it is Gaussian, Poisson or both. Of complex noise it is
        the root of `E |n|^2`.
    :param regularizer: the name of a shipped model (`mgradnet-m-colour-adaptive` by default), the path of a
        model file, a regularizer, a deepinv prior whose constants are known or that states them as
        `lipschitz` and `strong_convexity`, an object with `energy(x, sigma)`, one number per image `(B,)`,
        and its `grad(x, sigma)` in the shape of `x` (`sigma` is `(B,)`), or a `solvers.Objective`. An
        adaptive one solves a problem in every round, the first ones loosely (result `first`), the last one,
        convex given the one before, as asked for.
    :param fidelity: a deepinv data fidelity instead of `|A x - y|^2 / 2`, see `solvers.data_term`, or an
        `Objective` that takes its place. Of a `PoissonLikelihood` the noise level and the weight, relative to
        `1 / sigma^2`, are known by its gain; of `L1` and an `Objective` the weight has to be given.
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
    model = regularizer_of(regularizer)
    plan = arranged(physics, y, slices=isinstance(model, (Regularizer, AdaptiveRegularizer)))
    if plan is not None:
        sigma, x0 = plan.sigma(sigma, y), None if x0 is None else plan.planes(x0)
        y, physics, callback = plan.measurements(y), plan, plan.following(callback)
    check_measurements(y)
    planes = None
    if isinstance(sigma, ColourNoise):
        sigma.check(physics, y)
        model, planes = sigma.of_model(model), sigma.noise(y)
        x0 = starting_image(y, physics, sigma.level, identity=True) if x0 is None else x0
        y, physics, sigma = in_planes(y), Planes(), sigma.level
    y = y.contiguous()  # FFTs of old versions of PyTorch fail on expanded tensors
    back_projected = check_operator(physics, y)
    check_solver(solver)
    check_request(lam, anchor, accuracy, gap_tol)
    if isinstance(lam, str) and lam != "auto" and fidelity is not None:
        raise ValueError(
            f"the rule {lam!r} for the weight is of |A x - y|^2 / 2: give lam as a number"
        )
    data: Objective = (
        fidelity if isinstance(fidelity, Objective) else data_term(physics, y, fidelity)
    )
    if sigma is None and isinstance(data, DataTerm):
        sigma = data.noise_level()
    noise = measurement_noise(sigma, physics, y) if planes is None else planes
    check_contradictions(noise.level, y)
    if isinstance(model, nn.Module):
        model = converted(model, y.device, y.dtype)
    if not isinstance(model, AdaptiveRegularizer):
        model = as_regularization(model)
    if sigma is None and depends_on_the_image(physics, y):
        convex = model.first if isinstance(model, AdaptiveRegularizer) else model
        told = "auto" if isinstance(lam, str) else lam
        rough = partial(
            reconstruct, y, physics, regularizer=convex, lam=told, anchor=anchor, accuracy="fast"
        )
        noise = estimated_photon_noise(physics, y, noise, lambda levels: rough(sigma=levels).image)
    sigma = noise.level
    identity = planes is not None or is_identity(physics, back_projected)
    # differentiated in the measurements, as the minimiser depends on them through its anchor too
    centre = (
        starting_image(y, physics, sigma, image=back_projected, identity=identity)
        if x0 is None
        else checked_start(x0, y, physics)
    )
    if fidelity is None and isinstance(data, DataTerm):  # else the measurements may be counts
        warn_of_other_scales(centre, sigma, data)
        data = noise.weighted(data)
    else:
        noise = Noise(sigma)
    pixels = Box() if box is None else Box(*box)
    given = 1.0 if isinstance(lam, str) else lam
    weight, gain = check_positive("lam", given, y, allow_zero=True), None
    rule = WEIGHT_RULES.get(lam) if isinstance(lam, str) else None
    automatic = isinstance(lam, str) and lam == "auto"
    if automatic:
        weight = weight * likelihood_scale(data, sigma)
    if automatic and isinstance(model, (Regularizer, AdaptiveRegularizer)):
        gain = noise_gain(physics, centre.detach(), y.detach(), identity=identity)
        frozen = isinstance(model, Regularizer) and model.weighted_shape is not None
        weight = weight * gain.weight(adaptive=frozen or isinstance(model, AdaptiveRegularizer))
    clock = Clock(time_limit)
    way = Rounds(accuracy, gap_tol, gtol, anchor, solver, max_iter, clock, callback)

    def solve(convex: Regularization, there: Tensor, is_last: bool) -> Reconstruction:
        nonlocal weight, rule
        levels = None
        if automatic and isinstance(data, DataTerm):
            levels = data.noise_levels(there)
        here = noise if levels is None else Noise(sigma, levels)
        convex = here.adjusted(convex, there)
        problem = Problem(data, convex, sigma, weight, box=pixels).anchored(there, anchor)
        if rule is not None:
            weight, rule = rule(problem, there.detach()), None
            problem = problem.with_weight(weight)
            clock.restart()
        return way.solved(problem, there, last=is_last)

    seen = seen_pixels(physics, centre.detach()) if isinstance(model, AdaptiveRegularizer) else None
    result, *others = rounds(model, solve, centre, sigma, seen)
    for other in others:
        result = replace(other, first=result)
    result = replace(result, gain=gain, history=way.history)
    return result if plan is None else result.arranged(plan)
