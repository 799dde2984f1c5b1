"""Langevin sampling depends on its arguments only."""

from __future__ import annotations

import pytest
import torch

from convexreg.solvers import sample_moments
from tests.problems import Quadratic


class _Products(Quadratic):
    """A gradient that autocast would round."""

    def value_and_grad(self, x):
        value, _ = super().value_and_grad(x)
        return value, torch.einsum("bij,bj->bi", self.matrix, x - self.centre)


def moments():
    size, chains = 4, 4
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(size, size, generator=generator, dtype=torch.float32)
    matrix = (factor @ factor.T + torch.eye(size, dtype=torch.float32)).expand(chains, -1, -1)
    centre = torch.zeros(chains, size, dtype=torch.float32)
    largest = torch.linalg.matrix_norm(matrix.double(), 2) * 1.01
    objective = _Products(matrix, centre, centre, largest, torch.ones_like(largest))
    return lambda: sample_moments(
        objective,
        centre,
        temperature=1e-9,
        max_steps=8,
        generator=torch.Generator().manual_seed(1),
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_the_default_dtype_changes_nothing(dtype: torch.dtype) -> None:
    sample = moments()
    expected = sample()
    torch.set_default_dtype(dtype)
    try:
        measured = sample()
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(measured.mean, expected.mean)
    assert torch.equal(measured.std, expected.std)


def test_autocast_changes_nothing() -> None:
    sample = moments()
    expected = sample()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        measured = sample()
    assert torch.equal(measured.mean, expected.mean)
    assert torch.equal(measured.std, expected.std)
