"""A gradient module at one noise level, evaluated on strips of rows of one image, on the CPU.

Evaluated as a whole, `W^T s(W x)` writes and reads memory for all filter responses of an image several
times, and the adjoint, from many channels to few, leaves the vector units idle. Here

- the scale of the noise conditioning and the weights of the terms are folded into two kernels, once;
- every response is computed once: the image is padded once, a strip's responses stay in the cache, the
  potential works on them in place, and their adjoint is added to the gradient of the padded image, whose
  border is folded back at the end (the adjoint of padding);
- channels are the fastest dimension in memory, and a convolution with `k x k` pixels is one with `1 x k`
  pixels of `k` channels, the rows above and below: matrix products of the right shape in both directions.

For float64 there are no such products behind torch's convolutions: certificates take the plain kernel and its
transpose, matrix products by another way.

The result is that of the module itself, to rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from convexreg.networks.base import Sigma
from convexreg.networks.convolution import pad, unpad
from convexreg.networks.modular import GradientModule
from convexreg.networks.operators import Convolution

_PIXELS = 16384
"""Of a strip: 32 float32 responses to each take two mebibytes, which two cores keep in their caches."""
_VECTOR = 16
"""Output channels of a convolution come in multiples of this many without waste."""


class Strips:
    """`sum_g w_g psi_g(s (W x + b))` and its gradient, of one image.

    :param module: one that `takes`.
    :param sigma: one noise level.
    """

    def __init__(self, module: GradientModule, sigma: Sigma) -> None:
        operator = module.operator
        assert isinstance(operator, Convolution)
        self.padding, self.potential = operator.padding, module.phi
        kernel = operator.kernel.detach()
        channels, inputs, self.size, _ = kernel.shape
        groups = self.potential.groups(channels)
        self.split = (channels // groups, groups)
        self.field: Tensor | None = None
        scale, self.weight = kernel.new_ones(channels), kernel.new_ones(groups)
        if module.conditioning is not None:
            factors = module.conditioning.uniform(sigma)
            scale, self.weight = (
                factor.detach().to(kernel.dtype).flatten().expand(count).contiguous()
                for factor, count in zip(factors, (channels, groups), strict=True)
            )
            field = module.conditioning.spatial
            if field is not None:  # rows, columns and groups of the one image
                self.field = field[0].detach().permute(1, 2, 0).contiguous()
        # members of a group lie one behind the other in a model, and one dimension apart here
        order = torch.arange(channels, device=kernel.device).view(groups, -1).mT.flatten()
        forwards = (scale.reshape(-1, 1, 1, 1) * kernel)[order]
        self.bias = None if module.bias is None else (scale * module.bias.detach())[order]
        backwards = self.weight.repeat(self.split[0]).reshape(-1, 1, 1, 1) * forwards
        self.plain = kernel.dtype == torch.float64
        if self.plain:
            self.forwards, self.backwards = forwards, backwards
            return
        rows = inputs * self.size
        transposed = kernel.new_zeros(-(-rows // _VECTOR) * _VECTOR, channels, 1, self.size)
        transposed[:rows, :, 0] = backwards.flip(3).permute(1, 2, 0, 3).flatten(0, 1)
        last = torch.channels_last
        self.forwards = forwards.reshape(channels, rows, 1, self.size).contiguous(
            memory_format=last
        )
        self.backwards = transposed.contiguous(memory_format=last)

    @staticmethod
    def takes(module: GradientModule) -> bool:
        """Whether the module is of the kind that can be evaluated like this."""
        operator = module.operator
        return (
            module.rho is None
            and module.phi.groupwise
            and isinstance(operator, Convolution)
            and (len(operator.kernels) == 1 or not operator.staged)
            and operator.kernels[0].device.type == "cpu"
        )

    @torch.no_grad()
    def value_and_grad(
        self, x: Tensor, *, value: bool = True, grad: bool = True
    ) -> tuple[Tensor | None, Tensor | None]:
        """Value, 0-dim in float64, and gradient in the shape of `x`, `(C, H, W)`; those asked for."""
        height, width = x.shape[1:]
        half, rows = self.size // 2, max(1, _PIXELS // width)
        padded = pad(x.unsqueeze(0), half, self.padding)[0].contiguous()
        total = x.new_zeros((), dtype=torch.float64)
        pulled = torch.zeros_like(padded)
        for first in range(0, height, rows):
            count = min(rows, height - first)
            u = self._responses(padded, first, count, width).unflatten(1, self.split)
            terms, force = self.potential.terms_and_grad(u)
            if self.field is not None:
                field = self.field[first : first + count].permute(2, 0, 1).to(terms.dtype)
                terms, force = terms.mul_(field), force.mul_(field)
            if value:
                here = terms[0].flatten(1).T
                total += torch.mv(here, self.weight).sum(dtype=torch.float64)
            if grad:
                self._pull(force.flatten(1, 2), pulled[:, first : first + count + self.size - 1])
        gradient = unpad(pulled.unsqueeze(0), half, self.padding)[0] if grad else None
        return (total if value else None), gradient

    def _pull(self, force: Tensor, pulled: Tensor) -> None:
        """Add the adjoint of the responses to the rows that they come from."""
        if self.plain:
            pulled += functional.conv_transpose2d(force, self.backwards)[0]
            return
        inputs, count = pulled.shape[0], force.shape[2]
        parts = functional.conv2d(force, self.backwards, padding=(0, self.size - 1))
        parts = parts[0, : inputs * self.size].contiguous().unflatten(0, (inputs, -1))
        for row in range(self.size):
            pulled[:, row : row + count] += parts[:, row]

    def _responses(self, padded: Tensor, first: int, count: int, width: int) -> Tensor:
        """`s (W x + b)` on some rows, `(1, channels, count, width)`."""
        if self.plain:
            around = padded[:, first : first + count + self.size - 1].unsqueeze(0)
            return functional.conv2d(around, self.forwards, self.bias)
        inputs, _, wide = padded.shape
        plane, row, _ = padded.stride()
        # rows, columns, inputs and, once more, the rows of the kernel
        shape, strides = (count, wide, inputs, self.size), (row, 1, plane, row)
        around = padded.as_strided(shape, strides, first * row).reshape(count, wide, -1)
        return functional.conv2d(around.permute(2, 0, 1).unsqueeze(0), self.forwards, self.bias)
