"""Curvature models on a larger grid than the image's, where transforms are fast."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convexreg.networks.evaluation import Evaluation
from convexreg.solvers.curvature import Curvature, Preconditioner, fast_grid
from tests.problems import small_regularizer
from tests.solvers.test_curvature_bases import KINDS, dense, inverses, modelled


def test_fast_grids_have_no_large_factors() -> None:
    assert fast_grid((256, 321)) == (256, 324)
    rows, columns = fast_grid((3464, 481))
    assert 3464 <= rows <= 3500
    assert 481 <= columns <= 500


@pytest.mark.parametrize("grid", [(7, 9), (8, 10)])
def test_on_a_larger_grid_it_is_the_compression_of_the_inverse(grid: tuple[int, int]) -> None:
    """`E^T M E` with `E` extending by zeros: symmetric and positive definite as `M` is."""
    shape = (1, 6, 7)
    impulse = torch.randn(1, 1, *grid, dtype=torch.float64)
    symbol = torch.fft.rfft2(impulse).abs().square() + 0.5
    diagonal = 0.2 + torch.rand(1, *shape, dtype=torch.float64)
    model = Curvature(symbol, diagonal, grid=grid)
    unscaled = Curvature(symbol, torch.ones(1, 1, *grid, dtype=torch.float64))
    inverse = torch.linalg.inv(dense(unscaled, 0, (1, *grid)))
    extend = torch.eye(grid[0] * grid[1], dtype=torch.float64).reshape(-1, *grid)
    extend = extend[:, :6, :7].reshape(-1, 42)
    root = (diagonal / diagonal.mean()).rsqrt().flatten()
    expected = root.unsqueeze(1) * (extend.T @ inverse @ extend) * root
    (applied,) = inverses(Preconditioner(model), shape, 1)
    torch.testing.assert_close(applied, expected, rtol=1e-10, atol=1e-12)
    assert torch.linalg.eigvalsh(applied)[0] > 0


def short_filter(size: tuple[int, ...]) -> Tensor:
    """Symmetric, five taps."""
    taps = torch.zeros(1, 1, *size, dtype=torch.float64)
    taps[..., 0, 0] = 5
    for row, column in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        taps[..., row, column] = 1
    return taps


def test_a_sum_is_on_the_grid_of_the_image_where_a_term_is_known_there_only() -> None:
    """A short filter is the same on both grids; a constant is known on all of them."""
    shape, grid, one = (1, 11, 13), (12, 14), torch.tensor(1.0).double()
    ones = torch.ones(1, *shape, dtype=torch.float64)
    own, other = (torch.fft.rfft2(short_filter(size)).real for size in (shape[1:], grid))
    padded = Curvature(other, ones, grid=grid)
    blur = Curvature(modelled(KINDS["gray"], shape, 1).symbol, ones)
    for total in (padded.plus(blur, one), blur.plus(padded, one)):
        assert total.grid is None
        torch.testing.assert_close(total.symbol, own + blur.symbol)
    constant = Curvature.constant(ones, 0.5)
    for total in (padded.plus(constant, one), constant.plus(padded, one)):
        assert total.grid == grid
        torch.testing.assert_close(total.symbol, other + 0.5)


@pytest.mark.parametrize("size", [(37, 41), (36, 40)])
def test_that_of_a_regularizer_is_on_a_fast_grid(size: tuple[int, int]) -> None:
    """And its preconditioner next to that on the image's own: they differ at the border only."""
    network = small_regularizer().network
    x = torch.rand(1, 1, *size, dtype=torch.float64)
    model = Evaluation(network, 0.1).curvature(x)
    assert model is not None
    assert model.grid == (None if fast_grid(size) == size else fast_grid(size))
    total = model.plus(Curvature.constant(x, 1.0), torch.tensor(1.0))
    assert total.grid == model.grid
    own = model.plus(
        Curvature(torch.ones(1, 1, size[0], size[1] // 2 + 1).double(), x), torch.tensor(0.0)
    )
    assert own.grid is None
    v = torch.zeros_like(x)
    v[..., 12:-12, 12:-12] = torch.randn(1, 1, size[0] - 24, size[1] - 24).double()
    shifted = Curvature(own.symbol + 1, total.diagonal)
    torch.testing.assert_close(
        Preconditioner(total)(v), Preconditioner(shifted)(v), rtol=1e-3, atol=1e-3
    )
