"""Damaged and foreign files: what cannot be a model file is refused, with one kind of error."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file

from convexreg import ModelFileError, load_model
from tests.models.model_files import CONFIG, metadata_of, tampered, write


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
    metadata = metadata_of(path)
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
    metadata, tensors = metadata_of(path), load_file(path)
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
    metadata, tensors = metadata_of(path), load_file(path)
    for name in tensors:
        broken = {key: value.clone() for key, value in tensors.items()}
        broken[name].view(-1)[0] = number
        save_file(broken, path, metadata=metadata)
        with pytest.raises(ModelFileError, match="NaN or infinite"):
            load_model(path)
