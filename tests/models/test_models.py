"""Model files: what is saved is what is loaded, and nothing else is believed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from convexreg import AdaptiveRegularizer, ModelConfig, ModelFileError, load_model, save_model
from convexreg.models.config import ARCHITECTURES, parameter_count
from convexreg.models.files import CONVEX_MODEL, DEFAULT_MODEL, pretrained_names, regularizer_of
from convexreg.networks.cascaded import GradNetC
from convexreg.networks.operators import Convolution, Dense
from convexreg.networks.potentials import LogCosh
from convexreg.regularizer import Regularizer
from tests.models.model_files import CARD, CONFIG, write
from tests.tables import perturbed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("padding", ["zero", "circular"])
@pytest.mark.parametrize("mixing", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_round_trip(
    architecture, mixing: bool, padding, dtype: torch.dtype, tmp_path: Path
) -> None:
    """Every number, bit for bit, and the same function, settings, name and card."""
    config = ModelConfig(
        architecture, (1, 2, 6), (3, 5), padding, 0.01, 0.3, 4, group_size=3, mixing=mixing
    )
    regularizer = perturbed(config.build("mine"), 0.3).to(dtype)
    save_model(tmp_path / "a.safetensors", regularizer, config, CARD)
    model = load_model(str(tmp_path / "a.safetensors"))
    assert model.config == config
    assert model.card == CARD
    assert model.regularizer.name == "mine"
    saved, loaded = regularizer.state_dict(), model.regularizer.state_dict()
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[key], loaded[key]) for key in saved)
    x = torch.rand(1, 1, 9, 10, dtype=dtype)
    assert torch.equal(model.regularizer.grad(x, 0.1), regularizer.grad(x, 0.1))
    assert not model.regularizer.training
    assert not any(parameter.requires_grad for parameter in model.regularizer.parameters())
    assert parameter_count(model.regularizer) == parameter_count(config.build())


def test_nothing_is_left_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.safetensors")
    content = path.read_bytes()
    other = perturbed(CONFIG.build("other")).float()
    with pytest.raises(TypeError):  # a card that is not JSON
        save_model(path, other, CONFIG, {"figures": object()})

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    for function in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, fail)
            with pytest.raises(OSError, match="disk is full"):
                save_model(path, other, CONFIG, CARD)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == [path.name]
    with pytest.raises(FileNotFoundError, match="create it first"):
        save_model(tmp_path / "no" / "a.safetensors", other, CONFIG, CARD)


def test_links_stay_links_and_files_keep_their_permissions(tmp_path: Path) -> None:
    target, link = tmp_path / "target.safetensors", tmp_path / "link.safetensors"
    link.symlink_to(target.name)
    write(link)
    assert link.is_symlink()
    assert not target.is_symlink()
    target.chmod(0o640)
    before = target.stat().st_ino
    write(link)
    assert target.stat().st_ino != before
    assert target.stat().st_mode & 0o777 == 0o640
    assert load_model(target).regularizer.name == "mine"


def test_long_names_can_be_written(tmp_path: Path) -> None:
    path = write(tmp_path / ("a" * 240 + ".safetensors"))
    assert load_model(path).regularizer.name == "mine"


def test_shipped_models_load_by_name(tmp_path: Path) -> None:
    for name in pretrained_names():
        model = load_model(name)
        regularizer = model.regularizer
        assert model.card["parameters"] == parameter_count(regularizer)
        assert model.config.adaptive == isinstance(regularizer, AdaptiveRegularizer)
        x = torch.rand(1, 1, 16, 16)
        convex = (
            regularizer.given(x, 0.1)
            if isinstance(regularizer, AdaptiveRegularizer)
            else regularizer
        )
        assert torch.isfinite(convex.grad(x, 0.1)).all()
        assert regularizer.name == name
    assert load_model().regularizer.name == CONVEX_MODEL
    assert {CONVEX_MODEL, DEFAULT_MODEL} <= set(pretrained_names())
    path = write(tmp_path / "a.safetensors")
    assert load_model(path).regularizer.name == load_model(str(path)).regularizer.name == "mine"
    with pytest.raises(ModelFileError, match="no shipped model 'resnet'; shipped: "):
        load_model("resnet")


class Custom:
    """A regularizer of somebody else."""

    def energy(self, x: Tensor, sigma: object = None) -> Tensor:
        return x.flatten(1).square().sum(1) / 2

    def grad(self, x: Tensor, sigma: object = None) -> Tensor:
        return x


class CustomTerm:
    def term(self, sigma: object = None) -> None:
        return None


def test_what_stands_for_a_regularizer(tmp_path: Path) -> None:
    """Names and paths are loaded, regularizers are themselves, whatever has the methods passes."""
    path = write(tmp_path / "a.safetensors")
    convex = CONFIG.build("mine")
    adaptive = replace(CONFIG, adaptive=True, weight_width=4)
    model = adaptive.build_adaptive("two")
    save_model(tmp_path / "b.safetensors", model, adaptive, CARD)
    assert regularizer_of(model) is model
    for convex_needed in (False, True):
        for thing in (convex, Custom(), CustomTerm()):
            assert regularizer_of(thing, convex=convex_needed) is thing
        for thing in (path, str(path)):
            assert regularizer_of(thing, convex=convex_needed).name == "mine"
        for thing in (None, 3, torch.zeros(1), [DEFAULT_MODEL], torch.nn.Identity()):
            with pytest.raises(
                TypeError, match=r"a regularizer is the name of a shipped model, .* got "
            ):
                regularizer_of(thing, convex=convex_needed)
        with pytest.raises(ValueError, match="unnamed is not convex"):
            regularizer_of(Regularizer(GradNetC(Dense(4, 3), [LogCosh()])), convex=convex_needed)
    with pytest.raises(TypeError, match=r"two is adaptive.*regularizer\.given\(image, sigma\)"):
        regularizer_of(model, convex=True)
    with pytest.raises(ModelFileError, match="two is adaptive"):
        regularizer_of(tmp_path / "b.safetensors", convex=True)


@pytest.mark.parametrize("name", pretrained_names())
def test_loading_moves_no_random_numbers(name: str) -> None:
    state = torch.get_rng_state()
    load_model(name)
    regularizer_of(name)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["mine", "mine.pt", "./mine", "mine.safetensors"])
def test_a_model_file_opens_by_whatever_it_is_called(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name)
    assert load_model(name).regularizer.name == "mine"


def test_a_file_that_nobody_could_load_is_not_written(tmp_path: Path) -> None:
    """A configuration that does not fit is noticed when saving, and random numbers are left alone."""
    path = write(tmp_path / "a.safetensors")
    content, model = path.read_bytes(), CONFIG.build("other")
    for other in (replace(CONFIG, channels=(1, 2, 6)), replace(CONFIG, architecture="crr")):
        with pytest.raises(ValueError, match="was not built from this configuration"):
            save_model(path, model, other, CARD)
    assert path.read_bytes() == content
    state = torch.get_rng_state()
    save_model(path, model, CONFIG, CARD)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    "changes",
    [
        {"padding": "circular"},
        {"sigma_min": 0.02},
        {"sigma_max": 0.2},
        {"sigma_max": 0.2, "adaptive": True, "weight_width": 4},
        {"padding": "circular", "adaptive": True, "weight_width": 4},
    ],
    ids=str,
)
def test_settings_without_weights_are_compared_as_well(changes, tmp_path: Path) -> None:
    config = replace(CONFIG, **changes)
    model = config.build_adaptive() if config.adaptive else config.build()
    other = replace(CONFIG, adaptive=config.adaptive, weight_width=config.weight_width)
    with pytest.raises(ValueError, match="was not built from this configuration"):
        save_model(tmp_path / "a.safetensors", perturbed(model), other, CARD)
    assert os.listdir(tmp_path) == []


def test_what_a_file_cannot_hold_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    weighted = CONFIG.build().with_weights(torch.ones(1, 2, 16, 16))
    others = [perturbed(CONFIG.build()) for _ in ("zero_mean", "staged")]
    for model, setting in zip(others, ("zero_mean", "staged"), strict=True):
        operator = next(m for m in model.modules() if isinstance(m, Convolution))
        setattr(operator, setting, not getattr(operator, setting))
    for model in (weighted, *others):
        with pytest.raises(ValueError, match="was not built from this configuration"):
            save_model(path, model, CONFIG, CARD)
    broken = CONFIG.build()
    next(broken.parameters()).data.view(-1)[0] = float("nan")
    with pytest.raises(ValueError, match="not saved: it holds NaN"):
        save_model(path, broken, CONFIG, CARD)
    assert os.listdir(tmp_path) == []
