"""Files of adaptive models whose rounds differ, or whose weights are made from blocks of pixels."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from convexreg import (
    AdaptiveRegularizer,
    ModelConfig,
    ModelFileError,
    load_model,
    reconstruct,
    save_model,
)
from convexreg.models.config import parameter_count
from convexreg.solvers.operators import Identity
from tests.models.model_files import CARD, CONFIG, metadata_of, tampered
from tests.tables import over, perturbed

ADAPTIVE = replace(CONFIG, adaptive=True, weight_width=4)
FIRST = replace(CONFIG, channels=(1, 3, 6), kernel_sizes=(3, 5), group_size=3)
CONFIGS: dict[str, ModelConfig] = {
    "blocks": replace(ADAPTIVE, weight_block=2),
    "first": replace(ADAPTIVE, first=FIRST),
    "both": replace(ADAPTIVE, first=FIRST, weight_block=3),
    "another architecture": replace(ADAPTIVE, first=replace(FIRST, architecture="crr")),
    "another padding": replace(ADAPTIVE, first=replace(FIRST, padding="circular")),
    "more levels": replace(ADAPTIVE, first=replace(FIRST, sigma_min=0.005, sigma_max=0.5)),
    "far-reaching": replace(
        ADAPTIVE, first=replace(FIRST, kernel_sizes=(21, 21), padding="circular")
    ),
    "colour": replace(ADAPTIVE, channels=(3, 2, 4), first=replace(FIRST, channels=(3, 2, 6))),
}


def write(path: Path, config: ModelConfig) -> AdaptiveRegularizer:
    model = perturbed(config.build_adaptive("mine"), 0.2).float().eval()
    save_model(path, model, config, CARD)
    return model


def without(settings: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in keys}


@over("config", CONFIGS)
def test_round_trip(config: ModelConfig, tmp_path: Path) -> None:
    """The settings, every number, and what both rounds and the weights make of an image."""
    path = tmp_path / "a.safetensors"
    model = write(path, config)
    file = load_model(path)
    assert file.config == config
    assert file.card == CARD
    loaded = file.regularizer
    assert isinstance(loaded, AdaptiveRegularizer)
    assert loaded.network.block == config.weight_block
    saved, again = model.state_dict(), loaded.state_dict()
    assert saved.keys() == again.keys()
    assert all(torch.equal(saved[key], again[key]) for key in saved)
    x = torch.rand(1, config.channels[0], 23, 25)
    assert torch.equal(loaded.first.grad(x, 0.1), model.first.grad(x, 0.1))
    assert torch.equal(loaded.second.grad(x, 0.1), model.second.grad(x, 0.1))
    assert torch.equal(loaded.weights(x, 0.1), model.weights(x, 0.1))
    first = config.first or config
    assert parameter_count(loaded.first) == parameter_count(first.build())
    assert parameter_count(loaded.second) == parameter_count(config.build())


def test_files_from_before_there_were_these_settings(tmp_path: Path) -> None:
    """Adaptive ones and others, which then have equal rounds and blocks of one pixel."""
    adaptive, convex = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    write(adaptive, ADAPTIVE)
    save_model(convex, perturbed(CONFIG.build("mine"), 0.2).float(), CONFIG, CARD)
    for path, config in ((adaptive, ADAPTIVE), (convex, CONFIG)):
        before = load_model(path).regularizer.state_dict()
        settings = without(json.loads(metadata_of(path)["config"]), "first", "weight_block")
        tampered(path, config=json.dumps(settings))
        file = load_model(path)
        assert file.config == config
        state = file.regularizer.state_dict()
        assert all(torch.equal(state[key], value) for key, value in before.items())


@pytest.mark.parametrize(
    "changes",
    [
        {"weight_block": 1},
        {"weight_block": 3},
        {"weight_block": 0},
        {"weight_block": "2"},
        {"first": None},
        {"first": {}},
        {"first": 3},
        {"first": asdict(CONFIG)},
        {"first": asdict(FIRST) | {"architecture": "resnet"}},
        {"first": asdict(FIRST) | {"sigma_min": 0.02}},
        {"first": asdict(FIRST) | {"depth": 3}},
        {"first": without(asdict(FIRST), "channels")},
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write(path, replace(ADAPTIVE, first=FIRST, weight_block=2))
    settings = json.loads(metadata_of(path)["config"]) | changes
    tampered(path, config=json.dumps(settings))
    with pytest.raises(ModelFileError, match="damaged or inconsistent"):
        load_model(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"first": None},
        {"first": replace(FIRST, kernel_sizes=(3, 3))},
        {"first": replace(FIRST, padding="circular")},
        {"first": replace(FIRST, sigma_max=0.5)},
        {"weight_block": 1},
    ],
    ids=str,
)
def test_a_model_of_other_rounds_is_not_written(changes: dict[str, Any], tmp_path: Path) -> None:
    config = replace(ADAPTIVE, first=FIRST, weight_block=2)
    model = perturbed(config.build_adaptive("mine"), 0.2).float()
    with pytest.raises(ValueError, match="was not built from this configuration"):
        save_model(tmp_path / "a.safetensors", model, replace(config, **changes), CARD)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": (3, 2, 6)}, "both rounds take the same images, got 3 and 1 channels"),
        ({"sigma_min": 0.02}, "noise levels from 0.02 to 0.3 only, the second one for 0.01 to 0.3"),
        ({"sigma_max": 0.2}, "noise levels from 0.01 to 0.2 only, the second one for 0.01 to 0.3"),
        ({"architecture": "resnet"}, "unknown architecture 'resnet'"),
    ],
)
def test_rounds_that_do_not_fit_together_are_refused(changes: dict[str, Any], message: str) -> None:
    config = replace(ADAPTIVE, first=replace(FIRST, **changes))
    with pytest.raises(ValueError, match=message):
        config.build_adaptive()


def test_more_rounds_round_trip(tmp_path: Path) -> None:
    config = replace(ADAPTIVE, first=replace(ADAPTIVE, first=FIRST))
    model = write(tmp_path / "a.safetensors", config)
    file = load_model(tmp_path / "a.safetensors")
    assert file.config == config
    y = torch.rand(1, 1, 14, 13)
    results = [
        reconstruct(y, Identity(), sigma=0.1, regularizer=each)
        for each in (model, file.regularizer)
    ]
    assert len(results[0].rounds) == 3
    assert torch.equal(results[0].image, results[1].image)
