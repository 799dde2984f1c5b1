"""Image reconstruction with learned convex regularizers, provable solvers and certificates."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

from convexreg.adaptive import AdaptiveRegularizer
from convexreg.models.config import ModelConfig
from convexreg.models.files import (
    Model,
    ModelFileError,
    load_model,
    pretrained_names,
    save_model,
)
from convexreg.reconstruction.colour_noise import ColourNoise
from convexreg.reconstruction.from_measurements import reconstruct
from convexreg.reconstruction.result import Reconstruction
from convexreg.regularizer import ConvexRegularizer
from convexreg.restoration.arrays import deblur, denoise

if TYPE_CHECKING:
    from convexreg.plugin.denoiser import ConvexDenoiser
    from convexreg.plugin.prior import ConvexPrior
    from convexreg.plugin.reconstructor import ConvexReconstructor

__version__ = version("convexreg")

_NEEDS_DEEPINV = {
    "ConvexDenoiser": "convexreg.plugin.denoiser",
    "ConvexPrior": "convexreg.plugin.prior",
    "ConvexReconstructor": "convexreg.plugin.reconstructor",
}

__all__ = [
    "AdaptiveRegularizer",
    "ColourNoise",
    "ConvexDenoiser",
    "ConvexPrior",
    "ConvexReconstructor",
    "ConvexRegularizer",
    "Model",
    "ModelConfig",
    "ModelFileError",
    "Reconstruction",
    "deblur",
    "denoise",
    "load_model",
    "pretrained_names",
    "reconstruct",
    "save_model",
]


def __getattr__(name: str) -> object:
    """Classes built on deepinv, which takes seconds to import, are loaded when they are asked for."""
    if name in _NEEDS_DEEPINV:
        return getattr(import_module(_NEEDS_DEEPINV[name]), name)
    raise AttributeError(f"module 'convexreg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
