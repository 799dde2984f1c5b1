"""What `reconstruct` refuses, each in one sentence."""

from __future__ import annotations

import math

import deepinv
import numpy
import pytest
import torch
from torch import Tensor

from convexreg import ConvexRegularizer, ModelConfig, reconstruct
from convexreg.solvers import FISTA


@pytest.fixture
def regularizer() -> ConvexRegularizer:
    config = ModelConfig(channels=(1, 8), kernel_sizes=(5,))
    return config.build().double().requires_grad_(False)


GOOD = torch.full((1, 1, 16, 16), 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": torch.full((1, 1, 8, 8), math.nan)}, "NaN or infinite"),
        ({"y": torch.full((1, 1, 8, 8), math.inf)}, "NaN or infinite"),
        ({"y": torch.zeros(0, 1, 8, 8)}, "at least one number"),
        ({"y": torch.zeros(8)}, "batch"),
        ({"y": torch.zeros(1, 1, 8, 8, dtype=torch.uint8)}, "floating-point"),
        ({"y": numpy.zeros((1, 1, 8, 8))}, "floating-point tensor"),
        ({"sigma": 0.0}, "sigma must be positive"),
        ({"sigma": -1.0}, "sigma must be positive"),
        ({"sigma": math.nan}, "sigma must be positive"),
        ({"sigma": 0.9}, "noise and signal together have an rms of 0.5"),
        ({"sigma": 25.0}, "divide by 255"),
        ({"sigma": torch.full((1, 1, 16, 15), 0.1)}, "one per measurement, in the shape"),
        ({"sigma": torch.zeros(1, 1, 16, 16)}, "positive and finite at every pixel"),
        ({"accuracy": "exact", "gap_tol": 0.1}, "both say when to stop"),
        ({"sigma": "auto"}, "sigma must be one number or one per image, got 'auto'"),
        ({"sigma": torch.tensor([0.1, 0.1])}, "one per image"),
        ({"lam": -1.0}, "lam must be nonnegative"),
        ({"box": (1.0, 0.0)}, "lower < upper"),
        ({"box": (0, None)}, "the bounds of a box are numbers"),
        ({"gap_tol": -1.0}, "gap_tol must be positive, got -1.0"),
        ({"anchor": -1.0}, "anchor must be a finite number"),
        ({"anchor": math.inf}, "anchor must be a finite number"),
        ({"anchor": "none"}, "anchor must be a finite number"),
        ({"gap_tol": 0.0}, "positive"),
        ({"regularizer": "no-such-model"}, "no shipped model"),
    ],
)
def test_bad_input_is_one_clear_sentence(change, message, regularizer):
    arguments = {"y": GOOD, "sigma": 0.1, "regularizer": regularizer, **change}
    with pytest.raises(ValueError, match=message):
        reconstruct(arguments.pop("y"), deepinv.physics.Denoising(), **arguments)


@pytest.mark.parametrize(
    ("physics", "solver", "message"),
    [
        (None, None, "physics must be a linear physics"),
        (deepinv.physics.Denoising(), "fista", "solver must be one of"),
        (deepinv.physics.Denoising(), FISTA, "solver must be one of"),
    ],
)
def test_arguments_of_another_kind_are_refused(physics, solver, message, regularizer):
    with pytest.raises(TypeError, match=message):
        reconstruct(GOOD, physics, sigma=0.1, regularizer=regularizer, solver=solver)


@pytest.mark.parametrize(
    ("x0", "message"),
    [
        (torch.zeros(GOOD.shape[0] + 1, *GOOD.shape[1:]), "x0 of"),
        (GOOD[..., :1], "x0 of"),
        (torch.full_like(GOOD, float("nan")), "NaN"),
    ],
)
def test_starting_images_that_do_not_fit_are_refused(x0, message, regularizer):
    with pytest.raises(ValueError, match=message):
        reconstruct(GOOD, deepinv.physics.Denoising(), sigma=0.1, regularizer=regularizer, x0=x0)


def test_a_minimum_of_zero_has_a_certificate_in_words(regularizer):
    result = reconstruct(
        GOOD, deepinv.physics.Denoising(), sigma=0.1, regularizer=regularizer, lam=0.0
    )
    assert "certified" in result.summary()
    assert "no certificate" not in result.summary()


def test_nonlinear_physics_is_refused(regularizer):
    with pytest.raises(ValueError, match="not linear"):
        reconstruct(GOOD, _Saturation(), sigma=0.1, regularizer=regularizer)


class _Saturation:
    def A(self, x: Tensor) -> Tensor:
        return x.clamp(0.2, 0.6)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return y


def test_wrong_adjoint_is_refused(regularizer):
    class Shift:
        def A(self, x: Tensor) -> Tensor:
            return x.roll(1, -1) * 2

        def A_adjoint(self, y: Tensor) -> Tensor:
            return y

    with pytest.raises(ValueError, match="not the adjoint"):
        reconstruct(GOOD, Shift(), sigma=0.1, regularizer=regularizer)
