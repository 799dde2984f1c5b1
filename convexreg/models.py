"""Architectures by name, and model files.

A model file is a safetensors file whose metadata holds the architecture's settings and the model
card as JSON. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from convexreg.adaptive import AdaptiveRegularizer
from convexreg.cascade import MGradNetC
from convexreg.combinations import MGradNetM
from convexreg.conditioning import NoiseScaling
from convexreg.files import write_atomically
from convexreg.module import GradientModule
from convexreg.network import GradientNetwork
from convexreg.operators import Convolution, Padding
from convexreg.potentials import LinearSpline, LogCosh, PooledNorm, TanhMixture
from convexreg.regularizer import ConvexRegularizer
from convexreg.weight_network import WeightNetwork

Architecture = Literal["mgradnet-m", "mgradnet-c", "crr"]
ARCHITECTURES: tuple[Architecture, ...] = ("mgradnet-m", "mgradnet-c", "crr")
AnyRegularizer = ConvexRegularizer | AdaptiveRegularizer
_FORMAT = "convexreg-1"


class ModelFileError(ValueError):
    """A model file that cannot be used; the message says why."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build a regularizer.

    - `mgradnet-m`: one module, pooled norms of groups of channels.
    - `mgradnet-c`: a cascade of two learned activations, a sum of convex ridges.
    - `crr`: convex ridges with one learned monotone linear spline (Goujon et al. 2023).

    :ivar group_size: channels per pooled norm (`mgradnet-m`); one makes ridges.
    :ivar mixing: learn a dense channel mixing inside the norms as well (`mgradnet-m`).
    :ivar channels: of the chain of convolutions, starting with the image's.
    :ivar kernel_sizes: odd, one per convolution.
    :ivar sigma_min, sigma_max: trained noise levels on the [0, 1] scale.
    :ivar noise_knots: levels at which the noise conditioning is learned.
    :ivar adaptive: two of them in turn, the second one weighted by what the first one reconstructed
        (`AdaptiveRegularizer`).
    :ivar weight_width: channels of the hidden layers of the network that makes the weights (adaptive).
    """

    architecture: Architecture = "mgradnet-m"
    channels: tuple[int, ...] = (1, 4, 8, 64)
    kernel_sizes: tuple[int, ...] = (5, 5, 5)
    padding: Padding = "zero"
    sigma_min: float = 1 / 255
    sigma_max: float = 50 / 255
    noise_knots: int = 6
    group_size: int = 2
    mixing: bool = False
    adaptive: bool = False
    weight_width: int = 92

    def build_adaptive(self, name: str | None = None) -> AdaptiveRegularizer:
        """A freshly initialised adaptive regularizer.

        :raises ValueError: an unknown architecture, or settings that do not fit together.
        """
        name = name or f"{self.architecture}-adaptive"
        first, second = (self.build(f"{name}, round {number}") for number in (0, 1))
        network = WeightNetwork(second.network.terms, width=self.weight_width)
        return AdaptiveRegularizer(first, second, network, name=name)

    def build(self, name: str | None = None) -> ConvexRegularizer:
        """A freshly initialised regularizer; of an adaptive model that of one round.

        :raises ValueError: an unknown architecture, or settings that do not fit together.
        """
        operator = Convolution(self.channels, self.kernel_sizes, padding=self.padding)
        width = self.channels[-1]
        groups = width // self.group_size if self.architecture == "mgradnet-m" else width
        conditioning = NoiseScaling(
            width,
            groups,
            sigma_min=self.sigma_min,
            sigma_max=self.sigma_max,
            knots=self.noise_knots,
        )
        network: GradientNetwork
        match self.architecture:
            case "mgradnet-m":
                potential = PooledNorm(width, group_size=self.group_size, learned=self.mixing)
                module = GradientModule(operator, potential, bias=False, conditioning=conditioning)
                network = MGradNetM([module], coefficients=[1.0], offset=False)
            case "mgradnet-c":
                activations = [LogCosh(), TanhMixture(width)]
                network = MGradNetC(operator, activations, conditioning=conditioning)
            case "crr":
                # in units of the threshold nu(sigma), whose spline CRR's noise scaling is
                spline = LinearSpline(1, knots=101, limit=6.0)
                network = GradientModule(operator, spline, bias=False, conditioning=conditioning)
            case _:
                raise ValueError(
                    f"unknown architecture {self.architecture!r}; known: {', '.join(ARCHITECTURES)}"
                )
        return ConvexRegularizer(
            network,
            in_channels=self.channels[0],
            sigma_range=(self.sigma_min, self.sigma_max),
            name=name or self.architecture,
        )


@dataclass(frozen=True)
class Model:
    """A regularizer with the settings it was built from and its model card."""

    regularizer: AnyRegularizer
    config: ModelConfig
    card: Mapping[str, Any]


def parameter_count(module: nn.Module) -> int:
    """Number of learned numbers."""
    return sum(parameter.numel() for parameter in module.parameters())


def save_model(
    path: str | Path, regularizer: AnyRegularizer, config: ModelConfig, card: Mapping[str, Any]
) -> None:
    """Write a model file; an existing one is replaced only once the new one is complete.

    :raises ValueError: the regularizer was not built from this configuration: nobody could load it.
    """
    with torch.random.fork_rng(devices=[]):
        expected = _build(config, regularizer.name).state_dict()
    state = regularizer.state_dict()
    differing = [
        key
        for key in sorted(expected.keys() | state.keys())
        if key not in state or key not in expected or state[key].shape != expected[key].shape
    ]
    if differing:
        raise ValueError(
            f"the regularizer was not built from this configuration, they differ in {differing[0]}; save it "
            "with the ModelConfig whose build() or build_adaptive() made it"
        )
    metadata = {
        "format": _FORMAT,
        "name": regularizer.name,
        "config": json.dumps(asdict(config)),
        "card": json.dumps(dict(card)),
    }
    tensors = {key: value.detach().contiguous() for key, value in state.items()}
    write_atomically(Path(path), save(tensors, metadata))


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
    broken = [key for key, value in tensors.items() if not torch.isfinite(value).all()]
    if broken:
        raise ModelFileError(f"the model file {path} holds NaN or infinite numbers in {broken[0]}")
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
    folder = resources.files("convexreg") / "pretrained"
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
    shipped = resources.files("convexreg") / "pretrained" / f"{name}.safetensors"
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
