"""The model that a training starts from."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from convexreg.adaptive import AdaptiveRegularizer
from convexreg.models.colour import colour_model
from convexreg.models.config import AnyRegularizer, ModelConfig
from convexreg.models.files import load_model


def initial_model(options: argparse.Namespace) -> tuple[ModelConfig, AnyRegularizer]:
    """The model to train: fresh, or another one; an adaptive one can also start from a convex one.

    :raises ValueError: a start of another kind.
    """
    if options.colour:
        return _initial_colour(options)
    config = ModelConfig(architecture=options.architecture, adaptive=options.adaptive)
    if options.filters:
        config = replace(config, channels=(*config.channels[:-1], options.filters))
    start = None
    if options.start:
        if options.filters:
            raise ValueError("the filters are those of --start; leave --filters out")
        start = load_model(options.start)
        config = replace(start.config, adaptive=options.adaptive)
        if config.architecture != options.architecture or start.config.adaptive > options.adaptive:
            kind = "n adaptive" if start.config.adaptive else ""
            flag = " --adaptive" if start.config.adaptive else ""
            raise ValueError(
                f"{options.start} is a{kind} {config.architecture}, which a {options.architecture} cannot "
                f"start from; give --architecture {config.architecture}{flag}"
            )
        if config == start.config and not options.another_round:
            return config, start.regularizer
    if not config.adaptive:
        return config, config.build()
    if start is None:
        raise ValueError(
            "the first round of an adaptive model is not trained: give a trained model by --start"
        )
    if isinstance(start.regularizer, AdaptiveRegularizer):
        config = replace(config, first=start.config)
    adaptive = config.build_adaptive()
    adaptive.first.load_state_dict(start.regularizer.state_dict())
    last = start.regularizer
    if isinstance(last, AdaptiveRegularizer):
        adaptive.network.load_state_dict(last.network.state_dict())
        last = last.second
    adaptive.second.load_state_dict(last.state_dict())
    return config, adaptive


def origin(options: argparse.Namespace) -> str:
    """What the model is at the start, for its card."""
    start = Path(options.start).name if options.start else None
    if not options.colour:
        return start or "random filters"
    luminance = Path(_luminance(options)).name
    return f"luminance of {luminance}, colour differences of {start or 'its strongest filters'}"


def _luminance(options: argparse.Namespace) -> str:
    default = "mgradnet-m-adaptive" if options.adaptive else "mgradnet-m"
    return options.luminance or default


def _initial_colour(options: argparse.Namespace) -> tuple[ModelConfig, AnyRegularizer]:
    """The model for colour images to train.

    :raises ValueError: models of other kinds.
    """
    if options.filters:
        raise ValueError("--filters is for gray models; leave it out with --colour")
    luminance = load_model(_luminance(options))
    if luminance.config.adaptive != options.adaptive:
        raise ValueError(
            "an adaptive model for colour images has an adaptive model of the luminance: give --adaptive and "
            "an adaptive --luminance, or neither"
        )
    return colour_model(luminance, load_model(options.start) if options.start else None)
