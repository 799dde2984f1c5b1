"""Models by name, and model files.

A model file is a safetensors file whose metadata holds the architecture's settings and the model
card as JSON. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast, overload

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from convexreg.adaptive import AdaptiveRegularizer
from convexreg.files import write_atomically
from convexreg.models.config import AnyRegularizer, ModelConfig, parameter_count
from convexreg.regularizer import ConvexRegularizer, Regularizer

DEFAULT_MODEL = "mgradnet-m-colour-adaptive"
"""The shipped model that takes measurements to an image where none is named."""
CONVEX_MODEL = "mgradnet-m-colour"
"""The same where one convex function is needed: a prior, a proximal operator."""

_FORMAT = "convexreg-1"


class ModelFileError(ValueError):
    """A model file that cannot be used; the message says why."""


@dataclass(frozen=True, repr=False)
class Model:
    """A regularizer with the settings it was built from and its model card."""

    regularizer: AnyRegularizer
    config: ModelConfig
    card: Mapping[str, Any]

    def __repr__(self) -> str:
        """In a line; `regularizer` shows its parts."""
        kind = "adaptive" if self.config.adaptive else "convex"
        return (
            f"Model({self.regularizer.name}, {kind} {self.config.architecture} of "
            f"{self.config.channels[-1]} filters, {parameter_count(self.regularizer)} parameters)"
        )


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
    those show in the gradient.

    :raises ValueError: gradients that are not finite.
    """
    twin = _build(config, regularizer.name)
    expected = twin.state_dict()
    for key in sorted(expected.keys() | state.keys()):
        if key not in state or key not in expected or state[key].shape != expected[key].shape:
            return key
    weight = next(iter(state.values()))
    twin.to(weight).load_state_dict(state)
    side, part = 16, config
    while part is not None:  # as large as the kernels of all rounds
        side, part = max(side, sum(part.kernel_sizes)), part.first
    random = torch.Generator().manual_seed(0)
    image = torch.rand(1, config.in_channels, side, side, generator=random).to(weight)
    for own, other in zip(_rounds(regularizer), _rounds(twin), strict=True):
        if own.sigma_range != other.sigma_range or own.in_channels != other.in_channels:
            return "the noise levels or the channels they are for"
        if own.weighted_shape is not None:
            return "weights of its terms, which no file holds"
        low, high = own.sigma_range or (config.sigma_min, config.sigma_max)
        for sigma in (low, (low * high) ** 0.5, high):
            with torch.no_grad():
                grads = [item.grad(image, sigma) for item in (own, other)]
            if not all(bool(grad.isfinite().all()) for grad in grads):
                raise ValueError(
                    f"the model {regularizer.name} was not saved: its gradients are NaN or infinite"
                )
            if not torch.allclose(*grads, rtol=1e-4, atol=1e-5 * float(grads[1].abs().max())):
                return "their gradients"
    return None


def _rounds(regularizer: AnyRegularizer) -> list[ConvexRegularizer]:
    if isinstance(regularizer, AdaptiveRegularizer):
        return [*_rounds(regularizer.first), regularizer.second]
    return [regularizer]


def load_model(name: str | Path = CONVEX_MODEL) -> Model:
    """A shipped model by name, or a model file by path: frozen and in evaluation mode.

    Random numbers are left alone.

    :param name: see `pretrained_names()`, or a path.
    :raises ModelFileError: no such model or file, not a readable safetensors file, not one of ours, or
        inconsistent.
    """
    path = Path(name)
    if isinstance(name, Path) or path.name != name or path.suffix:
        return _read(path)
    if name not in pretrained_names():
        if path.is_file():
            return _read(path)
        raise ModelFileError(
            f"there is no shipped model {name!r}; shipped: {', '.join(pretrained_names())}. A model "
            "file is given by its path"
        )
    shipped = resources.files("convexreg.models") / "pretrained" / f"{name}.safetensors"
    with resources.as_file(shipped) as file:
        return _read(file)


def pretrained_names() -> list[str]:
    """Names of the shipped models."""
    folder = resources.files("convexreg.models") / "pretrained"
    return sorted(
        entry.name.removesuffix(".safetensors")
        for entry in folder.iterdir()
        if entry.name.endswith(".safetensors")
    )


_BROUGHT = (("term",), ("energy", "grad"), ("fn", "grad"), ("value_and_grad",))
"""The methods of what is not ours and can be minimised with, see `reconstruction.regularization`."""


@overload
def regularizer_of(thing: Any, *, convex: Literal[True]) -> ConvexRegularizer: ...
@overload
def regularizer_of(thing: Any, *, convex: bool = False) -> AnyRegularizer: ...
def regularizer_of(thing: Any, *, convex: bool = False) -> AnyRegularizer:
    """The regularizer that is meant by the name of a shipped model, the path of a model file, or itself.

    An object of another class is taken as it is, if it has the method `term(sigma)` or the methods `energy`
    and `grad`.

    :param convex: refuse an adaptive regularizer, of which no one convex function is known yet.
    :raises ModelFileError: no such model, an unusable file, or an adaptive model where a convex one is
        needed.
    :raises TypeError: an object that is none of these, or such an adaptive regularizer.
    :raises ValueError: a regularizer that is not convex.
    """
    regularizer = load_model(thing).regularizer if isinstance(thing, (str, Path)) else thing
    if isinstance(regularizer, AdaptiveRegularizer):
        if convex:
            kind = TypeError if thing is regularizer else ModelFileError
            raise kind(
                f"{regularizer.name} is adaptive: which convex regularizer it is depends on a first "
                "reconstruction. Freeze it by regularizer.given(image, sigma), or use reconstruct or "
                "ConvexReconstructor"
            )
    elif isinstance(regularizer, Regularizer):
        if not regularizer.convex:
            raise ValueError(f"the regularizer {regularizer.name} is not convex")
    elif not any(_has(regularizer, *methods) for methods in _BROUGHT):
        raise TypeError(
            "a regularizer is the name of a shipped model, the path of a model file, a ConvexRegularizer, "
            "an AdaptiveRegularizer, a deepinv prior, or an object with the methods energy "
            "and grad; got "
            f"{type(thing).__name__}"
        )
    return cast("AnyRegularizer", regularizer)


def _has(thing: object, *methods: str) -> bool:
    return all(callable(getattr(thing, name, None)) for name in methods)


@torch.inference_mode(False)  # the tensors of a model must serve differentiated calls as well
def _read(path: Path) -> Model:
    if not path.is_file():
        raise ModelFileError(f"there is no model file {path}")
    try:
        with safe_open(path, framework="pt") as file, torch.device("cpu"):
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
        config = _config(json.loads(metadata["config"]))
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


def _config(settings: dict[str, Any]) -> ModelConfig:
    for key in ("channels", "kernel_sizes"):
        settings[key] = tuple(settings[key])
    for key in ("first", "chroma"):
        if settings.get(key) is not None:
            settings[key] = _config(settings[key])
    return ModelConfig(**settings)


@contextmanager
def aside() -> Iterator[None]:
    """Modules made within are on the CPU and start from random numbers that are not the caller's."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        yield


def _build(config: ModelConfig, name: str) -> AnyRegularizer:
    with aside():
        return config.build_adaptive(name) if config.adaptive else config.build(name)


def _common_dtype(tensors: Mapping[str, Tensor]) -> torch.dtype:
    dtypes = {tensor.dtype for tensor in tensors.values()}
    if len(dtypes) != 1 or not (dtype := dtypes.pop()).is_floating_point:
        raise ValueError("the weights are not of one floating-point type")
    return dtype
