"""The bound of the input convex network, where the theorem behind each of its parts is attained."""

from __future__ import annotations

import torch

from convexreg.models.convolutional_icnn import ConvolutionalICNN
from tests.oracles import jacobian
from tests.tables import perturbed


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
