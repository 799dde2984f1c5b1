"""Bounds on symbols: proven from a grid, and as sharp as the inequality they rest on."""

from __future__ import annotations

import cmath
import math

import pytest
import torch
from torch import Tensor

from convexreg.networks.symbol import symbol_maximum, transform
from tests.oracles import matrix

DRAWS = 20


def test_transform_is_the_discrete_fourier_transform() -> None:
    lags = torch.randn(2, 5, 5, dtype=torch.float64)
    for grid in ((7, 9), (8, 6), (5, 5)):
        around = torch.zeros(2, *grid, dtype=torch.float64)
        around[:, :5, :5] = lags
        around = around.roll((-2, -2), (1, 2))  # lag zero first
        torch.testing.assert_close(transform(lags, grid), torch.fft.rfft2(around))


@pytest.mark.parametrize(("channels", "margin"), [(1, 1.005), (3, 1.02)])
@pytest.mark.parametrize("size", [1, 3, 5, 9])
@torch.no_grad()
def test_the_bound_lies_between_the_supremum_and_its_margin(
    channels: int, margin: float, size: int
) -> None:
    """The supremum by a grid sixteen times as fine; with weights, of either sign of the kernels."""
    for _ in range(DRAWS):
        kernel = torch.randn(4, channels, size, size, dtype=torch.float64)
        weights = torch.rand(2, 4, dtype=torch.float64)
        points = 128 if channels > 1 else 512
        supremum = symbol_maximum(kernel, weights, (points, points + 1))
        bound = symbol_maximum(kernel, weights)
        assert (bound >= supremum * (1 - 1e-12)).all()
        assert (bound <= supremum * margin * 1.01).all()


@torch.no_grad()
def test_the_bound_holds_for_dense_matrices() -> None:
    """Of zero-padded convolutions on images that are large for the kernel."""
    for _ in range(5):
        kernel = torch.randn(3, 1, 3, 3, dtype=torch.float64)
        dense = matrix(lambda x, k=kernel: torch.nn.functional.conv2d(x, k, padding=1), (1, 12, 13))
        norm = torch.linalg.matrix_norm(dense, 2).square()
        assert 0.9 * symbol_maximum(kernel) < norm <= symbol_maximum(kernel)


def _cosine_squared(degree: int, shift: float) -> Tensor:
    """A real filter whose symbol is `cos^2(n (w - shift) / 2)` in both directions (Fejer, Riesz)."""
    line = torch.zeros(degree + 1, dtype=torch.complex128)
    line[0], line[-1] = 0.5, 0.5 * cmath.exp(-1j * degree * shift)
    return torch.outer(line, line)


@pytest.mark.parametrize("degree", [2, 4, 8])
def test_the_margin_is_attained(degree: int) -> None:
    """By `cos^2(n (w - s) / 2)` per axis, shifted by half a step: the grid misses the supremum, 1, by the
    whole margin. Its lags are complex; of the real ones that are `cos^2(n w / 2)` the grid misses nothing."""
    points = 32 * degree
    half_step = math.pi / points
    line = _cosine_squared(degree, half_step)
    responses = torch.fft.fft2(line, s=(points, points)).abs().square()
    margin = math.cos(math.pi * degree / (2 * points)) ** -4
    assert float(responses.max()) * margin == pytest.approx(1, rel=1e-12)
    real = _cosine_squared(degree, 0.0).real
    kernel = torch.zeros(1, 1, degree + 1, degree + 1, dtype=torch.float64)
    kernel[0, 0] = real
    assert float(symbol_maximum(kernel)) == pytest.approx(margin, rel=1e-12)
