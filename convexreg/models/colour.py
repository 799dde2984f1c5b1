"""Models for colour images, whose luminance is that of a gray model."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import cast

from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from convexreg.models.config import AnyRegularizer, ModelConfig
from convexreg.models.files import Model
from convexreg.networks.conditioning import NoiseScaling
from convexreg.networks.modular import GradientModule
from convexreg.networks.operators import Convolution

CHROMA = ModelConfig(channels=(2, 48), kernel_sizes=(5,), group_size=2, block=2, weight_width=64)
"""Of the part for the two colour differences: pairs of filters on both of them, with one threshold, of
10 x 10 pixels at every second row and column."""
_STRENGTH = 2.9
"""Of the first filters on colour differences, relative to what they have in gray."""


def colour_model(
    luminance: Model, start: Model | None = None
) -> tuple[ModelConfig, AnyRegularizer]:
    """A model for colour images whose part for the colour differences is still to be trained.

    :param luminance: a gray model; an adaptive one makes an adaptive model.
    :param start: a model for colour images from which the colour differences start. Without one, in a model
        that is not adaptive, they start from the strongest filters of the luminance.
    :raises ValueError: models of other kinds, or none to start from for an adaptive one.
    """
    gray, adaptive = luminance.config, luminance.config.adaptive
    if gray.in_channels != 1:
        raise ValueError("the luminance is that of a gray model, this one is for colour images")
    chroma = CHROMA if start is None else start.config.chroma
    if chroma is None or (start is not None and start.config.adaptive and not adaptive):
        raise ValueError(
            "colour differences start from a model for colour images, an adaptive one only those of an "
            "adaptive model"
        )
    if start is None and adaptive:
        raise ValueError(
            "the first round of an adaptive model is not trained: start from a trained model for colour "
            "images"
        )
    config = _with_chroma(gray, chroma)
    model = config.build_adaptive() if adaptive else config.build()
    state = model.state_dict()
    for key, value in luminance.regularizer.state_dict().items():
        state[re.sub(r"^((first|second)\.)*network\.", r"\g<0>luminance.", key)] = value
    theirs = _first_filters(luminance) if start is None else start.regularizer.state_dict()
    for key in state:
        if ".chroma." in key:
            # those of a model that is not adaptive are the start of all rounds
            source = key if key in theirs else re.sub(r"^((first|second)\.)+", "", key)
            state[key] = theirs.get(source, state[key])
    model.load_state_dict(state)
    return config, model


def _with_chroma(gray: ModelConfig, chroma: ModelConfig) -> ModelConfig:
    """The settings of a model with this luminance, those of all its rounds."""
    first = gray.first
    if gray.adaptive and first is None:
        first = replace(gray, adaptive=False)
    first = None if first is None else _with_chroma(first, chroma)
    return replace(gray, chroma=chroma, first=first)


def _first_filters(luminance: Model) -> dict[str, Tensor]:
    """The colour differences of a new model: the strongest filters of a gray one, on each of the two."""
    modules = luminance.regularizer.modules()
    module = next(part for part in modules if isinstance(part, GradientModule))
    conditioning = cast("NoiseScaling", module.conditioning)
    kernel = cast("Convolution", module.operator).kernel.detach()
    groups = CHROMA.channels[1] // 2
    thresholds = conditioning.log_threshold.detach()
    slopes = conditioning.log_slope.detach()
    slopes = slopes.repeat_interleave(thresholds.shape[1] // slopes.shape[1], 1)
    strongest = (slopes.exp().mean(0) * kernel.flatten(1).norm(dim=1)).argsort()[-groups:]
    size, block = CHROMA.kernel_sizes[0] * CHROMA.block, CHROMA.block
    margin = (kernel.shape[-1] - size) // 2
    inside = slice(margin, margin + size)
    filters = kernel.new_zeros(CHROMA.channels[1], 2, size, size)
    for difference in range(2):
        filters[difference::2, difference] = kernel[strongest, 0, inside, inside]
    part = "network.chroma.network.networks.0"
    strength = math.log(_STRENGTH * block**2)  # as many times fewer responses
    return {
        f"{part}.operator.kernels.0": pixel_unshuffle(filters, block),
        f"{part}.conditioning.log_threshold": thresholds[:, strongest].repeat_interleave(2, 1),
        f"{part}.conditioning.log_slope": slopes[:, strongest] + strength,
    }
