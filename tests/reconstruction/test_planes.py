"""Colour images are denoised plane by plane, to what the problem of the colour image has as its minimum."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from convexreg import reconstruct
from convexreg.networks import colour
from convexreg.reconstruction import planes
from convexreg.reconstruction.defaults import Tolerance
from convexreg.reconstruction.problem import proximal_problem
from convexreg.solvers import Progress, SolverError, Status
from convexreg.solvers.certificates import certify
from convexreg.solvers.operators import Identity
from tests.problems import small_regularizer
from tests.tables import perturbed
from tests.test_adaptive import adaptive as small_adaptive
from tests.test_regularizer import BLOCKS, SMALL

SIGMA = torch.tensor([0.05, 0.1], dtype=torch.float64)


def noisy() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    ramp = torch.linspace(0, 1, 26, dtype=torch.float64).expand(2, 3, 21, 26)
    return ramp + 0.1 * torch.randn(ramp.shape, generator=generator, dtype=torch.float64)


def colour_model(adaptive: bool = False):
    config = replace(SMALL, chroma=BLOCKS, adaptive=adaptive, weight_width=4)
    return perturbed(config.build_adaptive() if adaptive else config.build(), 0.1)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("native", [False, True], ids=["of gray", "of colour"])
@pytest.mark.parametrize("adaptive", [False, True])
def test_the_minimum_is_that_of_the_colour_image(
    adaptive: bool, native: bool, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A different weight and noise level per image; the planes together or in turn."""
    y, lam = noisy(), torch.tensor([0.7, 1.2]).double()
    if large:
        monkeypatch.setattr(colour, "LARGE", 1)
    gray = small_adaptive if adaptive else small_regularizer
    model = colour_model(adaptive) if native else gray()
    result = reconstruct(y, Identity(), sigma=SIGMA, regularizer=model, lam=lam, gap_tol=1e-11)
    assert result.converged
    assert result.image.shape == y.shape
    # the problem that the result names is that of the colour images
    again = result.problem.minimise(y, tolerance=Tolerance(gap_tol=1e-11))
    torch.testing.assert_close(result.image, again.x, rtol=0, atol=1e-5)
    value = result.problem.objective.value(result.image)
    gaps = result.certificate.gap + again.certificate.gap
    assert bool((value - again.certificate.lower <= gaps + 1e-14 * value).all())
    alone = reconstruct(y[1:], Identity(), sigma=0.1, regularizer=model, lam=1.2, gap_tol=1e-11)
    torch.testing.assert_close(alone.image, result.image[1:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("native", [False, True], ids=["of gray", "of colour"])
def test_a_callback_is_told_of_the_colour_images(native: bool) -> None:
    y, seen = noisy(), list[Progress]()
    problem = proximal_problem(y, colour_model() if native else small_regularizer(), SIGMA)
    tolerance = Tolerance(gap_tol=1e-8)
    solution, _ = planes.minimise(problem, y, tolerance=tolerance, callback=seen.append)
    last = seen[-1]
    assert torch.equal(last.x, solution.x)
    assert torch.equal(last.gap, solution.certificate.gap)
    assert torch.equal(last.evaluations, solution.evaluations)
    assert not last.active.any()
    assert all(bool(progress.active.any()) for progress in seen[:-1])
    shares = torch.stack([progress.done for progress in seen])
    assert bool((shares.diff(dim=0) >= 0).all())
    assert bool((shares[-1] == 1).all())
    assert [progress.iteration for progress in seen] == list(range(1, len(seen) + 1))
    assert last.value is not None
    torch.testing.assert_close(last.value, problem.objective.value(solution.x))
    torch.testing.assert_close(
        problem.objective.grad(solution.x).square().mean((1, 2, 3)).sqrt(), solution.stationarity
    )


def test_a_colour_image_is_as_far_as_its_worst_plane() -> None:
    y = noisy()
    problem = proximal_problem(y, small_regularizer(), SIGMA)
    short, _ = planes.minimise(problem, y, tolerance=Tolerance(gap_tol=1e-12), max_iter=1)
    assert short.status.tolist() == [Status.MAX_ITERATIONS] * 2
    y[1, 0, 3, 4] = float("nan")
    with pytest.raises(SolverError) as failure:
        planes.minimise(proximal_problem(y, small_regularizer(), SIGMA), noisy())
    assert failure.value.solution.status.tolist() == [Status.CONVERGED, Status.NOT_FINITE]


@pytest.mark.parametrize("native", [False, True], ids=["of gray", "of colour"])
@pytest.mark.parametrize("adaptive", [False, True])
def test_planes_in_turn_are_certified_in_float64_at_the_image_itself(
    adaptive: bool, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though each is certified before the image is put together, and rounded."""
    monkeypatch.setattr(colour, "LARGE", 1)
    gray = small_adaptive if adaptive else small_regularizer
    model = (colour_model(adaptive) if native else gray()).float()
    y = noisy().float()
    result = reconstruct(y, Identity(), sigma=SIGMA, regularizer=model, gap_tol=1e-5)
    assert result.converged
    assert result.certificate.dtype == torch.float64
    exact = result.problem.exact(result.image)
    least = exact.minimise(y.double(), tolerance=Tolerance(gap_tol=1e-12))
    excess = exact.objective.value(result.image.double()) - least.certificate.lower
    assert bool((excess <= result.certificate.gap + least.certificate.gap).all())
    away = (result.image - least.x).flatten(1).norm(dim=1)
    assert bool((away <= result.certificate.distance + least.certificate.distance).all())
    again = certify(exact.objective, result.image.double())
    torch.testing.assert_close(again.gap, result.certificate.gap, rtol=1e-2, atol=0)
