"""Gaussian distributions and their couplings with the standard normal, without training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """`N(mean, covariance)` and its couplings with `N(0, I)`, in float64."""

    mean: Tensor
    covariance: Tensor

    @property
    def dimension(self) -> int:
        """`d`."""
        return self.mean.shape[0]

    def sample(self, *shape: int, generator: torch.Generator) -> Tensor:
        """Points, `(*shape, d)` in float32."""
        normal = torch.randn(*shape, self.dimension, generator=generator, dtype=torch.float64)
        factor = torch.linalg.cholesky(self.covariance)
        return (self.mean + normal @ factor.mT).float()

    def log_density(self, x: Tensor) -> Tensor:
        """`(..., d)` to `(...)`."""
        whitened = self.whiten(x)
        return self.log_scale - normal_negative_log_density(whitened)

    @property
    def log_scale(self) -> Tensor:
        """`log |det|` of the whitening maps, `-log det(covariance) / 2`."""
        return -torch.linalg.slogdet(self.covariance).logabsdet / 2

    def whiten(self, x: Tensor) -> Tensor:
        """`C^-1 (x - mean)` with the Cholesky factor `C C^T` of the covariance."""
        upper = torch.linalg.cholesky(self.covariance).mT
        centred = x.double() - self.mean
        return torch.linalg.solve_triangular(upper, centred, upper=True, left=False)

    def transport(self, x: Tensor) -> Tensor:
        """The optimal map `covariance^(-1/2) (x - mean)`."""
        return (x.double() - self.mean) @ torch.linalg.inv(_square_root(self.covariance))

    def squared_distance(self, other: Gaussian) -> float:
        """Squared 2-Wasserstein distance,
        `|m - n|^2 + tr(A + B - 2 (A^(1/2) B A^(1/2))^(1/2))` (Gelbrich 1990)."""
        root = _square_root(self.covariance)
        cross = _square_root(root @ other.covariance @ root)
        spread = (self.covariance + other.covariance - 2 * cross).trace()
        return float((self.mean - other.mean).square().sum() + spread)


def standard_normal(dimension: int) -> Gaussian:
    """`N(0, I)`."""
    return Gaussian(
        torch.zeros(dimension, dtype=torch.float64), torch.eye(dimension, dtype=torch.float64)
    )


def _square_root(matrix: Tensor) -> Tensor:
    eigenvalues, vectors = torch.linalg.eigh(matrix)
    return (vectors * eigenvalues.clamp_min(0).sqrt()) @ vectors.mT


def normal_negative_log_density(z: Tensor) -> Tensor:
    """`-log N(z; 0, I)`, `(..., d)` to `(...)`."""
    return z.square().sum(-1) / 2 + z.shape[-1] * math.log(2 * math.pi) / 2


@dataclass(frozen=True)
class Mapped:
    """Where a map takes the test points, `(T, B, d)`, and its `log |det J|`, `(T, B)` or `(T, 1)`."""

    points: Tensor
    log_determinant: Tensor


def classical(gaussian: Gaussian, training: Tensor, test: Tensor) -> dict[str, Mapped]:
    """The optimal map; Cholesky whitening and POT's Gaussian map from the training points' moments."""
    import ot

    normal = standard_normal(gaussian.dimension)
    whitened, mapped = [], []
    for points, fresh in zip(training.double(), test.double(), strict=True):
        estimate = Gaussian(points.mean(0), torch.cov(points.T))
        whitened.append((estimate.whiten(fresh), estimate.log_scale))
        mapping: Any = ot.gaussian.bures_wasserstein_mapping(
            estimate.mean, normal.mean, estimate.covariance, normal.covariance
        )
        matrix, offset = mapping
        mapped.append((fresh @ matrix + offset, torch.linalg.slogdet(matrix).logabsdet))
    optimal = Mapped(gaussian.transport(test), gaussian.log_scale.expand(len(test), 1))
    maps = {"optimum": optimal}
    for name, trials in (("whitening", whitened), ("POT (Gaussian map)", mapped)):
        points, determinants = (torch.stack(each) for each in zip(*trials, strict=True))
        maps[name] = Mapped(points, determinants.unsqueeze(1))
    return maps


def discrete_cost(points: Tensor, generator: torch.Generator) -> float:
    """Cost of POT's exact plan between these points and as many normal ones: it is no map."""
    import ot

    normal = torch.randn(points.shape, generator=generator, dtype=torch.float64)
    # thousands of points need more than POT's 100,000 steps of the network simplex
    cost: Any = ot.emd2([], [], ot.dist(points.double(), normal), numItermax=10_000_000)
    return float(cost)
