"""Linear operators `W` with exact adjoints and proven bounds on `||W||^2`.

Every network of the package is built from `W x` and `W^T z`; every step size from `squared_norm`.
The channel dimension is always dimension 1, so the same networks run on vectors `(B, n)` and on
images `(B, C, H, W)`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from convexreg.networks.convolution import analysis, compose_kernels, pad, synthesis
from convexreg.networks.symbol import symbol_maximum, transform

Padding = Literal["circular", "zero"]


@dataclass(frozen=True)
class Reach:
    """What of an image the result at a pixel depends on.

    :ivar radius: how many pixels away it looks.
    :ivar circular: whether the image continues periodically beyond its border, or by zeros.
    """

    radius: int
    circular: bool


class LinearOperator(nn.Module, ABC):
    """A linear map `W` from `in_channels` to `out_channels` channels."""

    in_channels: int
    out_channels: int

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """`W x`, `(B, in_channels, ...)` to `(B, out_channels, ...)`."""

    @abstractmethod
    def adjoint(self, z: Tensor) -> Tensor:
        """`W^T z`, `(B, out_channels, ...)` to `(B, in_channels, ...)`."""

    @abstractmethod
    def squared_norm(
        self, weights: Tensor | None = None, image_size: tuple[int, int] | None = None
    ) -> Tensor:
        """Proven upper bound on the largest eigenvalue of `W^T Diag(weights) W`.

        :param weights: nonnegative, `(out_channels,)` or one row per image `(B, out_channels)`;
            ones when omitted. With `weights` the channelwise curvature of a potential, the result
            bounds the Lipschitz constant of `x -> W^T s(W x)`.
        :param image_size: `(H, W)`, for bounds that hold on that grid only; without it the bound
            holds for every image size.
        :return: 0-dim tensor, or `(B,)` with one row of weights per image. Differentiable.
        """

    def sampled(self, x: Tensor, step: int) -> Tensor:
        """`W x` on every `step`-th row and column of images, from half a step on; all of it for step one."""
        if step == 1:
            return self(x)
        rows, columns = (places(length, step, x.device) for length in x.shape[-2:])
        return self(x).index_select(-2, rows).index_select(-1, columns)

    def reach(self) -> Reach | None:
        """What `W x` at a pixel depends on; `None` for everything."""
        return None


def places(length: int, step: int, device: torch.device) -> Tensor:
    """The rows, or columns, of `LinearOperator.sampled`, integers."""
    return torch.arange(step // 2, length, step, device=device)


def round_up(bound: Tensor, dtype: torch.dtype) -> Tensor:
    """Cast a float64 bound to `dtype` without letting rounding bring it below the exact value."""
    return (bound * (1 + 4 * torch.finfo(dtype).eps + 1e-12)).to(dtype)


class Dense(LinearOperator):
    """`W` as a matrix `(out_channels, in_channels)` on vectors `(B, in_channels)`.

    `squared_norm` is the exact largest eigenvalue of the Gram matrix (symmetric eigenvalue
    solver, backward stable), rounded up.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        bound = 1 / math.sqrt(in_channels)
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels, dtype=torch.float32).uniform_(-bound, bound)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.mT

    def adjoint(self, z: Tensor) -> Tensor:
        return z @ self.weight

    def squared_norm(
        self, weights: Tensor | None = None, image_size: tuple[int, int] | None = None
    ) -> Tensor:
        del image_size
        matrix = self.weight.double()
        if weights is not None:
            matrix = matrix * weights.to(matrix).sqrt().unsqueeze(-1)
        gram = matrix.mT @ matrix if matrix.shape[-1] <= matrix.shape[-2] else matrix @ matrix.mT
        return round_up(torch.linalg.eigvalsh(gram)[..., -1], self.weight.dtype)


class Convolution(LinearOperator):
    """A chain of 2-D convolutions with odd kernels that keeps the image size.

    :param channels: `(C_0, C_1, ..., C_K)`, one entry more than there are kernels.
    :param kernel_sizes: odd, one per convolution.
    :param padding: `"zero"` or `"circular"`.
    :param zero_mean: make every kernel of the first convolution sum to zero, so that constants
        are in the null space of `W` (away from the border with zero padding).
    :param block: the input channels are the pixels of blocks of so many a side (`networks.blocks`), over
        which kernels sum to zero together.
    :param staged: apply the convolutions one after the other, padding before each. By default the
        chain is materialised as one kernel and padded once; with circular padding both are the
        same operator.
    :ivar in_bfloat16: multiply the adjoint in bfloat16, see `convexreg.networks.convolution`; off.

    Bounds (`squared_norm`). Let `M(w) = sum_c s_c w_c^(w)^* w_c^(w)`, `C_0 x C_0`, be the weighted
    symbol of the materialised kernel.

    - Circular padding, size given: the operator is block-diagonalised by the DFT of that grid, so
      the largest eigenvalue of `M` over the grid is *exact* (Sedghi, Gupta & Long 2019, Thm 6).
    - Otherwise: extending by zeros and restricting are contractions, so `sup_w lambda_max(M(w))` is a
      bound, and what bounds it from a grid is proven in `convexreg.networks.symbol`.
    - Zero padding before every stage: the stages do not commute with the restrictions, the symbol
      of the composition proves nothing, and the product of the stages' bounds is used.
    """

    def __init__(
        self,
        channels: Sequence[int],
        kernel_sizes: Sequence[int],
        *,
        padding: Padding = "zero",
        zero_mean: bool = True,
        staged: bool = False,
        block: int = 1,
    ) -> None:
        super().__init__()
        if len(channels) != len(kernel_sizes) + 1 or len(kernel_sizes) < 1:
            raise ValueError(
                f"a chain of {len(kernel_sizes)} convolutions needs {len(kernel_sizes) + 1} channel "
                f"counts, got {list(channels)}"
            )
        if any(size < 1 or size % 2 == 0 for size in kernel_sizes):
            raise ValueError(f"kernel sizes must be odd, got {list(kernel_sizes)}")
        if padding not in ("zero", "circular"):
            raise ValueError(f'padding must be "zero" or "circular", got {padding!r}')
        self.in_channels, self.out_channels = channels[0], channels[-1]
        self.padding, self.zero_mean, self.staged = padding, zero_mean, staged
        self.block = block
        self.in_bfloat16 = False
        self.kernels = nn.ParameterList(
            torch.randn(after, before, size, size, dtype=torch.float32) / (size * math.sqrt(before))
            for before, after, size in zip(channels, channels[1:], kernel_sizes, strict=False)
        )

    @property
    def stages(self) -> list[Tensor]:
        """The kernels as applied, `(C_k, C_{k-1}, size, size)` each."""
        kernels = list(self.kernels)
        if self.zero_mean:
            blocks = kernels[0].unflatten(1, (-1, self.block**2))
            kernels[0] = (blocks - blocks.mean((2, 3, 4), keepdim=True)).flatten(1, 2)
        return kernels

    @property
    def kernel(self) -> Tensor:
        """The chain as one kernel `(out_channels, in_channels, size, size)`."""
        return compose_kernels(self.stages)

    def forward(self, x: Tensor) -> Tensor:
        for kernel in self.stages if self.staged else [self.kernel]:
            x = analysis(x, kernel, self.padding, bfloat16=self.in_bfloat16)
        return x

    def sampled(self, x: Tensor, step: int) -> Tensor:
        if step == 1 or (self.staged and len(self.kernels) > 1):
            return super().sampled(x, step)
        kernel = self.kernel
        padded = pad(x, kernel.shape[-1] // 2, self.padding)
        return nn.functional.conv2d(padded[..., step // 2 :, step // 2 :], kernel, stride=step)

    def adjoint(self, z: Tensor) -> Tensor:
        for kernel in reversed(self.stages) if self.staged else [self.kernel]:
            z = synthesis(z, kernel, self.padding, bfloat16=self.in_bfloat16)
        return z

    def squared_norm(
        self, weights: Tensor | None = None, image_size: tuple[int, int] | None = None
    ) -> Tensor:
        *first, last = self.stages if self.staged and self.padding == "zero" else [self.kernel]
        grid = image_size if self.padding == "circular" else None
        bound = symbol_maximum(last, weights, grid)
        for kernel in first:
            bound = bound * symbol_maximum(kernel)
        return round_up(bound, last.dtype)

    def reach(self) -> Reach:
        radius = sum(kernel.shape[-1] // 2 for kernel in self.kernels)
        return Reach(radius, self.padding == "circular")

    def normal_symbol(self, weights: Tensor, grid: tuple[int, int]) -> Tensor:
        """Eigenvalues of the circulant `W^T Diag(weights) W` on a grid, `(B, 1, H, W // 2 + 1)`.

        :param weights: one per image and channel, `(B, out_channels)`. Input channels share the average.
        :param grid: of pixels, also where the channels are those of blocks: the average over their places in
            a block is circulant.
        """
        kernel = nn.functional.pixel_shuffle(self.kernel.detach(), self.block) / self.block
        size = kernel.shape[-1]
        scaled = torch.einsum("bo,oihw->boihw", weights, kernel).flatten(1, 2)
        autocorrelation = nn.functional.conv2d(
            kernel.flatten(0, 1).unsqueeze(0), scaled, padding=size - 1
        ).transpose(0, 1)
        symbol = transform(autocorrelation, grid).real / kernel.shape[1]
        return symbol.clamp_min(0).to(weights.dtype)

    def normal_diagonal(self, weights: Tensor, step: int = 1) -> Tensor:
        """`sum_c weights_c * w_c^2`, `(B, 1, H, W)`, the average over input channels.

        :param step: of the rows and columns that `weights` are for; about the diagonal at these then.
        """
        squares = self.kernel.detach().square().mean(1, keepdim=True)
        half = squares.shape[-1] // 2
        radius = (half + step // 2) // step  # of the kernel in steps
        before, blocks = radius * step + step // 2 - half, 2 * radius + 1
        after = blocks * step - before - squares.shape[-1]
        squares = nn.functional.pad(squares, (before, after) * 2)
        squares = squares.unflatten(3, (blocks, step)).unflatten(2, (blocks, step)).sum((3, 5))
        return synthesis(weights, squares, self.padding)
