"""Model files: what is saved is what is loaded, and nothing else is believed."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import asdict, replace
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from convexreg import AdaptiveRegularizer, ModelConfig, ModelFileError, load_model, save_model
from convexreg.models.config import ARCHITECTURES, parameter_count
from convexreg.models.files import DEFAULT_MODEL, pretrained_names, regularizer_of
from convexreg.networks.cascaded import GradNetC
from convexreg.networks.operators import Convolution, Dense
from convexreg.networks.potentials import LogCosh
from convexreg.regularizer import Regularizer
from tests.tables import perturbed

CONFIG = ModelConfig("mgradnet-m", (1, 2, 4), (3, 3), sigma_min=0.01, sigma_max=0.3)
CARD = {"training_data": "none", "figures": {"25": 29.1}, "steps": 3}


def write(path: Path, config: ModelConfig = CONFIG) -> Path:
    regularizer = perturbed(config.build("mine"), 0.3).float()
    save_model(path, regularizer, config, CARD)
    return path


def tampered(path: Path, **metadata: str) -> Path:
    """The same tensors with other metadata."""
    original = _metadata(path)
    save_file(load_file(path), path, metadata=original | metadata)
    return path


def _metadata(path: Path) -> dict[str, str]:
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return header["__metadata__"]


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


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_truncated_files_are_refused(share: float, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelFileError, match="not a readable safetensors file"):
        load_model(path)


def test_damaged_bytes_never_escape_as_another_error(tmp_path: Path) -> None:
    """Flipped bits either leave a readable model with finite weights or are refused as damage."""
    path = write(tmp_path / "a.safetensors")
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    generator = numpy.random.default_rng(0)
    places = numpy.concatenate(
        [numpy.arange(0, header, 2), generator.integers(header, len(content), 60)]
    )
    refused = 0
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(bytes(damaged))
        try:
            model = load_model(path)
        except ModelFileError:
            refused += 1
        else:
            assert all(p.isfinite().all() for p in model.regularizer.parameters())
    assert refused > len(places) / 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other-1"}, "not a convexreg model file"),
        ({"config": "{"}, "damaged or inconsistent"),
        ({"config": "[]"}, "damaged or inconsistent"),
        ({"config": "null"}, "damaged or inconsistent"),
        ({"card": "{"}, "damaged or inconsistent"),
        ({"card": "3"}, "damaged or inconsistent"),
    ],
)
def test_foreign_metadata_is_refused(changes, message: str, tmp_path: Path) -> None:
    path = tampered(write(tmp_path / "a.safetensors"), **changes)
    with pytest.raises(ModelFileError, match=message):
        load_model(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "resnet"},
        {"architecture": None},
        {"channels": [1, 2, 8]},
        {"channels": [1, 0, 4]},
        {"channels": [1, -2, 4]},
        {"channels": ["1", 2, 4]},
        {"channels": 3},
        {"channels": []},
        {"kernel_sizes": [3, 4]},
        {"kernel_sizes": []},
        {"kernel_sizes": [3.0, 3.0]},
        {"padding": "reflect"},
        {"sigma_min": 1.0},
        {"sigma_min": "low"},
        {"sigma_max": float("nan")},
        {"noise_knots": 1},
        {"noise_knots": 2.5},
        {"group_size": 0},
        {"group_size": 3},
        {"mixing": True},
        {"unheard_of": 1},
    ],
    ids=str,
)
def test_settings_that_do_not_fit_the_weights_are_refused(changes, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors")
    tampered(path, config=json.dumps(asdict(CONFIG) | changes))
    with pytest.raises(ModelFileError, match="damaged or inconsistent"):
        load_model(path)


@pytest.mark.parametrize("missing", ["format", "name", "config", "card"])
def test_missing_metadata_is_refused(missing: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors")
    metadata = _metadata(path)
    del metadata[missing]
    save_file(load_file(path), path, metadata=metadata)
    with pytest.raises(ModelFileError):
        load_model(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, foreign)
    with pytest.raises(ModelFileError, match="not a convexreg model file"):
        load_model(foreign)
    for content in (b"", b"PK\x03\x04 a zip", pickle.dumps({"a": 1}), b"\x89PNG\r\n", b"{}" * 50):
        foreign.write_bytes(content)
        with pytest.raises(ModelFileError, match="not a readable safetensors file"):
            load_model(foreign)
    torch.save({"weight": torch.zeros(3)}, foreign)
    with pytest.raises(ModelFileError, match="not a readable safetensors file"):
        load_model(foreign)
    with pytest.raises(ModelFileError, match="there is no model file"):
        load_model(tmp_path / "missing.safetensors")
    with pytest.raises(ModelFileError, match="there is no model file"):
        load_model(tmp_path)


def test_missing_and_additional_tensors_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors")
    metadata, tensors = _metadata(path), load_file(path)
    name = next(key for key, value in tensors.items() if value.ndim > 1)
    for changed in (
        {key: value for key, value in tensors.items() if key != name},
        tensors | {"network.extra": torch.zeros(2)},
        tensors | {name: tensors[name].flatten()},
        tensors | {name: tensors[name].long()},
        {},
    ):
        save_file(changed, path, metadata=metadata)
        with pytest.raises(ModelFileError, match="damaged or inconsistent"):
            load_model(path)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(number: float, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors")
    metadata, tensors = _metadata(path), load_file(path)
    for name in tensors:
        broken = {key: value.clone() for key, value in tensors.items()}
        broken[name].view(-1)[0] = number
        save_file(broken, path, metadata=metadata)
        with pytest.raises(ModelFileError, match="NaN or infinite"):
            load_model(path)


def test_nothing_is_left_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.safetensors")
    content = path.read_bytes()
    other = perturbed(CONFIG.build("other")).float()
    with pytest.raises(TypeError):  # a card that is not JSON
        save_model(path, other, CONFIG, {"figures": object()})

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    for function in ("replace", "fdopen"):
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
    assert load_model().regularizer.name == DEFAULT_MODEL
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
