"""The regularizers under test: shipped, from files, published, and one made by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from benchmarks.harness.options import Options
from convexreg.adaptive import AdaptiveRegularizer
from convexreg.models.config import AnyRegularizer
from convexreg.models.files import load_model, pretrained_names
from convexreg.models.published import load_published
from convexreg.networks.conditioning import NoiseScaling
from convexreg.networks.modular import GradientModule
from convexreg.networks.operators import Convolution
from convexreg.networks.potentials import PseudoHuber
from convexreg.regularizer import ConvexRegularizer, Regularizer

# whether the weight has to be tuned for denoising: those trained at one noise level
PUBLISHED = {
    "crr_deq_multinoise": False,
    "crr_tstep_sigma25_t50": True,
    "crr_tstep_sigma5_t10": True,
    "crr_huber_bilevel": True,
    "icnn_bilevel": True,
    "wcrr_deq_multinoise": False,
}


class Unavailable(ValueError):
    """A method that cannot be tried here; the message says why."""


@dataclass(frozen=True)
class NamedModel:
    """A regularizer that is loaded when asked for; loading may raise `Unavailable`.

    :ivar tune_denoising: whether its weight has to be tuned for denoising as well; models conditioned
        on the noise level are trained so that one is right.
    """

    name: str
    description: str
    load: Callable[[], Regularizer | AdaptiveRegularizer]
    tune_denoising: bool = False


def models(options: Options) -> list[NamedModel]:
    """Shipped models, files given by the user, published weights, and the hand-made one."""
    shipped = [
        NamedModel(name, "shipped with convexreg", _remember(name)) for name in pretrained_names()
    ]
    files = [
        NamedModel(Path(path).stem, f"model file {Path(path).name}", _remember(path))
        for path in options.models
    ]
    published = [
        NamedModel(f"{name} (published)", "its authors' weights", _published(name, options), tuned)
        for name, tuned in PUBLISHED.items()
    ]
    return [
        *shipped,
        *files,
        *published,
        NamedModel("cosines", "DCT filters, by hand", cosines, True),
    ]


def default_regularizer(options: Options) -> Regularizer:
    """The one solvers are compared on: the first of the user's models or of the shipped ones, else the
    one made by hand.

    :raises ValueError: the user's model is adaptive, that is no single convex regularizer.
    """
    table = {row.name: row for row in models(options)}
    preferred = [Path(path).stem for path in options.models]
    if not options.tiny:
        preferred += ["mgradnet-m", "crr"]
    chosen = next((table[name] for name in preferred if name in table), table["cosines"])
    regularizer = chosen.load()
    if isinstance(regularizer, AdaptiveRegularizer):
        raise ValueError(f"{chosen.name} is adaptive; give a convex model to compare solvers on")
    return regularizer


def gradient_module(regularizer: Regularizer) -> tuple[GradientModule, Convolution] | None:
    """The regularizer's only gradient module and its convolution, `None` for networks of another kind."""
    found = [m for m in regularizer.modules() if isinstance(m, GradientModule)]
    if len(found) != 1 or not isinstance(found[0].operator, Convolution):
        return None
    return found[0], found[0].operator


def _remember(name: str) -> Callable[[], AnyRegularizer]:
    return cache(lambda: load_model(name).regularizer)


def _published(name: str, options: Options) -> Callable[[], Regularizer]:
    @cache
    def load() -> Regularizer:
        path = Path(options.weights or ".") / f"{name}.safetensors"
        if options.weights is None or not path.is_file():
            raise Unavailable(f"give --weights FOLDER with {path.name}")
        return load_published(path)

    return load


@cache
def cosines(size: int = 7) -> ConvexRegularizer:
    """Pseudo-Huber ridges on the discrete cosine transform of `size` x `size` patches, without its mean.

    Learned by nobody: what filters from a textbook give with the same noise conditioning.
    """
    grid = torch.arange(size, dtype=torch.float64)
    lines = torch.cos(math.pi / size * torch.outer(grid, grid + 0.5))
    lines = lines / lines.norm(dim=1, keepdim=True)
    kernels = torch.einsum("ih,jw->ijhw", lines, lines).flatten(0, 1)[1:].unsqueeze(1) / size
    count = kernels.shape[0]
    operator = Convolution((1, count), (size,))
    conditioning = NoiseScaling(
        count, count, sigma_min=1 / 255, sigma_max=50 / 255, relative_slope=1.4
    )
    with torch.no_grad():
        operator.kernels[0].copy_(kernels)
        # filters of norm 1/size see noise of standard deviation sigma/size
        conditioning.log_threshold.sub_(math.log(20 * size))
        conditioning.log_slope.sub_(math.log(size))
    network = GradientModule(operator, PseudoHuber(), bias=False, conditioning=conditioning)
    model = ConvexRegularizer(network, sigma_range=(1 / 255, 50 / 255), name="cosines")
    return model.eval().requires_grad_(False)
