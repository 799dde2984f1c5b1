"""Two-layer convolutional input convex neural network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from convexreg.networks.base import GradientNetwork, Sigma
from convexreg.networks.convolution import analysis, synthesis
from convexreg.networks.operators import Convolution, Reach, round_up
from convexreg.networks.potentials import per_channel
from convexreg.networks.symbol import symbol_maximum


class ConvolutionalICNN(GradientNetwork):
    """`R(x) = sum_c w_c s(A s(U x + b) + c)_c` with `A, w >= 0`, summed over pixels.

    `s` is the positive part, smoothed: `s(t) = t^2 / (2 e)` on `[0, e]`, `t - e / 2` above, zero below.
    It is convex and nondecreasing, so every unit is convex (Amos, Xu & Kolter 2017, Prop. 1). `U`
    has zero-mean kernels; all convolutions pad by zeros.

    :param channels: of the image, the first and the second layer.
    :param kernel_sizes: of `U` and `A`, odd.
    :param smoothing: `e`, positive.
    """

    def __init__(
        self, channels: tuple[int, int, int], kernel_sizes: tuple[int, int], *, smoothing: float
    ) -> None:
        super().__init__()
        image, hidden, top = channels
        size = kernel_sizes[1]
        self.smoothing = smoothing
        self.first = Convolution((image, hidden), kernel_sizes[:1])
        self.first_bias = nn.Parameter(torch.zeros(hidden, dtype=torch.float32))
        self.raw_second = nn.Parameter(
            torch.randn(top, hidden, size, size, dtype=torch.float32) * 0.1 - 10
        )
        self.second_bias = nn.Parameter(torch.zeros(top, dtype=torch.float32))
        self.log_weight = nn.Parameter(torch.zeros(top, dtype=torch.float32))

    @property
    def monotone(self) -> bool:
        return True

    @property
    def second(self) -> Tensor:
        """`A`, nonnegative, `(top, hidden, k, k)`."""
        return functional.softplus(self.raw_second)

    def _unit(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """`s(t)` and `s'(t)`."""
        slope = (t / self.smoothing).clamp(0, 1)
        return slope * (t - self.smoothing / 2 * slope), slope

    def density_and_grad(self, x: Tensor, sigma: Sigma = None) -> tuple[Tensor, Tensor]:
        del sigma
        u = self.first(x)
        hidden, hidden_slope = self._unit(u + per_channel(self.first_bias, u))
        second = self.second
        z = analysis(hidden, second, "zero")
        top, top_slope = self._unit(z + per_channel(self.second_bias, z))
        weight = per_channel(self.log_weight.exp(), z)
        back = synthesis(weight * top_slope, second, "zero")
        return (weight * top).sum(1), self.first.adjoint(hidden_slope * back)

    def forward(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        return self.density_and_grad(x, sigma)[1]

    def density(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        return self.density_and_grad(x, sigma)[0]

    def reach(self) -> Reach:
        radius = self.first.kernels[0].shape[-1] // 2 + self.raw_second.shape[-1] // 2
        return Reach(2 * radius, circular=False)

    def lipschitz(self, image_size: tuple[int, int] | None = None, sigma: Sigma = None) -> Tensor:
        """`||U||^2 / e * ( max_c w_c ||A||^2 + max_c (A^T w)_c )`.

        The Hessian is `U^T [ D_1 A^T Diag(w s'') A D_1 + Diag(s'' (A^T (w s'))) ] U` with
        `0 <= D_1, s' <= 1` and `0 <= s'' <= 1 / e`.
        """
        del sigma
        second, weight = self.second.double(), self.log_weight.double().exp()
        spread = torch.einsum("o,oihw->i", weight, second).max()
        norms = symbol_maximum(second) * weight.max() + spread
        first = self.first.squared_norm(image_size=image_size)
        return first * round_up(norms / self.smoothing, first.dtype)
