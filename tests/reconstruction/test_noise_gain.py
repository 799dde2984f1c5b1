"""The weight from how the noise passes the operator."""

from __future__ import annotations

from typing import Any

import deepinv
import pytest
import torch
from torch import Tensor

from convexreg import ConvexPrior, ConvexReconstructor, reconstruct
from convexreg.reconstruction.noise_gain import NoiseGain, noise_gain
from tests.oracles import matrix
from tests.problems import scenes, small_regularizer


class Scaled:
    """A multiple of the identity."""

    def __init__(self, factor: Tensor | float) -> None:
        self.factor = factor

    def A(self, x: Tensor) -> Tensor:
        return self.factor * x

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self.factor * y


def _blur(size: int = 3) -> Any:
    kernel = torch.ones(1, 1, size, size, dtype=torch.float64) / size**2
    return deepinv.physics.Blur(kernel, padding="circular")


def test_denoising_has_weight_one_exactly():
    x = scenes(2, 9, 10)
    gain = noise_gain(deepinv.physics.Denoising(), x, x)
    for adaptive in (False, True):
        assert torch.equal(gain.weight(adaptive=adaptive), torch.ones(2, dtype=torch.float64))


def test_multiples_of_the_identity_and_images_of_their_own():
    x = scenes(3, 16, 12)
    factor = torch.tensor([0.5, 0.1, 1.5]).double()
    gain = noise_gain(Scaled(factor.reshape(3, 1, 1, 1)), x, x)
    torch.testing.assert_close(gain.white, factor)
    torch.testing.assert_close(gain.pink, factor, rtol=0.2, atol=0)
    alone = noise_gain(Scaled(0.1), x[1:2], x[1:2])
    torch.testing.assert_close(alone.pink, gain.pink[1:2])
    vectors = torch.ones(2, 5).double()
    flat = noise_gain(Scaled(0.5), vectors, vectors)
    assert torch.equal(flat.white, flat.pink)


def test_a_blur_against_its_matrix():
    x = scenes(1, 24, 22)
    physics = _blur()
    gain = noise_gain(physics, x, physics.A(x))
    dense = matrix(physics.A, x.shape[1:])
    exact = dense.square().sum() / x.numel()
    torch.testing.assert_close(gain.white.square(), exact[None], rtol=0.2, atol=0)
    assert gain.pink > 1.2 * gain.white
    weight = gain.weight(adaptive=True)
    assert (weight > 0.2).all()
    assert (weight < gain.white.sqrt()).all()


@pytest.mark.parametrize("adaptive", [False, True])
def test_what_is_not_seen_at_all_and_what_is_seen_too_well(adaptive: bool):
    nothing = NoiseGain(torch.zeros(1).double(), torch.zeros(1).double())
    assert float(nothing.weight(adaptive=adaptive)) == 1
    large = NoiseGain(torch.full((1,), 1e9).double(), torch.full((1,), 1e9).double())
    assert float(large.weight(adaptive=adaptive)) == 4


def test_reconstruct_takes_it_and_says_so():
    regularizer = small_regularizer()
    x, physics = scenes(2, 16, 14), _blur()
    y = physics.A(x) + 0.05 * torch.randn_like(x)
    result = reconstruct(y, physics, sigma=0.05, regularizer=regularizer)
    assert result.gain is not None
    torch.testing.assert_close(result.lam, noise_gain(physics, x, y).weight(adaptive=False))
    assert "since noise passes the adjoint" in result.summary()
    model = ConvexReconstructor(regularizer, sigma=0.05)
    assert torch.equal(model(y, physics), result.image)
    prior = ConvexPrior(regularizer)
    assert prior.weight(physics, x, y) == pytest.approx(float(result.lam[0]))
    given = reconstruct(y, physics, sigma=0.05, regularizer=regularizer, lam=0.5)
    assert given.gain is None
    assert "lam" not in given.summary()
    noisy = reconstruct(y, deepinv.physics.Denoising(), sigma=0.05, regularizer=regularizer)
    assert (noisy.lam == 1).all()
    assert "lam" not in noisy.summary()
