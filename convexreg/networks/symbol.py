"""The symbol of a convolution: its eigenvalues on periodic grids, and their supremum.

`M(w) = sum_c s_c w_c^(w)^* w_c^(w)`, `C_in x C_in`, is the weighted symbol of the kernels `w_c`.

From a grid to all frequencies. For unit `v`, `p = v^* M v` is a nonnegative trigonometric polynomial of
degree `n` per axis (kernels of `n + 1` pixels). Along one axis let `p(t*) = S` be its supremum. Then
`q = p - S / 2` has `|q| <= S / 2 = q(t*)`, so that `q(t) >= (S / 2) cos(n (t - t*))` where
`n |t - t*| <= pi` (M. Riesz 1914, Eine trigonometrische Interpolationsformel und einige Ungleichungen fuer
Polynome), that is `p(t) >= S cos^2(n (t - t*) / 2)`. Of `N > n` equidistant points one is within `pi / N` of
`t*`: the supremum is at most the grid's maximum over `cos^2(pi n / (2 N))`. In two dimensions this holds
axis by axis, with `v` fixed where the supremum is attained: over `cos^4`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def transform(autocorrelation: Tensor, grid: tuple[int, int]) -> Tensor:
    """Transform of lags `-d .. d` per axis on the half grid `(H, W // 2 + 1)`, complex128."""
    degree = autocorrelation.shape[-1] // 2
    lags = torch.arange(-degree, degree + 1, dtype=torch.float64, device=autocorrelation.device)

    def waves(points: int, count: int) -> Tensor:
        frequencies = torch.arange(count, dtype=lags.dtype, device=lags.device)
        return torch.exp(-2j * math.pi / points * torch.outer(frequencies, lags))

    rows, columns = waves(grid[0], grid[0]), waves(grid[1], grid[1] // 2 + 1)
    return rows @ autocorrelation.to(torch.complex128) @ columns.mT


def symbol_maximum(
    kernel: Tensor, weights: Tensor | None = None, grid: tuple[int, int] | None = None
) -> Tensor:
    """Largest eigenvalue of the weighted symbol: exact on `grid`, a bound on the supremum without one.

    0-dim in float64, or `(B,)` with one row of weights per image; see above for the proof.
    Works on the autocorrelation `a[i, j] = sum_c s_c w_ci (*) w_cj`, whose Fourier transform is the
    symbol: one small matrix product per axis instead of a transform per channel.
    """
    kernel = kernel.double()
    size = kernel.shape[-1]
    scaled = kernel
    if weights is not None:
        scaled = kernel * weights.to(kernel)[..., None, None, None]
    # (..., C_in, C_in, 2 size - 1, 2 size - 1), the sum over output channels done by conv2d.
    lead = scaled.shape[:-4]
    flat = scaled.reshape(-1, *kernel.shape).transpose(1, 2)
    autocorrelation = torch.stack(
        [nn.functional.conv2d(kernel.transpose(0, 1), item, padding=size - 1) for item in flat]
    )
    degree = size - 1
    margin = 1.0
    if grid is None:
        points = max(16, (32 if kernel.shape[1] == 1 else 16) * degree)
        grid = (points, points)
        margin = math.cos(math.pi * degree / (2 * points)) ** -4
    # the symbol at -w is the transpose of the symbol at w: half of the grid is enough
    symbol = transform(autocorrelation, grid)
    if kernel.shape[1] == 1:
        eigenvalues = symbol.real.flatten(1).amax(1)
    else:
        eigenvalues = (
            torch.linalg.eigvalsh(symbol.permute(0, 3, 4, 1, 2))[..., -1].flatten(1).amax(1)
        )
    return margin * eigenvalues.reshape(lead)
