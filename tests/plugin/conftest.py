"""A small regularizer, its prior, and images for them."""

from __future__ import annotations

import deepinv
import pytest
import torch
from torch import Tensor

from convexreg import ConvexPrior, ConvexRegularizer
from tests.problems import scenes, small_regularizer

SIGMA, TOL = 0.1, 1e-9
SIZE = (12, 10)


@pytest.fixture
def regularizer() -> ConvexRegularizer:
    return small_regularizer()


@pytest.fixture
def prior(regularizer) -> ConvexPrior:
    return ConvexPrior(regularizer, prox_tol=TOL)


@pytest.fixture
def images() -> Tensor:
    return scenes(3, *SIZE) + 0.1 * torch.randn(3, 1, *SIZE).double()


def blur(dtype: torch.dtype = torch.float64) -> deepinv.physics.BlurFFT:
    """Well conditioned, so that every algorithm reaches the minimiser soon."""
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, 12.0, 2.0], [0.0, 1.0, 0.0]], dtype=dtype)
    return deepinv.physics.BlurFFT((1, *SIZE), filter=(kernel / kernel.sum())[None, None])
