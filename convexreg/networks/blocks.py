"""Networks on blocks of pixels: coarser filters, for what varies slowly.

The pixels of a block are the channels of one position (Shi et al. 2016, "sub-pixel" convolutions). A
convolution with `k x k` blocks is one with `k block x k block` pixels, with responses at every `block`-th row
and column only, and costs `block^2` times less.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from convexreg.networks.base import GradientNetwork, Sigma, replaced
from convexreg.networks.operators import Reach


def in_blocks(x: Tensor, block: int) -> Tensor:
    """`(B, C, H, W)` to `(B, C block^2, h, w)`, with zeros where the last blocks go beyond the border."""
    height, width = x.shape[-2:]
    whole = functional.pad(x, (0, -width % block, 0, -height % block))
    blocks = whole.unflatten(3, (-1, block)).unflatten(2, (-1, block))
    return blocks.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


def from_blocks(z: Tensor, block: int, size: tuple[int, int]) -> Tensor:
    """The adjoint of `in_blocks` for images of that size, and its inverse on their blocks."""
    pixels = z.unflatten(1, (-1, block, block)).permute(0, 1, 4, 2, 5, 3)
    return pixels.flatten(4, 5).flatten(2, 3)[..., : size[0], : size[1]]


def repeated(z: Tensor, block: int, size: tuple[int, int]) -> Tensor:
    """A number per block `(B, C, h, w)` at all of its pixels, `(B, C, *size)`."""
    pixels = z.repeat_interleave(block, -2).repeat_interleave(block, -1)
    return pixels[..., : size[0], : size[1]]


class BlockNetwork(GradientNetwork):
    """`x -> B^T g(B x)`, `B` what takes an image to its blocks.

    `B` moves pixels and appends zeros: `B^T B` is the identity, so that the bounds of `g` hold. What others
    have at every pixel there is once a block: a density at its first pixel, magnitudes repeated. Of weights
    those of its first pixel count.

    :param network: `g`, on images of `C block^2` channels.
    :param block: side of the blocks.
    :raises ValueError: circular padding, which images of other sizes than whole blocks do not have.
    """

    def __init__(self, network: GradientNetwork, block: int) -> None:
        super().__init__()
        there = network.reach()
        if there is not None and there.circular:
            raise ValueError("blocks continue beyond the border of an image by zeros only")
        self.network, self.block = network, block

    @property
    def monotone(self) -> bool:
        return self.network.monotone

    def forward(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        grad = self.network(in_blocks(x, self.block), sigma)
        return from_blocks(grad, self.block, _size(x))

    def density(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        return self._spread(self.network.density(in_blocks(x, self.block), sigma), x)

    def density_and_grad(self, x: Tensor, sigma: Sigma = None) -> tuple[Tensor, Tensor]:
        density, grad = self.network.density_and_grad(in_blocks(x, self.block), sigma)
        return self._spread(density, x), from_blocks(grad, self.block, _size(x))

    def _spread(self, density: Tensor, x: Tensor) -> Tensor:
        spread = density.new_zeros(x.shape[0], *x.shape[2:])
        spread[:, :: self.block, :: self.block] = density
        return spread

    def reach(self) -> Reach | None:
        there = self.network.reach()
        if there is None:
            return None
        return Reach((there.radius + 1) * self.block - 1, there.circular)

    def lipschitz(self, image_size: tuple[int, int] | None = None, sigma: Sigma = None) -> Tensor:
        del image_size  # it matters with circular padding only
        return self.network.lipschitz(None, sigma)

    def strong_convexity(self) -> Tensor:
        return self.network.strong_convexity()

    @property
    def terms(self) -> int:
        return self.network.terms

    def magnitudes(self, x: Tensor, sigma: Sigma = None) -> Tensor:
        sizes = self.network.magnitudes(in_blocks(x, self.block), sigma)
        return repeated(sizes, self.block, _size(x))

    def with_weights(self, weights: Tensor) -> GradientNetwork:
        # a copy, so that those of the other pixels can be freed
        there = self.network.with_weights(weights[..., :: self.block, :: self.block].clone())
        return replaced(self, network=there)

    def part(
        self, images: Tensor, rows: Tensor | None = None, columns: Tensor | None = None
    ) -> GradientNetwork:
        """Parts of images begin with a block."""
        rows, columns = (
            None if index is None else index[:: self.block] // self.block
            for index in (rows, columns)
        )
        there = self.network.part(images, rows, columns)
        return self if there is self.network else replaced(self, network=there)


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]
