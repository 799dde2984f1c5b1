"""The variational problem at the centre of everything: what is minimised, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from convexreg.networks import colour
from convexreg.networks.base import Sigma, converted, with_tensors
from convexreg.reconstruction.defaults import ANCHOR, MAX_ITER, Tolerance
from convexreg.solvers.batch import of_images, per_image, rms
from convexreg.solvers.box import Box
from convexreg.solvers.curvature import Preconditioner
from convexreg.solvers.data_terms import DataTerm, LeastSquares
from convexreg.solvers.implicit import ImplicitSolution
from convexreg.solvers.linear_systems import HessianSolve, conjugate_gradient
from convexreg.solvers.loop import minimise
from convexreg.solvers.objective import Objective, Sum
from convexreg.solvers.operator_rules import operator_bounds
from convexreg.solvers.operators import Identity, PrecisionError
from convexreg.solvers.progress import Progress
from convexreg.solvers.proximity import Proximity
from convexreg.solvers.quasi_newton import QuasiNewton
from convexreg.solvers.solution import Solution
from convexreg.solvers.solver import Solver


class Regularization(Protocol):
    """Anything whose value and gradient at a noise level are an objective."""

    def term(self, sigma: Sigma) -> Objective:
        """`R(.; sigma)`."""
        ...


@runtime_checkable
class PerImage(Regularization, Protocol):
    """One of which that of some images of a batch can be had."""

    def subset(self, index: Tensor) -> Regularization:
        """Of the images of these numbers, `(N,)` integers."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """Minimise `D(A x, y) + lam R(x; sigma) + anchor |x - centre|^2 / 2` over a box.

    Nothing is checked here: see `reconstruction.checks`. Everything that varies what is minimised
    returns another problem.

    :ivar data: the data term, which holds operator and measurements, see `solvers.data_term`.
    :ivar regularizer: convex (but for baselines that make no use of it), in the dtype of the data.
    :ivar sigma: noise level that the regularizer is conditioned on, one number or one per image.
    :ivar lam: weight of the regularizer, one number or one per image.
    :ivar anchor: weight of the proximal term that draws the image towards `centre`.
    """

    data: Objective
    regularizer: Regularization
    sigma: Sigma
    lam: Tensor | float = 1.0
    anchor: float = 0.0
    centre: Tensor | None = None
    box: Box = field(default_factory=Box)

    def __repr__(self) -> str:
        name = getattr(self.regularizer, "name", type(self.regularizer).__name__)
        return f"Problem({self.data!r}, regularizer {name}, anchor {self.anchor:g}, {self.box!r})"

    @cached_property
    def objective(self) -> Sum:
        """What is minimised, but for the box."""
        terms = [self.data, self.regularizer.term(self.sigma)]
        coefficients: list[Tensor | float] = [1.0, self.lam]
        if self.centre is not None and self.anchor > 0:
            terms.append(Proximity(self.centre))
            coefficients.append(self.anchor)
        return Sum(terms, coefficients)

    def with_weight(self, lam: Tensor | float) -> Problem:
        """The same problem with another weight of the regularizer."""
        return replace(self, lam=lam)

    def anchored(self, centre: Tensor, anchor: float | Literal["auto"] = "auto") -> Problem:
        """The same problem with an anchor at `centre`: by default of weight `ANCHOR` where the data term
        is not strongly convex, zero where it is."""
        if anchor == "auto":
            anchor = 0.0 if self.strongly_convex_data(centre) else ANCHOR
        return replace(self, anchor=anchor, centre=centre)

    def strongly_convex_data(self, x: Tensor) -> bool:
        """Whether the data term alone has one minimiser, for images shaped like `x`."""
        return bool((self.data.strong_convexity(x) > 0).all())

    def subset(self, index: Tensor) -> Problem:
        """The problem of some images of the batch, for our regularizers and data terms that have one.

        :param index: their numbers, `(N,)` integers.
        """
        data = self.data.subset(index)
        assert data is not None
        assert isinstance(self.regularizer, PerImage)
        sigma, lam = (
            of_images(value, index) if isinstance(value, Tensor) else value
            for value in (self.sigma, self.lam)
        )
        centre = None if self.centre is None else self.centre[index]
        regularizer = self.regularizer.subset(index)
        return replace(
            self, data=data, regularizer=regularizer, sigma=sigma, lam=lam, centre=centre
        )

    def exact(self, x: Tensor) -> Problem:
        """The same problem in float64, for images shaped like `x`.

        :raises PrecisionError: the data term or the regularizer has no float64 version.
        """
        if not isinstance(self.data, DataTerm):
            raise PrecisionError(f"the data term {type(self.data).__name__} has no float64 version")
        data = self.data.in_float64(x)
        data.bounds = operator_bounds(data.operator, x.double())
        regularizer = _in_float64(self.regularizer, self.sigma, x)
        centre = None if self.centre is None else self.centre.double()
        return replace(self, data=data, regularizer=regularizer, centre=centre)

    def tolerances(self, tolerance: Tolerance, x: Tensor) -> tuple[float | None, float | None]:
        """Certified relative gap and rms of the gradient to reach, with the defaults filled in."""
        if tolerance.gap_tol is not None or tolerance.gtol is not None:
            return tolerance.gap_tol, tolerance.gtol
        if self.strongly_convex_data(x):
            return tolerance.strongly_convex_gap, None
        if bool((self.objective.strong_convexity(x) > 0).all()) or self.box.bounded:
            return tolerance.gap, None
        return None, tolerance.uncertified

    def solver(self, x: Tensor) -> QuasiNewton:
        """The default one. Most of the memory of a solve are its pairs, and denoising takes no more
        evaluations with half of them: large images get half."""
        large = x[0, 0].numel() >= colour.LARGE
        denoising = isinstance(self.data, LeastSquares) and self.data.sees_images
        return QuasiNewton(memory=5) if large and denoising else QuasiNewton()

    def minimise(
        self,
        start: Tensor,
        *,
        tolerance: Tolerance | None = None,
        solver: Solver[Any] | None = None,
        max_iter: int = MAX_ITER,
        time_limit: float | None = None,
        callback: Callable[[Progress], None] | None = None,
        throw: bool = True,
    ) -> Solution:
        """The minimiser to a tolerance, see `solvers.minimise`."""
        gap_tol, gtol = self.tolerances(tolerance or Tolerance(), start)
        decrement_tol = None if tolerance is None else tolerance.decrement
        if decrement_tol is not None and self.strongly_convex_data(start):
            decrement_tol = None
        return minimise(
            self.objective,
            start,
            solver or self.solver(start),
            box=self.box,
            gap_tol=gap_tol,
            gtol=gtol,
            decrement_tol=decrement_tol,
            max_iter=max_iter,
            time_limit=time_limit,
            callback=callback,
            throw=throw,
        )

    def inverse_hessian(
        self, x: Tensor, v: Tensor, *, tol: float = 1e-6, max_iter: int = 200
    ) -> HessianSolve:
        """`H^{-1} v` at `x`, by conjugate gradients to a relative residual.

        With a box `H` is that of the pixels strictly inside of it, and the others get zero. Only the
        regularizer is differentiated: the physics may be anything with `A` and `A_adjoint`.

        :raises TypeError: a data term made by hand, whose Hessian is not known.
        """
        if not isinstance(self.data, DataTerm):
            raise TypeError(f"the Hessian of the data term {type(self.data).__name__} is not known")
        data = self.data
        # tensors made in inference mode cannot be differentiated, nor saved for it
        with torch.inference_mode(False), torch.enable_grad():
            point = x.clone().requires_grad_()
            grad = self.regularizer.term(_usable(self.sigma)).grad(point)
        lam = per_image(torch.as_tensor(self.lam, device=x.device).to(x.dtype), x)
        free = ((x > self.box.lower) & (x < self.box.upper)).to(x.dtype)
        with torch.no_grad():
            curvature = self.objective.curvature(x)
            precondition = None if curvature is None else Preconditioner(curvature)

        def product(u: Tensor) -> Tensor:
            (bent,) = torch.autograd.grad(grad, point, u, retain_graph=True)
            return free * (data.hessian_product(x, u) + lam * bent + self.anchor * u)

        return conjugate_gradient(
            product,
            free * v,
            tol=tol,
            max_iter=max_iter,
            preconditioner=None
            if precondition is None
            else lambda u: free * precondition(free * u),
        )

    @torch.no_grad()
    def refined(self, x: Tensor) -> Tensor:
        """`x` after one Newton step, for images whose gradient it makes smaller.

        Derivatives of a minimiser are wrong by as much as the minimiser; near it the step leaves a
        thousandth of that.
        """
        gradient = self.objective.grad(x)
        closer = x - self.inverse_hessian(x, gradient, tol=1e-3).solution
        better = rms(self.objective.grad(closer)) < rms(gradient)
        return torch.where(per_image(better, x), closer, x)

    @property
    def inputs(self) -> list[Tensor]:
        """The tensors that the minimiser depends on and that are being differentiated."""
        candidates: list[Any] = [self.sigma, self.lam, self.centre]
        if isinstance(self.data, DataTerm):
            candidates += [self.data.y, *_tensors(self.data.operator)]
        candidates += _tensors(self.regularizer)
        found = (t for t in candidates if isinstance(t, Tensor) and t.requires_grad)
        return list(dict.fromkeys(found))

    def _with_inputs(self, inputs: Sequence[Tensor], others: Sequence[Tensor]) -> Problem:
        """The same problem with other tensors in the place of its inputs."""
        table = dict(zip(inputs, others, strict=True))

        def other(thing: Any) -> Any:
            if isinstance(thing, nn.Module):
                return with_tensors(thing, lambda tensor: table.get(tensor, tensor))
            return table.get(thing, thing) if isinstance(thing, Tensor) else thing

        data = self.data
        if isinstance(data, DataTerm):
            data = data.given(operator=other(data.operator), y=other(data.y))
        return replace(
            self,
            data=data,
            regularizer=other(self.regularizer),
            sigma=other(self.sigma),
            lam=other(self.lam),
            centre=other(self.centre),
        )

    def differentiable(self, x: Tensor, derivative: ImplicitSolution | None = None) -> Tensor:
        """The minimiser `x` with the derivatives of the exact one, to any order, in `inputs`.

        :param derivative: how they are computed; its diagnostics hold the last backward pass.
        :raises ValueError: a box, where the minimiser is not differentiable.
        """
        inputs = self.inputs
        if not torch.is_grad_enabled() or not inputs:
            return x
        if not self.box.everything:
            raise ValueError(
                "the derivative of a reconstruction is available without a box only; train without "
                "one, or evaluate under torch.no_grad()"
            )
        derivative = derivative or ImplicitSolution()
        with torch.no_grad():
            curvature = self.objective.curvature(x)
        derivative.preconditioner = None if curvature is None else Preconditioner(curvature)

        def gradient(z: Tensor, *others: Tensor) -> Tensor:
            return self._with_inputs(inputs, others).objective.grad(z)

        return derivative.attach(gradient, x, inputs)


def proximal_problem(
    y: Tensor, regularizer: Regularization, sigma: Sigma, lam: Tensor | float = 1.0
) -> Problem:
    """`|x - y|^2 / 2 + lam R(x; sigma)`, strongly convex: denoising, and every proximal operator."""
    physics = Identity()
    return Problem(LeastSquares(physics, y, operator_bounds(physics, y)), regularizer, sigma, lam)


def _in_float64(regularizer: Any, sigma: Sigma, x: Tensor) -> Any:
    """The regularizer in float64.

    :raises PrecisionError: one that is not ours and does not compute in float64.
    """
    if isinstance(regularizer, nn.Module):
        return converted(regularizer, x.device, torch.float64)
    if hasattr(regularizer, "converted"):
        regularizer = regularizer.converted(x.device, torch.float64)
        if isinstance(regularizer, nn.Module):
            return regularizer
    name = type(regularizer).__name__.removeprefix("_")
    try:
        grad = regularizer.term(sigma).grad(x.double())
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise PrecisionError(
            f"the regularizer {name} cannot compute in float64 ({reason})"
        ) from error
    if grad.dtype != torch.float64:
        raise PrecisionError(
            f"the regularizer {name} computes in {grad.dtype} whatever it is given"
        )
    return regularizer


def _usable(sigma: Sigma) -> Sigma:
    return sigma.clone() if isinstance(sigma, Tensor) else sigma


def _tensors(owner: Any) -> list[Tensor]:
    return [*owner.parameters(), *owner.buffers()] if isinstance(owner, nn.Module) else []
