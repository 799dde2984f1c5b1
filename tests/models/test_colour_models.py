"""Models for colour images: what they start from, and how they are trained and kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from convexreg import AdaptiveRegularizer, load_model, reconstruct
from convexreg.models.colour import CHROMA, colour_model
from convexreg.models.config import ModelConfig
from convexreg.models.files import Model, save_model
from convexreg.networks.colour_network import ColourNetwork
from convexreg.solvers.operators import Identity
from tests.cli.command import run
from tests.tables import perturbed

GRAY = ModelConfig("mgradnet-m", (1, 3, 32), (7, 7), group_size=2, weight_width=4)


def gray(**changes) -> Model:
    config = replace(GRAY, **changes)
    built = config.build_adaptive() if config.adaptive else config.build()
    return Model(perturbed(built, 0.1).float(), config, {})


def colour(luminance: Model, start: Model | None = None) -> Model:
    config, regularizer = colour_model(luminance, start)
    return Model(regularizer.requires_grad_(False), config, {})


def test_the_luminance_is_that_of_the_gray_model_and_filters_start_from_it() -> None:
    luminance = gray()
    model = colour(luminance).regularizer
    x = torch.rand(1, 1, 16, 17)
    torch.testing.assert_close(model.grad(x, 0.1), luminance.regularizer.grad(x, 0.1))
    network = model.network
    assert isinstance(network, ColourNetwork)
    blocks = network.chroma.network.networks[0].operator.kernel
    assert blocks.shape == (CHROMA.channels[1], 8, 5, 5)
    kernel = torch.nn.functional.pixel_shuffle(blocks, 2)
    # pairs: the same filter on either difference
    torch.testing.assert_close(kernel[0::2, 0], kernel[1::2, 1])
    assert kernel[0::2, 1].abs().max() < 1e-6


@pytest.mark.parametrize("rounds", [2, 3])
def test_every_round_starts_from_the_colour_differences_that_are_given(rounds: int) -> None:
    start = colour(gray())
    luminance = gray(adaptive=True, first=replace(GRAY, adaptive=True) if rounds == 3 else None)
    model = colour(luminance, start)
    chroma = start.regularizer.network.chroma.state_dict()
    part, seen = model.regularizer, 0
    while isinstance(part, AdaptiveRegularizer):
        state = part.second.network.chroma.state_dict()
        assert all(torch.equal(state[key], chroma[key]) for key in chroma)
        part, seen = part.first, seen + 1
    assert seen == rounds - 1
    y = torch.rand(1, 1, 12, 13)
    mine, expected = (
        reconstruct(y, Identity(), sigma=0.1, regularizer=each.regularizer)
        for each in (model, luminance)
    )
    assert torch.equal(mine.image, expected.image)
    again = colour(luminance, model)
    state = again.regularizer.state_dict()
    assert all(torch.equal(state[key], its) for key, its in model.regularizer.state_dict().items())


def test_round_trip(tmp_path: Path) -> None:
    model = colour(gray(adaptive=True), colour(gray()))
    save_model(tmp_path / "a.safetensors", model.regularizer, model.config, {})
    file = load_model(tmp_path / "a.safetensors")
    assert file.config == model.config
    y = torch.rand(1, 3, 12, 13)
    mine, expected = (
        reconstruct(y, Identity(), sigma=0.1, regularizer=each.regularizer)
        for each in (file, model)
    )
    assert torch.equal(mine.image, expected.image)


def test_models_of_other_kinds_are_refused() -> None:
    convex, adaptive = gray(), gray(adaptive=True)
    whole = colour(convex)
    for luminance, start, why in (
        (whole, None, "gray model"),
        (convex, convex, "start from a model for colour images"),
        (convex, colour(adaptive, whole), "only those of an adaptive model"),
        (adaptive, None, "first round of an adaptive model is not trained"),
    ):
        with pytest.raises(ValueError, match=why):
            colour_model(luminance, start)


def test_training_leaves_the_luminance_alone(tmp_path: Path, capsys) -> None:
    (tmp_path / "photos").mkdir()
    for index, shape in enumerate([(48, 50, 3), (50, 48)]):
        pixels = numpy.random.default_rng(index).integers(0, 255, shape, dtype=numpy.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{index}.png")
    luminance, adaptive = gray(), gray(adaptive=True)
    for name, model in (("gray", luminance), ("gray-adaptive", adaptive)):
        save_model(tmp_path / f"{name}.safetensors", model.regularizer, model.config, {})
    common = (
        "train", tmp_path / "photos", "--colour", "--reduce", 2, "--steps", 2, "--batch-size", 1,
        "--patch-size", 16, "-q", "--luminance",
    )  # fmt: skip
    first, second = tmp_path / "c.safetensors", tmp_path / "ca.safetensors"
    assert run(*common, tmp_path / "gray.safetensors", "-o", first) == 0
    more = ("--start", first, "-o", second)
    assert run(*common, tmp_path / "gray-adaptive.safetensors", *more, "--adaptive") == 0
    assert run(*common, tmp_path / "gray.safetensors", *more, "--adaptive") == 2
    assert "neither" in capsys.readouterr().err
    fresh = colour(adaptive, load_model(first)).regularizer.state_dict()
    trained = load_model(second).regularizer.state_dict()
    moved = {key for key, value in trained.items() if not torch.equal(value, fresh[key])}
    assert moved
    assert all(".chroma." in key and not key.startswith("first.") for key in moved)
