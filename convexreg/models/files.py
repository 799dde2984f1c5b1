"""Models by name, and model files.

A model file is a safetensors file whose metadata holds the architecture's settings and the model
card as JSON. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from convexreg.adaptive import AdaptiveRegularizer
from convexreg.files import write_atomically
from convexreg.models.config import AnyRegularizer, ModelConfig
from convexreg.regularizer import ConvexRegularizer

_FORMAT = "convexreg-1"


class ModelFileError(ValueError):
    """A model file that cannot be used; the message says why."""


@dataclass(frozen=True)
class Model:
    """A regularizer with the settings it was built from and its model card."""

    regularizer: AnyRegularizer
    config: ModelConfig
    card: Mapping[str, Any]


def save_model(
    path: str | Path, regularizer: AnyRegularizer, config: ModelConfig, card: Mapping[str, Any]
) -> None:
    """Write a model file; an existing one is replaced only once the new one is complete.

    :raises ValueError: weights that are NaN or infinite, or a regularizer that was not built from this
        configuration: loading the file would give another one, or nothing.
    """
    state = {key: value.detach().contiguous() for key, value in regularizer.state_dict().items()}
    _check_finite(state, f"the model {regularizer.name} was not saved: it")
    difference = _difference(regularizer, state, config)
    if difference:
        raise ValueError(
            f"the regularizer was not built from this configuration, they differ in {difference}; save it "
            "with the ModelConfig whose build() or build_adaptive() made it"
        )
    metadata = {
        "format": _FORMAT,
        "name": regularizer.name,
        "config": json.dumps(asdict(config)),
        "card": json.dumps(dict(card)),
    }
    write_atomically(Path(path), save(state, metadata))


def _check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    broken = [key for key, value in tensors.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(f"{what} holds NaN or infinite numbers in {broken[0]}")


def _difference(
    regularizer: AnyRegularizer, state: Mapping[str, Tensor], config: ModelConfig
) -> str | None:
    """What loading `state` with this configuration would not give back, settings without weights included:
    those show in the gradient."""
    with torch.random.fork_rng(devices=[]):
        twin = _build(config, regularizer.name)
    expected = twin.state_dict()
    for key in sorted(expected.keys() | state.keys()):
        if key not in state or key not in expected or state[key].shape != expected[key].shape:
            return key
    weight = next(iter(state.values()))
    twin.to(weight).load_state_dict(state)
    side = max(16, sum(config.kernel_sizes))
    random = torch.Generator().manual_seed(0)
    image = torch.rand(1, config.channels[0], side, side, generator=random).to(weight)
    levels = (config.sigma_min, (config.sigma_min * config.sigma_max) ** 0.5, config.sigma_max)
    for own, other in zip(_rounds(regularizer), _rounds(twin), strict=True):
        if own.sigma_range != other.sigma_range or own.in_channels != other.in_channels:
            return "the noise levels or the channels they are for"
        if own.weighted_shape is not None:
            return "weights of its terms, which no file holds"
        for sigma in levels:
            with torch.no_grad():
                grads = [item.grad(image, sigma) for item in (own, other)]
            if not torch.allclose(*grads, rtol=1e-4, atol=1e-5 * float(grads[1].abs().max())):
                return "their gradients"
    return None


def _rounds(regularizer: AnyRegularizer) -> list[ConvexRegularizer]:
    if isinstance(regularizer, AdaptiveRegularizer):
        return [regularizer.first, regularizer.second]
    return [regularizer]


@torch.inference_mode(False)  # the tensors of a model must serve differentiated calls as well
def load_model(path: str | Path) -> Model:
    """Read a model file.

    :raises ModelFileError: not a readable safetensors file, not one of ours, or inconsistent.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"there is no model file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} is not a readable safetensors file ({error})") from error
    if metadata.get("format") != _FORMAT:
        raise ModelFileError(
            f"{path} is not a convexreg model file (its metadata lacks format {_FORMAT!r}); train one "
            "with `convexreg train`, or name a shipped model"
        )
    try:
        settings: dict[str, Any] = json.loads(metadata["config"])
        for key in ("channels", "kernel_sizes"):
            settings[key] = tuple(settings[key])
        config = ModelConfig(**settings)
        regularizer = _build(config, metadata["name"]).to(_common_dtype(tensors))
        regularizer.load_state_dict(tensors)
        _check_finite(tensors, "it")
        card = dict(json.loads(metadata["card"]))
    except (
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        ValueError,
        RuntimeError,
    ) as error:
        raise ModelFileError(
            f"the model file {path} is damaged or inconsistent: {error}"
        ) from error
    return Model(regularizer.eval().requires_grad_(False), config, card)


def _build(config: ModelConfig, name: str) -> AnyRegularizer:
    return config.build_adaptive(name) if config.adaptive else config.build(name)


def _common_dtype(tensors: Mapping[str, Tensor]) -> torch.dtype:
    dtypes = {tensor.dtype for tensor in tensors.values()}
    if len(dtypes) != 1 or not (dtype := dtypes.pop()).is_floating_point:
        raise ValueError("the weights are not of one floating-point type")
    return dtype


def pretrained_names() -> list[str]:
    """Names of the shipped models."""
    folder = resources.files("convexreg.models") / "pretrained"
    return sorted(
        entry.name.removesuffix(".safetensors")
        for entry in folder.iterdir()
        if entry.name.endswith(".safetensors")
    )


def open_model(name: str | Path) -> Model:
    """A shipped model by name, or a model file by path.

    :raises ModelFileError: no such model, or an unusable file.
    """
    path = Path(name)
    if isinstance(name, Path) or path.name != name or path.suffix:
        return load_model(path)
    if name not in pretrained_names():
        if path.is_file():
            return load_model(path)
        raise ModelFileError(
            f"there is no shipped model {name!r}; shipped: {', '.join(pretrained_names())}. A model "
            "file is given by its path"
        )
    shipped = resources.files("convexreg.models") / "pretrained" / f"{name}.safetensors"
    with resources.as_file(shipped) as file:
        return load_model(file)


def load_pretrained(name: str | Path = "mgradnet-m") -> ConvexRegularizer:
    """The convex regularizer of a shipped model, frozen and in evaluation mode.

    :param name: see `pretrained_names()`, or the path of a model file.
    :raises ModelFileError: no such model, an unusable file, or an adaptive model.
    """
    regularizer = open_model(name).regularizer
    if isinstance(regularizer, AdaptiveRegularizer):
        raise ModelFileError(
            f"{name} is adaptive: which convex regularizer it is depends on a first reconstruction. Use "
            f'reconstruct or ConvexReconstructor, or freeze it: load_adaptive("{name}").given(image, sigma)'
        )
    return regularizer


def load_adaptive(name: str | Path = "mgradnet-m-adaptive") -> AdaptiveRegularizer:
    """The adaptive regularizer of a shipped model or a model file, frozen and in evaluation mode.

    :raises ModelFileError: no such model, an unusable file, or a model that is not adaptive.
    """
    regularizer = open_model(name).regularizer
    if isinstance(regularizer, ConvexRegularizer):
        raise ModelFileError(f"{name} is not adaptive; load it with load_pretrained")
    return regularizer


def as_regularizer(regularizer: ConvexRegularizer | str | Path) -> ConvexRegularizer:
    """The regularizer itself, or the one `load_pretrained` finds by name or path.

    :raises TypeError: an adaptive regularizer whose weights are not frozen.
    """
    if isinstance(regularizer, AdaptiveRegularizer):
        raise TypeError(
            "which convex regularizer an adaptive one is depends on a first reconstruction: freeze it by "
            "regularizer.given(image, sigma), or use reconstruct or ConvexReconstructor"
        )
    if isinstance(regularizer, ConvexRegularizer):
        return regularizer
    return load_pretrained(regularizer)


def as_model(regularizer: AnyRegularizer | str | Path) -> AnyRegularizer:
    """The regularizer itself, convex or adaptive, or the one of a shipped model or a model file."""
    if isinstance(regularizer, (ConvexRegularizer, AdaptiveRegularizer)):
        return regularizer
    return open_model(regularizer).regularizer
