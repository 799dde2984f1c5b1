"""A network at a noise level, ready to be evaluated on image after image."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from convexreg.networks import tiling
from convexreg.networks.base import GradientNetwork, Sigma
from convexreg.networks.blocks import BlockNetwork, from_blocks, in_blocks
from convexreg.networks.colour import colour_transform, in_colour, in_planes
from convexreg.networks.colour_network import ColourNetwork
from convexreg.networks.modular import GradientModule
from convexreg.networks.operators import Convolution
from convexreg.networks.strips import Strips
from convexreg.solvers.curvature import Curvature, fast_grid

_STEP = 4
"""The curvature is looked at on every so many rows and columns: it varies slowly, and only preconditions."""
_LARGE = 2**22
"""Pixels of an image for which twice the step will do: responses to all filters take much memory."""


class Evaluation:
    """Potential and gradient of a network at fixed noise levels, by the fastest way that there is.

    Sums of modules run on strips (`networks.strips`), other networks tile by tile (`networks.tiling`), with
    the same result to rounding. What is derived from the parameters is kept: after changing them make a new
    one. Evaluations that are differentiated run as a whole, from the parameters as they are.

    :param network: on images `(B, C, H, W)`.
    :param sigma: one noise level or one per image.
    """

    def __init__(self, network: GradientNetwork, sigma: Sigma) -> None:
        self.network, self.sigma = network, sigma
        self._parts = [
            (part, Evaluation(part.network, part.level(sigma)))
            for part in (network.parts if isinstance(network, ColourNetwork) else ())
        ]
        # of blocks of pixels what is on the blocks
        self._of_blocks = (
            Evaluation(network.network, sigma) if isinstance(network, BlockNetwork) else None
        )
        self._strips: dict[int, list[tuple[Tensor | float, Strips]]] = {}
        self._modules: list[tuple[Tensor | float, GradientModule]] = []
        summands = network.summands()
        for coefficient, summand in summands:
            if isinstance(summand, GradientModule) and Strips.takes(summand):
                self._modules.append((coefficient, summand))
        self._in_strips = len(self._modules) == len(summands)

    def value_and_grad(
        self, x: Tensor, *, value: bool = True, grad: bool = True
    ) -> tuple[Tensor | None, Tensor | None]:
        """Potential, `(B,)` in float64, and gradient in the shape of `x`; those asked for."""
        if tiling.differentiated(self.network, x):
            return tiling.whole(self.network, x, self.sigma, value, grad)
        if self._parts:
            return self._of_parts(x, value, grad)
        if self._of_blocks is not None:
            block = self.network.block
            total, grad_of_blocks = self._of_blocks.value_and_grad(
                in_blocks(x, block), value=value, grad=grad
            )
            if grad_of_blocks is None:
                return total, None
            return total, from_blocks(grad_of_blocks, block, (x.shape[-2], x.shape[-1]))
        if not self._in_strips:
            return tiling.value_and_grad(self.network, x, self.sigma, value=value, grad=grad)
        total = x.new_zeros(x.shape[0], dtype=torch.float64) if value else None
        gradient = torch.zeros_like(x) if grad else None
        for number, image in enumerate(x.unbind(0)):
            for coefficient, strips in self._of_image(number, x):
                its_value, its_grad = strips.value_and_grad(image, value=value, grad=grad)
                if total is not None and its_value is not None:
                    total[number] += coefficient * its_value
                if gradient is not None and its_grad is not None:
                    gradient[number] += coefficient * its_grad
        return total, gradient

    def _of_parts(self, x: Tensor, value: bool, grad: bool) -> tuple[Tensor | None, Tensor | None]:
        planes = in_planes(x)
        total = x.new_zeros(x.shape[0], dtype=torch.float64) if value else None
        gradient = torch.empty_like(planes) if grad else None
        for part, evaluation in self._parts:
            z = part.of(planes)
            its_value, its_grad = evaluation.value_and_grad(z, value=value, grad=grad)
            if total is not None and its_value is not None:
                total += part.coefficient * its_value
            if gradient is not None and its_grad is not None:
                gradient[:, part.planes] = part.coefficient / part.contrast * its_grad
        return total, None if gradient is None else in_colour(gradient)

    def _of_image(self, number: int, x: Tensor) -> list[tuple[Tensor | float, Strips]]:
        """The modules for one image, the same for all if levels and weights are."""
        levels = self.sigma.reshape(-1) if isinstance(self.sigma, Tensor) else self.sigma
        several = isinstance(levels, Tensor) and levels.numel() > 1
        fields = [m.conditioning.spatial for _, m in self._modules if m.conditioning is not None]
        own = several or any(field is not None and field.shape[0] > 1 for field in fields)
        key = number if own else 0
        if key not in self._strips:
            level = levels[key] if isinstance(levels, Tensor) and several else levels
            index = torch.tensor([key], device=x.device)
            self._strips[key] = [
                (coefficient, Strips(cast("GradientModule", module.part(index)), level))
                for coefficient, module in self._modules
            ]
        return self._strips[key]

    @torch.no_grad()
    def curvature(self, x: Tensor) -> Curvature | None:
        """Model of the Jacobian at `x`; `None` where there is none.

        From every fourth row and column, every eighth of large images. The circulant part has
        the mean curvature of every channel.
        """
        if self._parts:
            return self._curvature_of_parts(x)
        grid, block, network = (x.shape[-2], x.shape[-1]), 1, self.network
        if isinstance(network, BlockNetwork):
            block, network = network.block, network.network
            x = in_blocks(x, block)
        step = _STEP if min(x.shape[-2:]) >= 8 * _STEP else 1
        step = 2 * step if x.shape[-2] * x.shape[-1] >= _LARGE else step
        parts = network.curvatures(x, self.sigma, step)
        if parts is None:
            return None
        # folding the symbol back needs grids larger than the filters' autocorrelations
        fast = fast_grid(grid) if min(grid) >= 8 * _STEP else grid
        symbol, diagonal = x.new_zeros(()), x.new_zeros(())
        for operator, curvatures in parts:
            if not isinstance(operator, Convolution):
                return None
            symbol = symbol + operator.normal_symbol(curvatures.mean((2, 3)), fast)
            diagonal = diagonal + operator.normal_diagonal(curvatures, step)
        if step * block > 1:
            diagonal = nn.functional.interpolate(diagonal, grid, mode="bilinear")
        # responses of one pixel in so many, and their adjoint from fewer places still
        own = None if fast == grid else fast
        return Curvature(symbol, diagonal, evaluations=1 / step**2, grid=own)

    def _curvature_of_parts(self, x: Tensor) -> Curvature | None:
        planes, symbols, diagonals, cost, grid = in_planes(x), [], [], 0.0, None
        for part, evaluation in self._parts:
            z = part.of(planes)
            model = evaluation.curvature(z)
            if model is None:
                return None
            for models, its in ((symbols, model.symbol), (diagonals, model.diagonal)):
                models.append(its.expand(-1, z.shape[1], -1, -1) / part.ratio**2)
            cost, grid = max(cost, model.evaluations), model.grid
        basis = colour_transform(x.dtype, x.device)
        return Curvature(
            torch.cat(symbols, 1), torch.cat(diagonals, 1), basis=basis, evaluations=cost, grid=grid
        )
