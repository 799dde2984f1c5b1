"""Size-preserving 2-D convolutions and their adjoints, with fast kernels on the CPU.

`analysis` maps few channels to many and is fast as it stands. Its adjoint maps many channels to few,
where CPU libraries leave the vector units idle (they vectorise over output channels). `synthesis`
therefore computes a 4 x 4 block of pixels at once, as 16 output channels of a convolution with
stride 4, which is eight times faster for 64 to 1 channels. The two are each other's derivative, so
training and Hessian-vector products run on the fast forms as well.

With `bfloat16` the adjoint of float32 responses to 32, 64, ... filters multiplies in bfloat16, forward and
backward. Of a gradient `W^T s(W x)` this keeps 2 to 3 digits, enough for training: the responses `W x`,
where a pixel's own rounding would drown weak noise, stay float32. Five times faster on CPUs with matrix
units (AMX) and on GPUs. Not for results that carry a certificate. Autocast changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from convexreg.solvers.precision import without_autocast

_BLOCK = 4
_BFLOAT16_CHANNELS = 32
"""bfloat16 is used for multiples of this many channels: it gains little for others, and oneDNN's kernels
for AMX give wrong sums for 16 and 24 channels with a stride of 4 (found in torch 2.15)."""


def compose_kernels(kernels: Sequence[Tensor]) -> Tensor:
    """The kernel of `x -> kernels[-1] * ... * kernels[0] * x`, correlations applied left to right."""
    composed = kernels[0]
    for kernel in kernels[1:]:
        composed = functional.conv2d(
            composed.transpose(0, 1), kernel.flip(2, 3), padding=kernel.shape[-1] - 1
        ).transpose(0, 1)
    return composed


def analysis(x: Tensor, kernel: Tensor, padding: str, *, bfloat16: bool = False) -> Tensor:
    """`W x`: `(B, C_in, H, W)` to `(B, C_out, H, W)`, kernel `(C_out, C_in, k, k)` with `k` odd.

    :param bfloat16: for its derivative.
    :raises ValueError: the image is smaller than the circular padding.
    """
    return _Analysis.apply(x, kernel, padding, bfloat16)


def synthesis(z: Tensor, kernel: Tensor, padding: str, *, bfloat16: bool = False) -> Tensor:
    """`W^T z`: `(B, C_out, H, W)` to `(B, C_in, H, W)`, the exact adjoint of `analysis`."""
    return _Synthesis.apply(z, kernel, padding, bfloat16)


def pad(x: Tensor, amount: int, padding: str, bottom: int = 0, right: int = 0) -> Tensor:
    """`x` `(B, C, H, W)` with a border of `amount` pixels, and more zeros at two sides.

    :raises ValueError: the image is smaller than the circular padding.
    """
    if padding == "circular":
        if amount > min(x.shape[-2:]):
            raise ValueError(
                f"circular padding of a kernel of size {2 * amount + 1} needs images of at least "
                f"{amount} pixels a side, got {tuple(x.shape[-2:])}; use zero padding"
            )
        x = functional.pad(x, (amount,) * 4, mode="circular")
        amount = 0
    return functional.pad(x, (amount, amount + right, amount, amount + bottom))


def unpad(z: Tensor, amount: int, padding: str) -> Tensor:
    """The adjoint of `pad` with `amount` pixels, `(B, C, H + 2 amount, W + 2 amount)` to `(B, C, H, W)`."""
    inside = slice(amount, -amount or None)
    if padding == "circular" and amount:
        z = z.clone()
        for line in (z, z.mT):
            line[..., amount : 2 * amount, :] += line[..., -amount:, :]
            line[..., -2 * amount : -amount, :] += line[..., :amount, :]
    return z[..., inside, inside].contiguous()


def _correlate(x: Tensor, kernel: Tensor, padding: str) -> Tensor:
    half = kernel.shape[-1] // 2
    if padding == "circular":
        return functional.conv2d(pad(x, half, padding), kernel)
    return functional.conv2d(x, kernel, padding=half)


def _correlate_adjoint(z: Tensor, kernel: Tensor, padding: str, bfloat16: bool) -> Tensor:
    if bfloat16 and z.dtype == torch.float32 and z.shape[1] % _BFLOAT16_CHANNELS == 0:
        coarse = _correlate_adjoint(z.bfloat16(), kernel.bfloat16(), padding, False)
        return coarse.to(z.dtype)
    size, in_channels = kernel.shape[-1], kernel.shape[1]
    flipped = kernel.flip(2, 3).transpose(0, 1)
    height, width = z.shape[-2:]
    if z.device.type != "cpu" or in_channels > _BLOCK or min(height, width) < 2 * _BLOCK:
        return _correlate(z, flipped, padding)
    blocks = kernel.new_zeros(
        in_channels, _BLOCK, _BLOCK, kernel.shape[0], size + _BLOCK - 1, size + _BLOCK - 1
    )
    for row in range(_BLOCK):
        for column in range(_BLOCK):
            blocks[:, row, column, :, row : row + size, column : column + size] = flipped
    padded = pad(z, size // 2, padding, -height % _BLOCK, -width % _BLOCK)
    pixels = functional.conv2d(
        padded.contiguous(memory_format=torch.channels_last), blocks.flatten(0, 2), stride=_BLOCK
    )
    return functional.pixel_shuffle(pixels, _BLOCK)[..., :height, :width].contiguous()


def _kernel_gradient(x: Tensor, z: Tensor, kernel: Tensor, padding: str) -> Tensor:
    """Gradient of `<W x, z>` in the kernel."""
    half = kernel.shape[-1] // 2
    if padding == "circular":
        return conv2d_weight(pad(x, half, padding), list(kernel.shape), z)
    return conv2d_weight(x, list(kernel.shape), z, padding=half)


class _Analysis(torch.autograd.Function):
    @staticmethod
    @without_autocast
    def forward(ctx, x: Tensor, kernel: Tensor, padding: str, bfloat16: bool) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.padding, ctx.bfloat16 = padding, bfloat16
        return _correlate(x, kernel, padding)

    @staticmethod
    @without_autocast
    def backward(ctx, grad_output: Tensor):
        x, kernel = ctx.saved_tensors
        grad_x = grad_kernel = None
        if ctx.needs_input_grad[0]:
            grad_x = _Synthesis.apply(grad_output, kernel, ctx.padding, ctx.bfloat16)
        if ctx.needs_input_grad[1]:
            grad_kernel = _kernel_gradient(x, grad_output, kernel, ctx.padding)
        return grad_x, grad_kernel, None, None


class _Synthesis(torch.autograd.Function):
    @staticmethod
    @without_autocast
    def forward(ctx, z: Tensor, kernel: Tensor, padding: str, bfloat16: bool) -> Tensor:
        ctx.save_for_backward(z, kernel)
        ctx.padding, ctx.bfloat16 = padding, bfloat16
        return _correlate_adjoint(z, kernel, padding, bfloat16)

    @staticmethod
    @without_autocast
    def backward(ctx, grad_output: Tensor):
        z, kernel = ctx.saved_tensors
        grad_z = grad_kernel = None
        if ctx.needs_input_grad[0]:
            grad_z = _Analysis.apply(grad_output, kernel, ctx.padding, ctx.bfloat16)
        if ctx.needs_input_grad[1]:
            grad_kernel = _kernel_gradient(grad_output, z, kernel, ctx.padding)
        return grad_z, grad_kernel, None, None
