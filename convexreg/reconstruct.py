"""From measurements to a certified reconstruction."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from convexreg.discrepancy import discrepancy_weight
from convexreg.measurements import check_linear, check_measurements, check_positive
from convexreg.models import as_regularizer
from convexreg.regularizer import ConvexRegularizer
from convexreg.start import starting_image
from solvers.box import Box
from solvers.certificates import Certificate, certify
from solvers.data_terms import LeastSquares, Proximity
from solvers.fidelities import data_term
from solvers.loop import Progress, Solver, minimise
from solvers.objective import Objective, Sum
from solvers.physics_norms import OperatorBounds, operator_bounds
from solvers.quasi_newton import QuasiNewton
from solvers.solution import Solution, Status

DEFAULT_MODEL = "mgradnet-m"


@dataclass(frozen=True)
class Reconstruction:
    """A minimiser of `|A x - y|^2 / 2 + lam R(x; sigma) + anchor |x - x0|^2 / 2`, and what is proven.

    Per-image tensors have shape `(B,)`.

    :ivar image: `(B, C, H, W)`, in the dtype of the measurements.
    :ivar status: `solvers.Status` codes.
    :ivar certificate: evaluated in float64 at `image`: `gap` bounds how far the objective is above its
        minimum, `relative_gap` the same relative to the minimum, `distance` (with a strongly convex
        objective) the 2-norm to the minimiser. Infinite where nothing is proven.
    :ivar iterations, evaluations: steps and gradient evaluations.
    :ivar stationarity: rms of the gradient (of the projected gradient with a box).
    :ivar lam: the weight of the regularizer, `(B,)`.
    :ivar anchor: the weight of the anchor, zero where there is none.
    :ivar box: the bounds on the pixels.
    :ivar method: solver, and where its step size comes from.
    """

    image: Tensor
    status: Tensor
    certificate: Certificate
    iterations: Tensor
    evaluations: Tensor
    stationarity: Tensor
    lam: Tensor
    anchor: float
    box: Box
    method: str
    seconds: float

    @property
    def converged(self) -> bool:
        """Whether every image reached the tolerance."""
        return bool((self.status == Status.CONVERGED).all())

    def summary(self) -> str:
        """One line per image: status, certificate, iterations."""
        lines = []
        for index in range(len(self.status)):
            status = Status(int(self.status[index]))
            relative = float(self.certificate.relative_gap[index])
            proven = (
                f"certified relative gap {relative:.1e}"
                if relative < float("inf")
                else f"no certificate (gradient rms {float(self.stationarity[index]):.1e})"
            )
            lines.append(
                f"{status.name.lower().replace('_', ' ')} after {int(self.iterations[index])} "
                f"iterations: {proven}"
            )
        return "\n".join(lines)


def reconstruct(
    y: Tensor,
    physics: Any,
    *,
    sigma: Tensor | float,
    regularizer: ConvexRegularizer | str | Path | None = None,
    fidelity: Any = None,
    lam: Tensor | float | Literal["auto", "discrepancy"] = "auto",
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
        the shipped `mgradnet-m` by default.
    :param fidelity: a deepinv data fidelity instead of `|A x - y|^2 / 2`, see `solvers.data_term`. The
        weight has to be given then, since the noise level says nothing about it.
    :param lam: weight of the regularizer. `"auto"` is one, which is what the noise level asks for in
        denoising; `"discrepancy"` finds the weight whose misfit is that of the noise, at the price of
        several rough solves (`convexreg.discrepancy`).
    :param anchor: weight of the squared distance to the starting image. It makes the problem strongly
        convex, so that the minimiser is unique and has a certificate. `"auto"`: zero where the data
        term does so already (denoising) or a box is given, else 1e-3, which changes a PSNR by
        hundredths of a decibel.
    :param box: bounds on the pixels; bounded ones make a (pessimistic) certificate possible as well.
    :param gap_tol: certified relative gap to reach; 1e-4 by default for denoising, else 1e-2. With
        neither strong convexity nor a box there is no certificate, and the default is `gtol = 1e-5`.
    :param gtol: stop at this rms of the gradient instead, or as well.
    :param solver: `QuasiNewton()` by default; FISTA and gradient descent are there as references.
    :param x0: starting image `(B, C, H, W)`, and the anchor; see `convexreg.start` for
        the default.
    :param callback: called after every iteration, see `solvers.minimise`.
    :raises ValueError: measurements, physics or parameters that make no sense; the message says why.
    :raises solvers.SolverError: the solve failed.
    """
    check_measurements(y)
    sigma = check_positive("sigma", sigma, y, allow_zero=False)
    chosen_model = as_regularizer(DEFAULT_MODEL if regularizer is None else regularizer)
    model = copy.deepcopy(chosen_model).to(y.device, y.dtype)
    if isinstance(lam, str) and (fidelity is not None or lam not in ("auto", "discrepancy")):
        raise ValueError(
            f'lam must be a number, "auto" or "discrepancy", and a number for another fidelity than '
            f"|A x - y|^2 / 2; got {lam!r}"
        )
    given = 1.0 if isinstance(lam, str) else lam
    weight = check_positive("lam", given, y, allow_zero=True)
    with torch.no_grad():
        start = _start(y, physics, sigma) if x0 is None else x0.to(y)
        bounds = operator_bounds(physics, start)
        if bool((torch.as_tensor(bounds.largest) == float("inf")).any()):
            check_linear(physics, start)
        if lam == "discrepancy":
            weight = discrepancy_weight(y, physics, sigma=sigma, regularizer=model)
        chosen = Box() if box is None else Box(*box)
        problem = _Problem(model, fidelity, sigma, weight, 0.0)
        data = problem.data(y, physics, bounds)
        strongly_convex = bool((data.strong_convexity(start) > 0).all())
        if anchor == "auto":
            anchor = 0.0 if strongly_convex or chosen.bounded else 1e-3
        problem = replace(problem, anchor=anchor)
        objective = problem.objective(y, physics, bounds, start)
        if gap_tol is None and gtol is None:
            if strongly_convex:
                gap_tol = 1e-4
            elif anchor > 0 or chosen.bounded:
                gap_tol = 1e-2
            else:
                gtol = 1e-5
        method = solver or QuasiNewton()
        solution = minimise(
            objective,
            start,
            method,
            box=chosen,
            gap_tol=gap_tol,
            gtol=gtol,
            max_iter=max_iter,
            time_limit=time_limit,
            callback=callback,
        )
        certificate = _certify_in_float64(problem, y, physics, start, solution, chosen)
    return Reconstruction(
        image=solution.x,
        status=solution.status,
        certificate=certificate,
        iterations=solution.iterations,
        evaluations=solution.evaluations,
        stationarity=solution.stationarity,
        lam=weight,
        anchor=anchor,
        box=chosen,
        method=_describe(method, bounds),
        seconds=solution.seconds,
    )


def _start(y: Tensor, physics: Any, sigma: Tensor) -> Tensor:
    try:
        return starting_image(y, physics, sigma)
    except RuntimeError as error:
        raise ValueError(
            f"the physics cannot be applied to measurements of shape {tuple(y.shape)} and {y.dtype}; its "
            f"filters and masks must fit them and have the same dtype ({error})"
        ) from error


@dataclass(frozen=True)
class _Problem:
    """What is minimised, apart from the data."""

    model: ConvexRegularizer
    fidelity: Any
    sigma: Tensor
    weight: Tensor
    anchor: float

    def data(self, y: Tensor, physics: Any, bounds: OperatorBounds) -> Objective:
        """The data term."""
        if self.fidelity is None:
            return LeastSquares(physics, y, bounds)
        return data_term(self.fidelity, physics, y, bounds)

    def objective(
        self, y: Tensor, physics: Any, bounds: OperatorBounds, start: Tensor
    ) -> Objective:
        """The sum of data term, regularizer and anchor; a negative anchor is refused by the sum."""
        terms = [self.data(y, physics, bounds), self.model.term(self.sigma)]
        coefficients: list[Tensor | float] = [1.0, self.weight]
        if self.anchor:
            terms.append(Proximity(start))
            coefficients.append(self.anchor)
        return Sum(terms, coefficients)


def _certify_in_float64(
    problem: _Problem, y: Tensor, physics: Any, start: Tensor, solution: Solution, box: Box
) -> Certificate:
    """The certificate of the solution, free of the rounding of a float32 solve where possible."""
    if y.dtype == torch.float64:
        return solution.certificate
    x = solution.x.double()
    duplicate = copy.deepcopy(physics)
    # .to(torch.float64) would corrupt deepinv's complex buffers
    exact: Any = duplicate.double() if isinstance(duplicate, torch.nn.Module) else duplicate
    try:
        there = exact.A(x)
    except (RuntimeError, TypeError):
        return solution.certificate  # an operator that cannot compute in float64
    if (there - physics.A(solution.x)).abs().max() > 1e-4 * there.abs().max():
        return solution.certificate  # the conversion changed the operator
    bounds = operator_bounds(exact, x)
    exact_problem = replace(problem, model=copy.deepcopy(problem.model).double())
    return certify(exact_problem.objective(y.double(), exact, bounds, start.double()), x, box)


def _describe(solver: Solver[Any], bounds: OperatorBounds) -> str:
    name = type(solver).__name__
    if isinstance(solver, QuasiNewton):
        return f"{name} (line search; needs no bound on |A|)"
    if getattr(solver, "backtracking", None) is not None:
        return f"{name} with backtracking"
    source = f"|A|^2 <= {float(torch.as_tensor(bounds.largest).max()):.4g}, {bounds.proof}"
    return f"{name} with the proven step 1/L ({source})"
