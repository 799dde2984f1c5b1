"""Padding and its adjoint, responses on a grid of places, and the diagonal of `W^T Diag(c) W`."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from convexreg.networks.convolution import pad, unpad
from convexreg.networks.operators import Convolution, Padding, places
from tests.oracles import matrix
from tests.tables import OPERATORS, OperatorCase, over

IMAGES = {name: case for name, case in OPERATORS.items() if len(case.shape) == 3}
ONE_PADDING = {
    name: case for name, case in IMAGES.items() if "wrapping" not in name and "staged" not in name
}
"""Those that are one convolution of an image that its kernel fits into."""


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def convolution(case: OperatorCase) -> Convolution:
    operator = case.build().double()
    assert isinstance(operator, Convolution)
    return operator


@pytest.mark.parametrize("padding", ["zero", "circular"])
@pytest.mark.parametrize("amount", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [(3, 3), (3, 5), (4, 3), (7, 6)], ids=str)
def test_unpad_is_the_adjoint_of_pad(size: tuple[int, int], amount: int, padding: str) -> None:
    """By the matrices of both, down to images as small as the border is wide."""
    height, width = size
    forward = matrix(lambda x: pad(x, amount, padding), (1, height, width))
    around = (1, height + 2 * amount, width + 2 * amount)
    backward = matrix(lambda z: unpad(z, amount, padding), around)
    assert torch.equal(backward, forward.T)
    z = random(2, 3, *around[1:])
    kept = z.clone()
    apart = [unpad(z[i : i + 1, j : j + 1], amount, padding) for i in range(2) for j in range(3)]
    assert torch.equal(unpad(z, amount, padding), torch.cat(apart).reshape(2, 3, *size))
    assert torch.equal(z, kept)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
@over("case", IMAGES)
def test_sampled_responses_are_those_of_the_whole_image(case: OperatorCase, step: int) -> None:
    operator, x = convolution(case), random(2, *case.shape)
    sampled = operator.sampled(x, step)
    rows, columns = (places(length, step, x.device) for length in case.shape[1:])
    assert rows.tolist() == [i for i in range(case.shape[1]) if i % step == step // 2]
    assert sampled.shape[2:] == (len(rows), len(columns))
    expected = operator(x)[..., rows, :][..., columns]
    torch.testing.assert_close(sampled, expected, rtol=0, atol=1e-13)


@over("case", ONE_PADDING)
def test_the_diagonal_is_that_of_the_matrix(case: OperatorCase) -> None:
    """Exact, at the border too, for every image of a batch; the average over the input channels."""
    operator = convolution(case)
    weights = torch.rand(2, operator.out_channels, *case.shape[1:], dtype=torch.float64)
    diagonal = operator.normal_diagonal(weights)
    assert diagonal.shape == (2, 1, *case.shape[1:])
    dense = matrix(operator, case.shape)
    for image in range(2):
        normal = dense.T @ (weights[image].reshape(-1, 1) * dense)
        expected = normal.diagonal().reshape(case.shape).mean(0)
        torch.testing.assert_close(diagonal[image, 0], expected, rtol=1e-12, atol=1e-13)


@over("case", {name: IMAGES[name] for name in ("zero-staged", "circular-staged")})
def test_the_diagonal_of_stages_is_exact_away_from_the_border(case: OperatorCase) -> None:
    operator = convolution(case)
    weights = torch.rand(1, operator.out_channels, *case.shape[1:], dtype=torch.float64)
    dense = matrix(operator, case.shape)
    expected = (dense.T @ (weights.reshape(-1, 1) * dense)).diagonal().reshape(case.shape)
    inside = (..., slice(3, -3), slice(3, -3))
    diagonal = operator.normal_diagonal(weights)
    torch.testing.assert_close(diagonal[0][inside], expected[inside], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("padding", ["zero", "circular"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sizes", [(1,), (3,), (5,), (5, 5, 5)], ids=str)
@pytest.mark.parametrize("step", [2, 3, 4, 8])
def test_the_diagonal_from_a_few_places_is_near(
    step: int, sizes: tuple[int, ...], channels: int, padding: Padding
) -> None:
    """Every weight is taken from at most half a step away in both directions: what weights that vary slowly
    change on that way bounds the error, and for equal weights there is none."""
    hidden = [4] * (len(sizes) - 1)
    operator = Convolution((channels, *hidden, 6), sizes, padding=padding, zero_mean=False).double()
    side = 48
    there = places(side, step, torch.device("cpu"))
    wave = torch.sin(2 * math.pi * (torch.arange(side, dtype=torch.float64) / side + 0.1))
    slow = 2 + wave.unsqueeze(1) + 0.5 * wave.roll(11)
    inside = slice(12 // step, -(12 // step))
    height = 1 + torch.rand(1, 6, 1, 1, dtype=torch.float64)
    level = operator.normal_diagonal(height.expand(1, 6, side, side))[..., side // 2, side // 2]
    for weights in (torch.ones_like(slow), slow):
        factors = height * weights
        exact = operator.normal_diagonal(factors)[..., there, :][..., there]
        about = operator.normal_diagonal(factors[..., there, :][..., there], step)
        assert about.shape == exact.shape
        change = sum(float(weights.diff(dim=axis).abs().max()) * step / 2 for axis in (0, 1))
        assert change <= 0.2 * step
        error = ((about - exact) / level).abs()[..., inside, inside]
        assert error.max() <= change + 1e-12
