"""Transport of a Gaussian to the standard normal without training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.papers.gaussian import Gaussian, standard_normal


@dataclass(frozen=True)
class Mapped:
    """Where a map takes the test points, `(T, B, d)`, and its `log |det J|`, `(T, B)` or `(T, 1)`."""

    points: Tensor
    log_determinant: Tensor


def classical(gaussian: Gaussian, training: Tensor, test: Tensor) -> dict[str, Mapped]:
    """The optimal map; Cholesky whitening and POT's Gaussian map from the training points' moments."""
    import ot

    maps: dict[str, list[tuple[Tensor, Tensor]]] = {"whitening": [], "POT (Gaussian map)": []}
    for points, fresh in zip(training.double(), test.double(), strict=True):
        estimate = Gaussian(points.mean(0), torch.cov(points.T))
        maps["whitening"].append((estimate.whiten(fresh), estimate.log_scale))
        normal = standard_normal(gaussian.dimension)
        mapping: Any = ot.gaussian.bures_wasserstein_mapping(
            estimate.mean, normal.mean, estimate.covariance, normal.covariance
        )
        matrix, offset = mapping
        determinant = torch.linalg.slogdet(matrix).logabsdet
        maps["POT (Gaussian map)"].append((fresh @ matrix + offset, determinant))
    learned = {
        name: Mapped(torch.stack(points), torch.stack(determinants).unsqueeze(1))
        for name, (points, determinants) in (
            (name, zip(*pairs, strict=True)) for name, pairs in maps.items()
        )
    }
    optimal = Mapped(gaussian.transport(test), gaussian.log_scale.expand(len(test), 1))
    return {"optimum": optimal} | learned


def discrete_cost(points: Tensor, generator: torch.Generator) -> float:
    """Cost of POT's exact plan between these points and as many normal ones: it is no map."""
    import ot

    normal = torch.randn(points.shape, generator=generator, dtype=torch.float64)
    # thousands of points need more than POT's 100,000 steps of the network simplex
    cost: Any = ot.emd2([], [], ot.dist(points.double(), normal), numItermax=10_000_000)
    return float(cost)
