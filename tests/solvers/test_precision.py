"""What a call computes in depends on its arguments, not on what is switched on around it."""

from __future__ import annotations

import pytest
import torch

from convexreg.solvers import OGMG, Box, Proximity, Sum, certify, minimise
from convexreg.solvers.precision import without_autocast
from tests.problems import SOLVERS, UNIT, SolverCase, quadratic, scenes, small_regularizer, spectra
from tests.tables import over


@without_autocast
def product(a: torch.Tensor, *, b: torch.Tensor) -> torch.Tensor:
    """A matrix product."""
    return a @ b


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_autocast_is_off_inside_and_on_again_after(kind: str) -> None:
    """Without a warning where there is no such device."""
    was = torch.is_autocast_enabled(kind)
    torch.set_autocast_enabled(kind, True)
    try:
        assert product(torch.eye(3), b=torch.ones(3, 3)).dtype == torch.float32
        assert torch.is_autocast_enabled(kind)
    finally:
        torch.set_autocast_enabled(kind, was)


def test_a_wrapped_function_keeps_its_name_and_its_errors() -> None:
    assert product.__name__ == "product"
    assert product.__doc__ == "A matrix product."
    with torch.autocast("cpu"), pytest.raises(RuntimeError, match="shapes"):
        product(torch.ones(2, 3), b=torch.ones(2, 3))


@over("case", SOLVERS | {"ogm-g": SolverCase(OGMG(20))})
def test_autocast_around_a_solve_changes_nothing(case: SolverCase) -> None:
    noisy = (scenes(2) + 0.1 * torch.randn(2, 1, 7, 8)).float()
    regularizer = small_regularizer().float()
    objective = Sum([Proximity(noisy), regularizer.term(0.1)], [1.0, 1.0])
    expected = minimise(objective, noisy, case.solver, gap_tol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        solution = minimise(objective, noisy, case.solver, gap_tol=1e-4)
        certificate = certify(objective, expected.x)
    assert torch.equal(solution.x, expected.x)
    assert torch.equal(solution.certificate.gap, expected.certificate.gap)
    assert torch.equal(certificate.gap, certify(objective, expected.x).gap)


@pytest.mark.parametrize("box", [Box(), UNIT], ids=["free", "unit"])
@over("case", SOLVERS | {"ogm-g": SolverCase(OGMG(20))})
def test_default_dtype_and_device_change_nothing(case: SolverCase, box: Box) -> None:
    """On a device without numbers, whatever is made without saying where fails."""
    if isinstance(case.solver, OGMG) and not box.everything:
        pytest.skip("OGM-G has no box")
    problem = quadratic(spectra(4, 6, (2.0, 100.0)), box)
    options = {"box": box, "gtol": 1e-6, "max_iter": 2000}
    expected = minimise(problem.objective, problem.x0, case.solver, **options)
    was = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    torch.set_default_device("meta")
    try:
        solution = minimise(problem.objective, problem.x0, case.solver, **options)
        certificate = certify(problem.objective, solution.x, box)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(was)
    for name in ("x", "status", "iterations", "evaluations", "stationarity"):
        ours, theirs = getattr(solution, name), getattr(expected, name)
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs), name
    assert torch.equal(solution.certificate.gap, expected.certificate.gap)
    assert torch.equal(certificate.gap, certify(problem.objective, expected.x, box).gap)
