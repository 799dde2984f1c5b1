"""Objectives with known minima, and the solvers that are tried on them.

A new problem or solver is a new row of `PROBLEMS` or `SOLVERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy
import scipy.optimize
import torch
from deepinv.physics import Blur
from torch import Tensor

from convexreg.models.config import Architecture, ModelConfig
from convexreg.regularizer import ConvexRegularizer
from convexreg.solvers import (
    FISTA,
    Backtracking,
    Box,
    FreeFISTA,
    GradientDescent,
    LeastSquares,
    Objective,
    Proximity,
    QuasiNewton,
    Solver,
    Sum,
    operator_bounds,
)
from convexreg.solvers.certificates import (
    fista_rate,
    gradient_descent_rate,
    strongly_convex_fista_rate,
)
from tests.tables import perturbed

UNIT = Box(0.0, 1.0)


class Quadratic(Objective):
    """`1 + <g, d> + d^T A d / 2` with `d = x - x*`, for every row of a batch of vectors.

    With `g` pointing out of the box at `x*`, that is the minimiser, `F* = 1`, and no term cancels
    another. Products are sums over a dimension of their own, so that an image gets the same bits
    alone.
    """

    def __init__(
        self, matrix: Tensor, centre: Tensor, slope: Tensor, largest: Tensor, smallest: Tensor
    ) -> None:
        self.matrix, self.centre, self.slope = matrix, centre, slope
        self.largest, self.smallest = largest, smallest

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        offset = x - self.centre
        image = (self.matrix * offset.unsqueeze(1)).sum(2)
        value = (offset * (image / 2 + self.slope)).sum(1, dtype=torch.float64)
        return 1 + value, image + self.slope

    def lipschitz(self, x: Tensor) -> Tensor:
        return self.largest

    def strong_convexity(self, x: Tensor) -> Tensor:
        return self.smallest

    def to(self, dtype: torch.dtype) -> Quadratic:
        """The same problem with data rounded to `dtype`, and constants that allow for it."""
        rounding = 8 * torch.finfo(dtype).eps * self.largest
        return Quadratic(
            self.matrix.to(dtype),
            self.centre.to(dtype),
            self.slope.to(dtype),
            self.largest + rounding,
            (self.smallest - rounding).clamp_min(0),
        )

    def subset(self, index: Tensor) -> Quadratic:
        return self[index]

    def __getitem__(self, index: slice | Tensor) -> Quadratic:
        return Quadratic(
            self.matrix[index],
            self.centre[index],
            self.slope[index],
            self.largest[index],
            self.smallest[index],
        )


class Counting(Objective):
    """Counts what is asked of an objective."""

    def __init__(self, inner: Objective) -> None:
        self.inner = inner
        self.gradients = self.values = 0
        self.models = 0.0

    @property
    def evaluations(self) -> float:
        """Gradients, half of the values, and what curvature models say that they cost."""
        return self.gradients + self.models + self.values / 2

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.gradients += 1
        return self.inner.value_and_grad(x)

    def value(self, x: Tensor) -> Tensor:
        self.values += 1
        return self.inner.value(x)

    def lipschitz(self, x: Tensor) -> Tensor:
        return self.inner.lipschitz(x)

    def strong_convexity(self, x: Tensor) -> Tensor:
        return self.inner.strong_convexity(x)

    def curvature(self, x: Tensor):
        model = self.inner.curvature(x)
        self.models += 0 if model is None else model.evaluations
        return model


@dataclass(frozen=True)
class Problem:
    """An objective on a batch with its start, and a minimiser found by other means (float64)."""

    objective: Objective
    x0: Tensor
    box: Box
    minimiser: Tensor

    @property
    def least(self) -> Tensor:
        """`F*`, `(B,)`."""
        return self.objective.value(self.minimiser)


def spectrum_matrix(spectrum: Tensor) -> Tensor:
    """Random symmetric matrices `(B, n, n)` with the given eigenvalues `(B, n)`."""
    basis = torch.linalg.qr(torch.randn(*spectrum.shape, spectrum.shape[1]).double())[0]
    matrix = basis @ (spectrum.unsqueeze(2) * basis.mT)
    return (matrix + matrix.mT) / 2


def quadratic(spectrum: Tensor, box: Box = UNIT, *, stated_mu: bool = True) -> Problem:
    """A quadratic with a chosen minimiser: some pixels at the bounds, the others free.

    :param stated_mu: tell the solvers the smallest eigenvalue; otherwise the stated modulus is 0.
    """
    batch, size = spectrum.shape
    low, high = max(box.lower, -3.0), min(box.upper, 3.0)
    minimiser, x0 = (low + (high - low) * torch.rand(2, batch, size).double()).unbind()
    side = torch.randint(-1, 2, (batch, size))
    if box.lower == -float("inf"):
        side.clamp_(min=0)
    if box.upper == float("inf"):
        side.clamp_(max=0)
    minimiser[side < 0], minimiser[side > 0] = box.lower, box.upper
    slope = -side * torch.rand(batch, size).double()
    smallest = spectrum.amin(1) * (1 - 1e-9) if stated_mu else torch.zeros(batch).double()
    largest = spectrum.amax(1) * (1 + 1e-9)
    objective = Quadratic(spectrum_matrix(spectrum), minimiser, slope, largest, smallest)
    return Problem(objective, x0, box, minimiser)


def spectra(
    batch: int, size: int, conditions: tuple[float, ...], rank: int | None = None
) -> Tensor:
    """Log-uniform eigenvalues, the condition numbers in turn; zeros beyond `rank`."""
    condition = torch.tensor(conditions).double()[torch.arange(batch) % len(conditions)]
    exponents = torch.rand(batch, size).double()
    exponents[:, 0], exponents[:, 1] = 0, 1
    values = condition.unsqueeze(1) ** (exponents - 0.5)
    if rank is not None:
        values[:, rank:] = 0
    return values


def small_regularizer(
    architecture: Architecture = "mgradnet-m", padding: str = "circular", channels: int = 1
) -> ConvexRegularizer:
    """A regularizer of one of the shipped architectures with random weights, float64, frozen."""
    config = ModelConfig(architecture, (channels, 2, 6), (3, 3), padding, 1 / 255, 0.4)
    return perturbed(config.build(), 0.1).eval()


def scenes(batch: int, height: int = 7, width: int = 8, channels: int = 1) -> Tensor:
    """Images with a step edge and a gradient, in [0, 1], float64."""
    ramp = torch.linspace(0, 0.4, width).double().expand(batch, channels, height, width)
    offset = 0.5 * torch.rand(batch, channels, 1, 1).double()
    edge = (torch.arange(height) > height // 2).double().reshape(1, 1, -1, 1)
    return (ramp + offset * edge).contiguous()


def _scipy_minimiser(objective: Objective, x0: Tensor, box: Box) -> Tensor:
    """The batch as one problem: the sum of the images' objectives (L-BFGS-B, then polished)."""

    def value_and_grad(flat: numpy.ndarray) -> tuple[float, numpy.ndarray]:
        value, grad = objective.value_and_grad(torch.from_numpy(flat).reshape(x0.shape))
        return float(value.sum()), grad.flatten().numpy()

    point = x0.flatten().numpy()
    for _ in range(2):
        point = scipy.optimize.minimize(
            value_and_grad,
            point,
            jac=True,
            method="L-BFGS-B",
            bounds=scipy.optimize.Bounds(box.lower, box.upper),
            options={"maxiter": 5000, "maxfun": 20000, "ftol": 0, "gtol": 1e-13, "maxcor": 50},
        ).x
    return torch.from_numpy(point).reshape(x0.shape)


def denoising(architecture: Architecture, box: Box, hardest: float = 8.0) -> Problem:
    """Three noisy scenes of different difficulty: the weights of the regularizer differ."""
    regularizer, sigma = small_regularizer(architecture), 0.1
    noisy = scenes(3)
    noisy = noisy + sigma * torch.randn_like(noisy)
    weight = torch.tensor([0.1, 1.0, hardest]).double()
    objective = Sum([Proximity(noisy), regularizer.term(sigma)], [1.0, weight])
    return Problem(objective, noisy, box, _scipy_minimiser(objective, box.project(noisy), box))


def blur(box: Box, sigma: float = 0.05) -> Problem:
    """Circular deblurring with a regularizer that is not strongly convex: the modulus is 0."""
    regularizer = small_regularizer("crr")
    kernel = torch.rand(1, 1, 3, 3).double()
    physics = Blur(filter=kernel / kernel.sum(), padding="circular").double()
    clean = scenes(2)
    y = physics.A(clean) + sigma * torch.randn_like(clean)
    data = LeastSquares(physics, y, operator_bounds(physics, clean))
    objective = Sum([data, regularizer.term(sigma)], [1.0, 0.3])
    return Problem(objective, y, box, _scipy_minimiser(objective, box.project(y), box))


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "quadratic": lambda: quadratic(spectra(5, 6, (2.0, 20.0, 200.0)), Box()),
    "quadratic-modulus-unknown": lambda: quadratic(
        spectra(4, 6, (2.0, 100.0)), Box(), stated_mu=False
    ),
    "quadratic-singular": lambda: quadratic(spectra(4, 7, (3.0, 30.0), rank=4), Box()),
    "quadratic-box": lambda: quadratic(spectra(5, 6, (2.0, 20.0, 200.0))),
    "quadratic-singular-box": lambda: quadratic(spectra(5, 7, (3.0, 30.0), rank=3)),
    "quadratic-nonnegative": lambda: quadratic(spectra(4, 6, (2.0, 40.0)), Box(lower=0.0)),
    "denoising-m": lambda: denoising("mgradnet-m", Box()),
    "denoising-c": lambda: denoising("mgradnet-c", Box(), 0.5),
    "denoising-crr-box": lambda: denoising("crr", UNIT),
    "blur": lambda: blur(Box()),
    "blur-box": lambda: blur(UNIT),
}


@dataclass(frozen=True)
class SolverCase:
    """A solver with the curve its theorem promises.

    :ivar rate: `(k, L, mu, |x_0 - x*|, F(x_0) - F*)` to a bound on `F(x_k) - F*`, or `None`.
    """

    solver: Solver
    rate: Callable[[int, float, float, float, float], float] | None = None


def _gradient_descent_curve(k: int, L: float, mu: float, distance: float, gap: float) -> float:
    return gradient_descent_rate(k, L, mu, distance)


def _fista_curve(k: int, L: float, mu: float, distance: float, gap: float) -> float:
    if mu > 0:
        return strongly_convex_fista_rate(k, L, mu, distance, gap)
    return fista_rate(k, L, distance)


def _searched(curve, search: Backtracking):
    """The curve with the largest constant the search can end at."""
    return lambda k, L, *rest: curve(k, max(search.initial, search.increase * L), *rest)


def _searched_fista_curve(k: int, L: float, mu: float, distance: float, gap: float) -> float:
    """The theorem for a searched constant covers the convex momentum only."""
    return float("inf") if mu > 0 else _searched(_fista_curve, SEARCH)(k, L, mu, distance, gap)


SEARCH = Backtracking(initial=0.05)
SOLVERS: dict[str, SolverCase] = {
    "gd": SolverCase(GradientDescent(), _gradient_descent_curve),
    "gd-search": SolverCase(
        GradientDescent(backtracking=SEARCH), _searched(_gradient_descent_curve, SEARCH)
    ),
    "fista": SolverCase(FISTA(), _fista_curve),
    "fista-search": SolverCase(FISTA(backtracking=SEARCH), _searched_fista_curve),
    "free-fista": SolverCase(FreeFISTA(SEARCH)),
    "quasi-newton": SolverCase(QuasiNewton()),
}
