"""Reconstruction problems and images."""

from __future__ import annotations

import pytest
import torch

from benchmarks.harness.datasets import centre, open_images
from benchmarks.problems.table import PROBLEMS


def _image(height: int = 32, width: int = 32) -> torch.Tensor:
    """A smooth image with an edge."""
    rows, columns = torch.linspace(0, 1, height), torch.linspace(0, 1, width)
    return (0.3 * rows[:, None] + 0.4 * (columns[None] > 0.4)).unsqueeze(0)


@pytest.mark.parametrize("name", PROBLEMS)
def test_operators_are_what_they_claim(name):
    """The adjoint is exact, the bound on the norm holds, the noise is that of the protocol."""
    problem = PROBLEMS[name]
    measurement = problem.measure(_image(), 3, dtype=torch.float64)
    physics, y = measurement.physics, measurement.y
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, 32, 32, generator=generator, dtype=torch.float64)
    z = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    left, right = (physics.A(x) * z).sum(), (x * physics.A_adjoint(z)).sum()
    assert torch.isclose(left, right, rtol=1e-9)
    for _ in range(50):
        x = physics.A_adjoint(physics.A(x / x.norm()))
    assert float(x.norm()) <= float(measurement.data_term().bounds.largest)
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(3)).double()
    noise = noise * physics.mask if problem.masked else noise
    assert torch.allclose(y - physics.A(measurement.clean), problem.sigma * noise, atol=1e-9)
    assert measurement.naive.shape == measurement.clean.shape
    single = problem.measure(_image(), 3)
    assert torch.allclose(single.y.double(), y, atol=1e-5)


def test_default_images_need_no_network_and_never_mix():
    test, tuning = (dict(open_images(key)) for key in ("photographs", "tuning-photographs"))
    assert not test.keys() & tuning.keys()
    for image in (*test.values(), *tuning.values()):
        assert image.ndim == 3
        assert image.shape[0] == 1
        assert 0 <= float(image.min()) < float(image.max()) <= 1
    (only,) = open_images("photographs", limit=1, crop=20)
    assert only[1].shape == (1, 20, 20)
    assert centre(torch.zeros(1, 9, 30), 20).shape == (1, 9, 9)
    with pytest.raises(ValueError, match="neither a folder of images nor a dataset"):
        open_images("no such thing")
