"""Bounds of the baselines, where the theorem behind each of their parts is attained."""

from __future__ import annotations

import pytest
import torch

from benchmarks.papers.icnn import ICNN
from convexreg.models.convolutional_icnn import ConvolutionalICNN
from tests.oracles import jacobian
from tests.tables import perturbed


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_bound_of_one_unit_is_the_curvature_in_its_middle(depth: int) -> None:
    """`softplus(u x)` has curvature `u^2 / 4` at zero; all layers but the last are switched off."""
    network = perturbed(ICNN(1, [1] * depth))
    for raw in network.raw_mixings[:-1]:
        raw.fill_(-60)  # softplus(-60) is zero to rounding
    skip = network.skips[-1]
    middle = -skip.bias / skip.weight
    curvature = jacobian(network, middle).squeeze()
    torch.testing.assert_close(network.lipschitz(), curvature, rtol=1e-9, atol=0)


def test_the_bound_of_a_convolutional_network_counts_the_curvature_of_its_first_layer() -> None:
    """Where the second layer is linear, all curvature is that of the units below it."""
    network = perturbed(ConvolutionalICNN((1, 3, 4), (3, 1), smoothing=0.1), 0.0)
    network.raw_second.fill_(-4)  # small, so that the square of its norm is much smaller
    network.first_bias.fill_(0.05)
    network.second_bias.fill_(1)
    hessian = jacobian(network, torch.zeros(1, 1, 5, 6).double())
    largest = torch.linalg.eigvalsh(hessian)[-1]
    for size in ((5, 6), None):
        assert largest <= network.lipschitz(size) <= 2 * largest
