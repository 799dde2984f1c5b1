"""Colour images by a network of the luminance and one of the colour differences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from convexreg import AdaptiveRegularizer, reconstruct
from convexreg.networks import strips, tiling
from convexreg.networks.colour import colour_transform, in_colour, in_planes
from convexreg.networks.colour_network import CONTRAST, ColourNetwork
from convexreg.networks.evaluation import Evaluation
from convexreg.networks.weight_network import ColourWeights, WeightNetwork
from convexreg.solvers.operators import Identity
from tests.oracles import jacobian
from tests.tables import perturbed
from tests.test_regularizer import CHROMA, SIGMAS, SMALL

COLOUR = replace(SMALL, chroma=CHROMA)


def network() -> ColourNetwork:
    built = perturbed(COLOUR.build(), 0.2).network
    assert isinstance(built, ColourNetwork)
    return built


def pictures(batch: int, height: int = 12, width: int = 13) -> Tensor:
    x = 0.3 * torch.rand(batch, 3, height, width).double()
    x[..., width // 2 :] += torch.rand(batch, 3, 1, 1).double()
    return x


def test_planes_are_orthonormal() -> None:
    x = pictures(2)
    torch.testing.assert_close(in_colour(in_planes(x)), x)
    torch.testing.assert_close(in_planes(x).square().sum(), x.square().sum())


def test_a_gray_picture_is_what_the_gray_network_takes() -> None:
    """Three times its energy at the noise that is left in the mean of three channels, and its gradient."""
    whole = network()
    gray = torch.rand(2, 1, 9, 8).double()
    level = SIGMAS[:2]
    value, grad = whole.value_and_grad(gray.expand(-1, 3, -1, -1), level)
    of_gray, its_grad = whole.luminance.value_and_grad(gray, level / CONTRAST)
    nothing = whole.chroma.potential(torch.zeros(2, 2, 9, 8).double(), level)
    torch.testing.assert_close(value, 3 * of_gray + nothing)
    torch.testing.assert_close(grad, its_grad.expand(-1, 3, -1, -1))


@pytest.mark.parametrize("level", [0.1, SIGMAS[:2]])
def test_evaluations_are_those_of_the_network(level, monkeypatch) -> None:
    monkeypatch.setattr(strips, "_PIXELS", 40)
    whole, x = network(), pictures(2)
    value, grad = Evaluation(whole, level).value_and_grad(x)
    expected = whole.value_and_grad(x, level)
    torch.testing.assert_close((value, grad), expected, rtol=1e-10, atol=1e-12)
    weights = torch.rand(2, whole.terms, *x.shape[2:]).double()
    weighted = whole.with_weights(weights)
    value, grad = Evaluation(weighted, level).value_and_grad(x)
    torch.testing.assert_close(
        (value, grad), weighted.value_and_grad(x, level), rtol=1e-10, atol=1e-12
    )


def test_the_bound_is_the_larger_one_of_the_parts() -> None:
    whole, x = network(), pictures(1, 5, 6)
    bounds = [
        whole.luminance.lipschitz((5, 6), 0.1 / CONTRAST),
        whole.chroma.lipschitz((5, 6), 0.1),
    ]
    assert whole.lipschitz((5, 6), 0.1) == max(bounds)
    largest = torch.linalg.eigvalsh(jacobian(lambda v: whole(v, 0.1), 0 * x)).max()
    assert largest <= whole.lipschitz((5, 6), 0.1)


def test_the_curvature_model_has_a_plane_each() -> None:
    whole, x = network(), pictures(1, 33, 34)
    model = Evaluation(whole, 0.1).curvature(x)
    assert model is not None
    assert model.basis is colour_transform(x.dtype, x.device)
    luminance = Evaluation(whole.luminance, 0.1 / CONTRAST).curvature(
        in_planes(x)[:, :1] / CONTRAST
    )
    chroma = Evaluation(whole.chroma, 0.1).curvature(in_planes(x)[:, 1:])
    for own, part in ((slice(0, 1), luminance), (slice(1, 3), chroma)):
        assert part is not None
        torch.testing.assert_close(
            model.symbol[:, own], part.symbol.expand_as(model.symbol[:, own])
        )
        torch.testing.assert_close(
            model.diagonal[:, own], part.diagonal.expand_as(model.diagonal[:, own])
        )


def colour_weights(block: int = 2) -> ColourWeights:
    whole = network()
    return perturbed(
        ColourWeights(
            WeightNetwork(whole.luminance.terms, width=6),
            WeightNetwork(whole.chroma.terms, width=6, block=block, guides=whole.luminance.terms),
            contrast=CONTRAST,
        ),
        0.2,
    )


def test_colour_differences_are_weighted_by_all_planes_and_luminance_by_itself() -> None:
    whole, weigh, x = network(), colour_weights(), pictures(1)
    there = weigh(whole.magnitudes(x, 0.1), 0.1)
    terms = whole.luminance.terms
    assert there.shape == (1, whole.terms, *x.shape[2:])
    planes = in_planes(x)
    other_luminance = in_colour(torch.cat([planes[:, :1].flip(-1), planes[:, 1:]], 1))
    other_chroma = in_colour(torch.cat([planes[:, :1], planes[:, 1:].flip(-1)], 1))
    moved = weigh(whole.magnitudes(other_luminance, 0.1), 0.1)
    assert not torch.allclose(moved[:, terms:], there[:, terms:])
    moved = weigh(whole.magnitudes(other_chroma, 0.1), 0.1)
    torch.testing.assert_close(moved[:, :terms], there[:, :terms])
    alone = weigh.luminance(whole.magnitudes(x, 0.1)[:, :terms], 0.1 / CONTRAST)
    torch.testing.assert_close(there[:, :terms], alone)


def test_weights_of_tiles_are_those_of_the_whole(monkeypatch) -> None:
    monkeypatch.setitem(tiling._SIDE, "cpu", 24)
    whole, weigh, x = network(), colour_weights(), pictures(2, 62, 57)
    for level in (0.1, SIGMAS[:2]):
        expected = weigh(whole.magnitudes(x, level), level)
        torch.testing.assert_close(tiling.weights(whole, weigh, x, level), expected)


@pytest.mark.parametrize("adaptive", [False, True])
def test_pictures_of_a_batch_get_what_they_get_alone(adaptive: bool) -> None:
    """Three of them, as many as there are planes, that stop at different times."""
    config = replace(COLOUR, adaptive=adaptive, weight_width=4)
    config = replace(config, chroma=replace(CHROMA, weight_width=4, weight_block=2))
    model = perturbed(config.build_adaptive() if adaptive else config.build(), 0.1)
    x = pictures(3, 20, 21)
    x[1] = 0.5
    sigma = torch.tensor([0.05, 0.1, 0.2]).double()
    y = x + sigma.reshape(-1, 1, 1, 1) * torch.randn_like(x)
    together = reconstruct(y, Identity(), sigma=sigma, regularizer=model, accuracy="exact")
    assert together.converged
    for number in range(3):
        own = slice(number, number + 1)
        alone = reconstruct(
            y[own], Identity(), sigma=sigma[own], regularizer=model, accuracy="exact"
        )
        torch.testing.assert_close(alone.image, together.image[own], rtol=0, atol=1e-8)
        assert alone.iterations == together.iterations[own]


@pytest.mark.parametrize("adaptive", [False, True])
def test_gray_pictures_get_what_the_gray_model_gives(adaptive: bool) -> None:
    """Below the noise levels for colour as well."""
    gray = replace(SMALL, adaptive=adaptive, weight_width=4)
    config = replace(gray, chroma=replace(CHROMA, weight_width=4))
    model, own = (
        perturbed(c.build_adaptive() if adaptive else c.build(), 0.1) for c in (config, gray)
    )
    if isinstance(model, AdaptiveRegularizer):
        for part in ("first", "second"):
            luminance = getattr(model, part).network.luminance.state_dict()
            getattr(own, part).network.load_state_dict(luminance)
        own.network.load_state_dict(model.network.luminance.state_dict())
    else:
        own.network.load_state_dict(model.network.luminance.state_dict())
        assert model.lipschitz((9, 8), 0.1, channels=1) == own.lipschitz((9, 8), 0.1)
    y = torch.rand(2, 1, 9, 8).double()
    sigma = torch.tensor([1 / 255, 0.1]).double()
    mine, expected = (
        reconstruct(y, Identity(), sigma=sigma, regularizer=each) for each in (model, own)
    )
    torch.testing.assert_close(mine.image, expected.image, rtol=0, atol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_levels_outside_are_reached_from_the_range_of_images_of_that_kind(channels: int) -> None:
    model = perturbed(COLOUR.build(), 0.2)
    of_kind = model.of(channels)
    assert of_kind.sigma_range is not None
    low, high = of_kind.sigma_range
    x = pictures(1)[:, :channels]
    for sigma, within in ((0.5 * low, low), (2 * high, high)):
        s = within / sigma
        value, grad = model.value_and_grad(x, sigma)
        there, slope = of_kind.value_and_grad(s * x, within)
        torch.testing.assert_close(value, there / s**2)
        torch.testing.assert_close(grad, slope / s)
        bounds = [model.lipschitz((12, 13), level, channels=channels) for level in (sigma, within)]
        assert bounds[0] == bounds[1]
