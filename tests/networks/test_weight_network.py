"""Weight networks that work on blocks of pixels: sizes, reach and tiles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convexreg.networks import tiling
from convexreg.networks.modular import GradientModule
from convexreg.networks.operators import Convolution, Padding
from convexreg.networks.potentials import PooledNorm
from convexreg.networks.weight_network import WeightNetwork
from tests.tables import perturbed

BLOCKS = pytest.mark.parametrize("block", [1, 2, 3])


def random_network(block: int, terms: int = 2, width: int = 8) -> WeightNetwork:
    """With limits so wide that weights follow what the convolutions say."""
    network = WeightNetwork(terms, width=width, block=block, limits=(1e-6, 1e6))
    return perturbed(network, 0.2)


def magnitudes(*shape: int) -> Tensor:
    return 3 * torch.rand(*shape, dtype=torch.float64)


@BLOCKS
@pytest.mark.parametrize("size", [(1, 1), (5, 4), (7, 9), (12, 6)], ids=str)
def test_sizes_that_do_not_divide_are_continued_by_zeros(size: tuple[int, int], block: int) -> None:
    """The weights of an image are those of a larger one that is zero beyond it, up to whole blocks."""
    network = random_network(block)
    t = magnitudes(2, 2, *size)
    sigma = torch.tensor([0.05, 0.2]).double()
    weights = network(t, sigma)
    assert weights.shape == t.shape
    assert bool((weights > 0).all())
    height, width = (-(-length // block) * block for length in size)
    larger = torch.zeros(2, 2, height, width).double()
    larger[..., : size[0], : size[1]] = t
    expected = network(larger, sigma)[..., : size[0], : size[1]]
    torch.testing.assert_close(weights, expected, rtol=1e-12, atol=0)
    for i in range(2):
        alone = network(t[i : i + 1], sigma[i])
        torch.testing.assert_close(alone, weights[i : i + 1], rtol=1e-12, atol=0)


@BLOCKS
def test_fresh_weights_are_those_of_the_classical_rule(block: int) -> None:
    """The last layer starts from zero, whatever the size of the blocks."""
    network = WeightNetwork(3, width=8, block=block, slope=0.2, gain=1.5, limits=(1e-6, 1e6))
    t = magnitudes(2, 3, 7, 8)
    torch.testing.assert_close(network.double()(t, 0.1), 1.5 / (1 + 0.2 * t), rtol=2e-3, atol=0)


@BLOCKS
def test_a_pixel_reaches_the_blocks_within_the_radius_of_its_own(block: int) -> None:
    """And all of these: the receptive field is a square."""
    network = random_network(block, width=16)
    assert network.radius % block == 0
    side = 2 * network.radius + 5 * block
    t = magnitudes(1, 2, side, side)
    before = network(t, 0.1)
    for row, column in ((side // 2, side // 2), (side // 2 + 1, side // 2 - 1)):
        changed = t.clone()
        changed[0, :, row, column] += 2
        moved = ((network(changed, 0.1) - before)[0] != 0).any(0)
        expected = torch.zeros(side, side, dtype=torch.bool)
        first = [position // block * block - network.radius for position in (row, column)]
        last = [start + 2 * network.radius + block for start in first]
        expected[first[0] : last[0], first[1] : last[1]] = True
        assert not (moved & ~expected).any()
        rows, columns = (moved.any(1 - axis).nonzero().flatten() for axis in (0, 1))
        assert (int(rows[0]), int(rows[-1]) + 1) == (first[0], last[0])
        assert (int(columns[0]), int(columns[-1]) + 1) == (first[1], last[1])


@BLOCKS
@pytest.mark.parametrize("padding", ["zero", "circular"])
@pytest.mark.parametrize("side", [8, 11])
@pytest.mark.parametrize("size", [(65, 31), (33, 74)], ids=str)
def test_tiles_change_no_weight(
    size: tuple[int, int], side: int, padding: Padding, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although their margins, of as many blocks as the network sees, do not cover these images."""
    operator = Convolution((1, 4), (3,), padding=padding)
    module = perturbed(GradientModule(operator, PooledNorm(4, group_size=2), bias=False), 0.3)
    network = random_network(block)
    x, sigma = torch.rand(2, 1, *size).double(), torch.tensor([0.05, 0.2]).double()
    weights = tiling.weights(module, network, x, sigma)
    torch.testing.assert_close(weights, network(module.magnitudes(x, None), sigma))
    monkeypatch.setattr(tiling, "_SIDE", {"cpu": side})
    tiled = tiling.weights(module, network, x, sigma)
    torch.testing.assert_close(tiled, weights, rtol=1e-11, atol=0)


@BLOCKS
def test_bfloat16_is_near(block: int) -> None:
    network = random_network(block).float()
    t = magnitudes(1, 2, 9, 10).float()
    exact = network(t, 0.1)
    network.in_bfloat16 = True
    coarse = network(t, 0.1)
    assert coarse.dtype == torch.float32
    assert not torch.equal(coarse, exact)
    torch.testing.assert_close(coarse.log(), exact.log(), rtol=0.05, atol=0.1)


@pytest.mark.parametrize("options", [{"width": 0}, {"width": 4, "block": 0}], ids=str)
def test_networks_without_channels_or_pixels_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one channel and the blocks one pixel"):
        WeightNetwork(2, **options)
