"""Infimal convolutions with codes: optimality, duality gaps, what the accuracy is worth, derivatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convexreg.networks.codes import Codes, norms, product, solve
from convexreg.networks.modular import GradientModule, LearnedRho
from convexreg.networks.operators import Convolution
from convexreg.networks.potentials import InfimalConvolution
from tests.oracles import gradient
from tests.tables import over, perturbed

SHAPES = {"pixels": (6, 9, 1), "few": (6, 3, 1), "blocks": (5, 8, 4)}
"""Channels, codes, pixels of a block."""


def problem(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    channels, codes, pixels = shape
    u = 2 * torch.randn(channels, pixels, 7, dtype=torch.float64)
    atoms = torch.randn(channels, codes, dtype=torch.float64)
    return u, atoms, 0.2 + torch.rand(codes, dtype=torch.float64)


def primal(u: Tensor, atoms: Tensor, thresholds: Tensor, codes: Tensor) -> Tensor:
    error = u - product(atoms, codes)
    return error.square().sum((0, 1)) / 2 + thresholds @ norms(codes)


def dual(u: Tensor, found: Codes) -> Tensor:
    return (found.residual * (u - found.residual / 2)).sum((0, 1))


@over("shape", SHAPES)
def test_codes_satisfy_the_optimality_conditions(shape: tuple[int, int, int]) -> None:
    """`(D^T r)_k = s_k a_k / |a_k|` where `a_k` is not zero, and at most `s_k` elsewhere."""
    u, atoms, thresholds = problem(shape)
    found = solve(u, atoms, thresholds, 3e-8)
    slope, size = product(atoms.mT, u - product(atoms, found.codes)), norms(found.codes)
    assert (norms(slope) <= thresholds.unsqueeze(1) * (1 + 1e-9)).all()
    expected = thresholds.reshape(-1, 1, 1) * found.codes / size.unsqueeze(1)
    alive = (size > 0).unsqueeze(1).expand_as(slope)
    assert 0 < int(alive.sum()) < alive.numel()
    torch.testing.assert_close(slope[alive], expected[alive], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("tolerance", [1.0, 0.3, 1e-2, 1e-4])
@over("shape", SHAPES)
def test_gaps_are_gaps_and_bound_the_error(shape: tuple[int, int, int], tolerance: float) -> None:
    """`|r - r*| <= sqrt(2 gap)`, for feasible `r`, however far codes are from the exact ones."""
    u, atoms, thresholds = problem(shape)
    exact = solve(u, atoms, thresholds, 3e-8)
    found = solve(u, atoms, thresholds, tolerance)
    inside = norms(product(atoms.mT, found.residual))
    assert (inside <= thresholds.unsqueeze(1) * (1 + 1e-12)).all()
    value, best = primal(u, atoms, thresholds, found.codes), dual(u, exact)
    torch.testing.assert_close(found.gap, value - dual(u, found), rtol=1e-9, atol=1e-12)
    assert (dual(u, found) <= best + 1e-12).all()
    assert (value >= best - 1e-12).all()
    error = (found.residual - exact.residual).norm(dim=(0, 1))
    assert (error <= (2 * found.gap).sqrt() + 1e-7).all()
    assert (error <= tolerance * found.residual.norm(dim=(0, 1)) + 1e-7).all()


@over("shape", SHAPES)
def test_a_block_gets_what_it_gets_alone(shape: tuple[int, int, int]) -> None:
    u, atoms, thresholds = problem(shape)
    together = solve(u, atoms, thresholds, 1e-3)
    for number in range(u.shape[2]):
        alone = solve(u[..., number : number + 1], atoms, thresholds, 1e-3)
        kept = together.residual[..., number : number + 1]
        torch.testing.assert_close(alone.residual, kept, rtol=1e-12, atol=1e-12)


def test_a_loose_potential_is_a_lower_bound_everywhere() -> None:
    """`psi(v) >= value(u) + <grad(u), v - u>`, whatever the tolerance; the shortfall bounds the rest."""
    exact = perturbed(InfimalConvolution(5, 8, block=2))
    loose = perturbed(InfimalConvolution(5, 8, block=2, tolerance=0.5), 0.0)
    loose.load_state_dict(exact.state_dict())
    u = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    value, grad = loose.value_and_grad(u)
    total, best = value.sum((1, 2)), exact.value(u).sum((1, 2))
    assert (total <= best + 1e-12).all()
    assert (best <= total + loose.shortfall(u) + 1e-12).all()
    assert loose.shortfall(u).max() > 1e-6
    for scale in (0.01, 1.0, 10.0):
        v = u + scale * torch.randn_like(u)
        below = total + (grad * (v - u)).sum((1, 2, 3))
        assert (exact.value(v).sum((1, 2)) >= below - 1e-10).all()


def test_derivatives_in_atoms_and_thresholds() -> None:
    """By central differences, of the value and once more of the gradient."""
    potential = InfimalConvolution(4, 6, block=2).double()
    u = 2 * torch.randn(1, 4, 2, 3, dtype=torch.float64)
    direction = torch.randn_like(u)

    def scalar() -> Tensor:
        value, grad = potential.value_and_grad(u)
        return value.sum() + (grad * direction).sum()

    scalar().backward()
    for parameter in potential.parameters():
        slope = parameter.grad
        assert slope is not None
        change, step = torch.randn_like(parameter), 1e-6
        with torch.no_grad():
            parameter += step * change
            above = scalar()
            parameter -= 2 * step * change
            below = scalar()
            parameter += step * change
        expected = (slope * change).sum()
        torch.testing.assert_close((above - below) / (2 * step), expected, rtol=1e-5, atol=1e-6)


def test_what_is_not_differentiable_says_so() -> None:
    potential = perturbed(InfimalConvolution(4, 6))
    u = 2 * torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    by_value = potential.value(u).sum()
    (once,) = torch.autograd.grad(by_value, u, create_graph=True)
    (twice,) = torch.autograd.grad(once.sum(), u, create_graph=True)
    expected = gradient(lambda v: potential.grad(v).flatten(1).sum(1), u)
    torch.testing.assert_close(twice, expected)
    with pytest.raises(NotImplementedError, match="once and its value twice"):
        twice.sum().backward()


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="channels, codes and block are positive"):
        InfimalConvolution(4, 0)
    with pytest.raises(ValueError, match="the atoms are for 4 channels, got 3"):
        InfimalConvolution(4, 6).value(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="takes potentials of single pixels"):
        GradientModule(
            Convolution((1, 4), (3,)), InfimalConvolution(4, 6, block=2), rho=LearnedRho()
        )


def test_what_is_not_finite_stays_so() -> None:
    value, grad = InfimalConvolution(2, 3).value_and_grad(torch.tensor([[1.0, float("nan")]]))
    assert value.isnan().all()
    assert grad.isnan().any()
