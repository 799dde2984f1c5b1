"""What is shown of an object says what it is, in a line where it holds tensors."""

from __future__ import annotations

import deepinv
import pytest
import torch

import convexreg
from convexreg.solvers import Certificate, Proximity, QuasiNewton, Sum


@pytest.fixture(scope="module")
def result():
    y = torch.full((1, 1, 8, 8), 0.5) + 0.1 * torch.randn(1, 1, 8, 8)
    physics = deepinv.physics.Denoising()
    return convexreg.reconstruct(y, physics, sigma=0.1, regularizer="mgradnet-m")


def test_of_models():
    model = convexreg.load_model("mgradnet-m")
    count = sum(each.numel() for each in model.regularizer.parameters())
    text = f"Model(mgradnet-m, convex mgradnet-m of 32 filters, {count} parameters)"
    assert repr(model) == text
    assert "mgradnet-m, noise 1/255 to 50/255" in repr(model.regularizer)
    adaptive = convexreg.load_model("mgradnet-m-adaptive")
    assert "mgradnet-m-adaptive, adaptive" in repr(adaptive)
    assert "mgradnet-m-adaptive" in repr(adaptive.regularizer).splitlines()[1]
    network = convexreg.ModelConfig(channels=(1, 4), kernel_sizes=(3,)).build().network
    assert "mine" in repr(convexreg.ConvexRegularizer(network, name="mine"))


def test_of_results_and_problems(result):
    assert repr(result).startswith("Reconstruction of (1, 1, 8, 8) by QuasiNewton")
    assert "certified relative gap" in repr(result)
    problem = repr(result.problem)
    assert problem.startswith("Problem(LeastSquares(Denoising, measurements (1, 1, 8, 8))")
    assert "regularizer mgradnet-m" in problem
    assert repr(Sum([Proximity(result.image)], [1.0])) == "Sum(Proximity((1, 1, 8, 8)))"
    assert "relative gap" in repr(result.history)
    for each in (result.problem, result.history, result.certificate, QuasiNewton()):
        assert "tensor(" not in repr(each)
        assert "\n" not in repr(each)
    assert isinstance(result.certificate, Certificate)
