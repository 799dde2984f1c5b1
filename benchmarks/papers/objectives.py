"""What networks are trained to minimise."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.papers.ensemble import Network
from benchmarks.papers.gaussian import normal_negative_log_density


def squared_error(network: Network, x: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over points and components."""
    return (network(x) - target).square().mean()


def absolute_error(network: Network, x: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error over points and components."""
    return (network(x) - target).abs().mean()


def relative_error(network: Network, x: Tensor, target: Tensor) -> Tensor:
    """Mean squared norm of the error; relative for fields of mean norm one."""
    return (network(x) - target).square().sum(-1).mean()


def change_of_variables(network: Network, x: Tensor) -> Tensor:
    """Mean of `-log N(g(x); 0, I) - log |det J(x)|`: the cross-entropy of the data and the model."""
    log_determinant = torch.linalg.slogdet(jacobian(network, x)).logabsdet
    return (normal_negative_log_density(network(x)) - log_determinant).mean()


def denoising_error(network: Network, noisy: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
    """Mean squared error of the denoiser `y - sigma^2 g(y)` (Vincent 2011; Tweedie's formula)."""
    return (noisy - sigma**2 * network(noisy) - clean).square().mean()


def jacobian(network: Network, x: Tensor) -> Tensor:
    """`J(x)` of a network at every point, `(B, d)` to `(B, d, d)`."""
    return torch.func.vmap(torch.func.jacrev(lambda point: network(point.unsqueeze(0))[0]))(x)
