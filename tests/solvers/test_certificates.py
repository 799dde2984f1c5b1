"""Certificates: never below the truth, in thousands of random problems."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch import Tensor

from convexreg.models.config import Architecture
from convexreg.solvers import (
    FISTA,
    Backtracking,
    Box,
    GradientDescent,
    Progress,
    Proximity,
    QuasiNewton,
    Sum,
    certify,
    minimise,
)
from convexreg.solvers.certificates import certificate_after_step
from tests.problems import (
    SOLVERS,
    UNIT,
    Quadratic,
    SolverCase,
    quadratic,
    scenes,
    small_regularizer,
    spectra,
)
from tests.tables import over

RANDOM_BOXES = {
    "free": Box(),
    "unit": UNIT,
    "nonnegative": Box(lower=0.0),
    "below": Box(upper=0.5),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("rank", [None, 3], ids=["regular", "singular"])
@over("box", RANDOM_BOXES)
@over("case", SOLVERS)
def test_certificates_of_random_problems_hold(
    case: SolverCase, box: Box, rank: int | None, dtype: torch.dtype
) -> None:
    """500 quadratics at a time, 56,000 in all: never below the true gap, at any iteration.

    In float32 up to its rounding; `certify` in float64 of the float32 result without such an excuse.
    """
    problem = quadratic(spectra(500, 5, (1.5, 10.0, 300.0), rank=rank), box, stated_mu=rank is None)
    assert isinstance(problem.objective, Quadratic)
    rounded = problem.objective.to(dtype)
    honest = rounded.to(torch.float64)
    slack = 1e-13 if dtype == torch.float64 else 1e-5

    def check(progress: Progress) -> None:
        point = progress.x.double()
        gap = honest.value(point) - 1
        assert (gap <= progress.gap + slack * (1 + gap)).all()
        assert (gap <= progress.relative_gap + slack * (1 + gap)).all()
        assert (gap <= certify(honest, point, box).gap + 1e-12).all()

    minimise(
        rounded,
        problem.x0.to(dtype),
        case.solver,
        box=box,
        gtol=1e-30,
        max_iter=25,
        callback=check,
    )


@functools.cache
def random_denoising(architecture: Architecture, dtype: torch.dtype) -> tuple[Sum, Sum, Tensor]:
    """200 images of random noise level and weight: in `dtype`, in float64, and the least values."""
    torch.manual_seed(0)
    sigma = 0.02 + 0.3 * torch.rand(200).double()
    noisy = scenes(200, 5, 6)
    noisy = (noisy + sigma.reshape(-1, 1, 1, 1) * torch.randn_like(noisy)).to(dtype)
    weight = 10 ** torch.empty(200).uniform_(-2, 1).double()
    regularizer = small_regularizer(architecture).to(dtype)
    rounded = Sum([Proximity(noisy), regularizer.term(sigma)], [1.0, weight])
    exact = copy.deepcopy(regularizer).double()
    honest = Sum([Proximity(noisy.double()), exact.term(sigma)], [1.0, weight])
    best = minimise(honest, noisy.double(), QuasiNewton(), gap_tol=1e-13, max_iter=300)
    return rounded, honest, honest.value(best.x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("architecture", ["mgradnet-m", "crr"])
@over("case", SOLVERS)
def test_certificates_of_random_denoising_problems_hold(
    case: SolverCase, architecture: Architecture, dtype: torch.dtype
) -> None:
    """Compared with the float64 value of the best point found by anyone."""
    rounded, honest, reference = random_denoising(architecture, dtype)
    slack = (1e-12 if dtype == torch.float64 else 1e-5) * (1 + reference)

    def check(progress: Progress) -> None:
        point = progress.x.double()
        gap = honest.value(point) - reference
        assert (gap <= progress.gap + slack).all()
        assert (gap <= certify(honest, point).gap + 1e-12).all()

    data = rounded.terms[0]
    assert isinstance(data, Proximity)
    minimise(rounded, data.y, case.solver, gtol=1e-30, max_iter=12, callback=check)


def test_a_search_that_runs_out_of_attempts_certifies_nothing() -> None:
    """Then no majorisation test has passed, and the bound would rest on it."""
    problem = quadratic(spectra(3, 6, (100.0,)), Box())
    hopeless = Backtracking(initial=1e-3, increase=1.001, limit=2)
    history: list[Progress] = []
    for solver in (GradientDescent(hopeless), FISTA(hopeless)):
        minimise(
            problem.objective, problem.x0, solver, gtol=1e-9, max_iter=5, callback=history.append,
            throw=False,
        )  # fmt: skip
    for progress in history:
        gap = problem.objective.value(progress.x) - problem.least
        assert (gap <= progress.gap + 1e-12).all()


@over("box", RANDOM_BOXES)
@pytest.mark.parametrize("mu", [0.0, 0.3])
def test_furthest_descent_is_the_maximum(box: Box, mu: float) -> None:
    """Against a fine grid of `<g, x - s> - mu/2 |s - x|^2` per pixel, from inside and outside."""
    x, grad = 2 * torch.randn(40, 1).double(), torch.randn(40, 1).double()
    grad[::5] = 0
    value = box.furthest_descent(x, grad, torch.tensor(mu, dtype=torch.float64))
    grid = torch.linspace(max(box.lower, -30), min(box.upper, 30), 60001).double()
    brute = (grad * (x - grid) - mu / 2 * (grid - x).square()).amax(1)
    unbounded = torch.isinf(value)
    assert (brute[unbounded] > 20 * grad.abs()[unbounded].flatten()).all()
    assert (value >= brute.clamp_min(0) - 1e-12)[~unbounded].all()
    inside = (x == box.project(x)).flatten() & ~unbounded
    torch.testing.assert_close(value[inside], brute[inside].clamp_min(0), rtol=1e-5, atol=1e-5)


def test_boxes() -> None:
    with pytest.raises(ValueError, match="lower < upper"):
        Box(1.0, 1.0)
    with pytest.raises(ValueError, match="lower < upper"):
        Box(float("nan"), 1.0)
    assert Box().everything
    assert not Box().bounded
    assert UNIT.bounded
    assert not Box(lower=0.0).bounded
    x = torch.tensor([-1.0, 0.5, 2.0])
    assert torch.equal(UNIT.project(x), torch.tensor([0.0, 0.5, 1.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_bounds_are_rounded_inwards(dtype: torch.dtype) -> None:
    """What a float32 solve puts on a bound is in the box in float64 too, and can be certified."""
    for lower, upper in torch.rand(50, 2).double().sort(dim=1).values.tolist():
        box, x = Box(lower, upper), torch.tensor([[-1.0, 2.0]], dtype=dtype)
        inner = box.representable(dtype).project(x).double()
        assert lower <= inner[0, 0] <= lower * (1 + 2e-7)
        assert upper * (1 - 2e-7) <= inner[0, 1] <= upper
    everything = Box().representable(dtype)
    assert everything.everything


def test_points_outside_of_the_box_are_not_certified() -> None:
    problem = quadratic(spectra(1, 4, (3.0,)), UNIT)
    with pytest.raises(ValueError, match="is not in the box"):
        certify(problem.objective, problem.minimiser + 0.1, UNIT)


def test_nothing_is_proven_where_a_tiny_modulus_overflows() -> None:
    x, grad = torch.zeros(1, 1, 2, 2).double(), torch.ones(1, 1, 2, 2).double()
    for mu in (1e-160, 1e-320):
        assert Box().furthest_descent(x, grad, torch.tensor([mu]).double()) > 1e100
    exact = Box().furthest_descent(x, grad, torch.tensor([0.5]).double())
    torch.testing.assert_close(exact, torch.tensor([4.0]).double())


@over("box", RANDOM_BOXES)
def test_a_negative_modulus_proves_nothing(box: Box) -> None:
    x, grad = torch.rand(3, 4).double(), torch.randn(3, 4).double()
    descent = box.furthest_descent(x, grad, torch.tensor([-2.0, 1.0, -1e-9]).double())
    assert descent.isinf().tolist() == [True, False, True]


def test_the_certificate_after_a_gradient_step_is_the_formula() -> None:
    y, grad = torch.randn(2, 3, 5).double().unbind()
    lipschitz, mu = torch.tensor([2.0, 5.0, 9.0]).double(), torch.tensor([0.5, 1.0, 9.0]).double()
    value, x = torch.randn(3).double(), y - grad / lipschitz.reshape(3, 1)
    certificate = certificate_after_step(value, grad, y, x, lipschitz, mu, Box())
    slack = grad.square().sum(1) / 2
    torch.testing.assert_close(certificate.gap, slack * (1 / mu - 1 / lipschitz))
    torch.testing.assert_close(certificate.lower, value - slack / mu)
    torch.testing.assert_close(certificate.distance, (2 * certificate.gap / mu).sqrt())
