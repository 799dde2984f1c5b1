"""From measurements to a certified reconstruction."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from convexreg.models import load_pretrained
from convexreg.regularizer import ConvexRegularizer
from convexreg.start import starting_image
from solvers.box import Box
from solvers.certificates import Certificate, certify
from solvers.data_terms import LeastSquares, Proximity
from solvers.fidelities import data_term
from solvers.loop import Progress, Solver, minimise
from solvers.objective import Objective, Sum, inner
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
    lam: Tensor | float | Literal["auto"] = "auto",
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
    :param lam: weight of the regularizer; `"auto"` is one, which is what the noise level asks for.
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
    _check_measurements(y)
    sigma = _check_positive("sigma", sigma, y, allow_zero=False)
    if not isinstance(regularizer, ConvexRegularizer):
        regularizer = load_pretrained(regularizer or DEFAULT_MODEL)
    model = copy.deepcopy(regularizer).to(y.device, y.dtype)
    if lam == "auto" and fidelity is not None:
        raise ValueError("give lam: it cannot be known for another fidelity than |A x - y|^2 / 2")
    weight = _check_positive("lam", 1.0 if lam == "auto" else lam, y, allow_zero=True)
    with torch.no_grad():
        start = _start(y, physics, sigma) if x0 is None else x0.to(y)
        bounds = operator_bounds(physics, start)
        if bool((torch.as_tensor(bounds.largest) == float("inf")).any()):
            check_linear(physics, start)
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


def check_linear(physics: Any, x: Tensor) -> None:
    """Refuse an operator that is not linear or whose adjoint is not its adjoint.

    Two random images must satisfy `A(u + 2 v) = A u + 2 A v` and `<A u, A v> = <u, A^T A v>`, to
    rounding. A necessary condition: without it the problem is not convex or its gradient is wrong.

    :raises ValueError: they do not.
    """
    generator = torch.Generator(device=x.device).manual_seed(0)
    u, v = (
        torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device) for _ in range(2)
    )
    image_u, image_v = physics.A(u), physics.A(v)
    together = physics.A(u + 2 * v)
    linear_error = (together - image_u - 2 * image_v).abs().max() / together.abs().max()
    if not linear_error <= 1e-3:
        raise ValueError(
            "the physics is not linear (A(u + 2 v) differs from A u + 2 A v), so the problem would not "
            "be convex; convexreg reconstructs from linear measurements only"
        )
    one, other = inner(image_u, image_v), inner(u, physics.A_adjoint(image_v))
    if not ((one - other).abs() <= 1e-3 * one.abs().clamp_min(1e-12)).all():
        raise ValueError(
            "A_adjoint is not the adjoint of A (<A u, A v> differs from <u, A^T A v>), so the gradient "
            "would be wrong; correct the physics"
        )


def _check_measurements(y: Tensor) -> None:
    if not isinstance(y, Tensor) or y.dtype not in (torch.float32, torch.float64):
        kind = y.dtype if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(
            f"the measurements must be a floating-point tensor, float32 or float64 (images scaled to "
            f"[0, 1]), got {kind}"
        )
    if y.ndim < 2 or y.numel() == 0:
        raise ValueError(
            f"the measurements must be a batch (B, ...) with at least one number, got {tuple(y.shape)}"
        )
    if not torch.isfinite(y).all():
        raise ValueError(
            "the measurements hold NaN or infinite numbers; replace or mask them first"
        )


def _check_positive(name: str, value: Tensor | float, y: Tensor, *, allow_zero: bool) -> Tensor:
    """As a float64 tensor `(B,)` on the device of `y`."""
    tensor = torch.as_tensor(value, dtype=torch.float64, device=y.device).reshape(-1)
    if tensor.numel() not in (1, y.shape[0]):
        raise ValueError(
            f"{name} must be one number or one per image ({y.shape[0]}), got {tensor.numel()}"
        )
    smallest = tensor.min().item()
    if not torch.isfinite(tensor).all() or smallest < 0 or (smallest == 0 and not allow_zero):
        wanted = "nonnegative" if allow_zero else "positive"
        raise ValueError(f"{name} must be {wanted} and finite, got {smallest:g}")
    return tensor.expand(y.shape[0])


def _describe(solver: Solver[Any], bounds: OperatorBounds) -> str:
    name = type(solver).__name__
    if isinstance(solver, QuasiNewton):
        return f"{name} (line search; needs no bound on |A|)"
    if getattr(solver, "backtracking", None) is not None:
        return f"{name} with backtracking"
    source = f"|A|^2 <= {float(torch.as_tensor(bounds.largest).max()):.4g}, {bounds.proof}"
    return f"{name} with the proven step 1/L ({source})"
