"""What the commands of the command line do."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from convexreg.adaptive import AdaptiveRegularizer
from convexreg.cli.batch import restore_files
from convexreg.cli.log import LOG
from convexreg.cli.noise import GivenNoise, channels_of, parse_sigma
from convexreg.cli.progress import ProgressBar
from convexreg.cli.restoration import Follow, Told, parse_weight, report, restored
from convexreg.cli.text import card_text, table
from convexreg.files import write_atomically
from convexreg.models.config import AnyRegularizer, parameter_count
from convexreg.models.files import load_model, pretrained_names
from convexreg.pictures import kernels
from convexreg.pictures.files import check_writable
from convexreg.pictures.masks import read_missing
from convexreg.pictures.photograph import ImageError, Photograph
from convexreg.restoration.picture import deblurred, denoised, reconstructed
from convexreg.restoration.result import Restoration
from convexreg.training.parallel import is_first


def denoise(options: argparse.Namespace) -> int:
    noise, gain = GivenNoise.of(options), options.gain
    gain = gain if gain in (None, "auto") else parse_sigma(gain)

    def restore(photograph: Photograph, follow: Follow | None) -> tuple[Photograph, Told]:
        parts = photograph.parts(equal_is_gray=not noise.of_channels)
        levels = noise.levels(photograph, parts)

        def part(pixels: Tensor, index: int, **solve: Any) -> Restoration:
            return denoised(pixels, levels[index], gain=gain, step=photograph.step, **solve)

        return restored(options, photograph, parts, part, follow)

    return restore_files(options, restore)


def _note_for_all(text: str) -> None:
    """What should be known of all files: of several processes one says it."""
    if is_first():
        LOG.info("%s", text)


def _kernel(options: argparse.Namespace) -> kernels.Kernel:
    """From a file, or by its numbers."""
    if options.gaussian is not None:
        return kernels.gaussian(options.gaussian)
    if options.disc is not None:
        return kernels.disc(options.disc)
    if options.motion is not None:
        return kernels.motion(*options.motion)
    return kernels.read_kernel(options.kernel)


def deblur(options: argparse.Namespace) -> int:
    noise, kernel = GivenNoise.of(options), _kernel(options)
    for remark in kernel.said:
        _note_for_all(remark)
    channels = kernel.filter.shape[1]

    def restore(photograph: Photograph, follow: Follow | None) -> tuple[Photograph, Told]:
        if channels not in (1, photograph.pixels.shape[0]):
            raise ImageError(
                f"the kernel has {channels} channels and the photograph {photograph.pixels.shape[0]}; give "
                "one kernel for all channels, or one for each"
            )
        parts = photograph.parts(equal_is_gray=channels == 1 and not noise.of_channels)
        levels, places = noise.levels(photograph, parts), channels_of(parts)

        def part(pixels: Tensor, index: int, **solve: Any) -> Restoration:
            own = kernel.filter[:, places[index]] if channels > 1 else kernel.filter
            return deblurred(pixels, own, levels[index], boundary=options.boundary, **solve)

        return restored(options, photograph, parts, part, follow)

    return restore_files(options, restore)


def inpaint(options: argparse.Namespace) -> int:
    import deepinv

    noise, mask = GivenNoise.of(options), read_missing(options.mask)
    if mask.float().mean() > 0.5:
        _note_for_all(f"{options.mask} marks more than half; white is what is missing")

    def restore(photograph: Photograph, follow: Follow | None) -> tuple[Photograph, Told]:
        sizes = [tuple(image.shape[-2:]) for image in (mask, photograph.pixels)]
        if sizes[0] != sizes[1]:
            raise ImageError(
                f"the mask is {sizes[0][0]} x {sizes[0][1]} and the photograph {sizes[1][0]} x "
                f"{sizes[1][1]}; they must be of one size"
            )

        parts = photograph.parts(equal_is_gray=not noise.of_channels)
        levels = noise.levels(photograph, parts)

        def part(pixels: Tensor, index: int, **solve: Any) -> Restoration:
            known = (~mask).to(pixels).expand_as(pixels)
            size: Any = pixels.shape  # of any length, whatever deepinv's annotation says
            physics = deepinv.physics.Inpainting(size, mask=known, device=pixels.device)
            shown = torch.where(known > 0, pixels, torch.nan)
            return reconstructed(pixels * known, physics, levels[index], shown=shown, **solve)

        share = f"{100 * float(mask.float().mean()):.3g} %"
        return restored(options, photograph, parts, part, follow, missing=share)

    return restore_files(options, restore)


def superresolve(options: argparse.Namespace) -> int:
    import deepinv

    noise, factor = GivenNoise.of(options), options.factor
    filter = kernels.antialiasing(factor)

    def enlarged(pixels: Tensor, sigma: Any, **solve: Any) -> Restoration:
        channels, height, width = pixels.shape
        physics = deepinv.physics.Downsampling(
            img_size=(channels, factor * height, factor * width),
            filter=filter,
            factor=factor,
            padding="replicate",
            device=pixels.device,
        )
        return reconstructed(pixels, physics, sigma, **solve)

    def restore(photograph: Photograph, follow: Follow | None) -> tuple[Photograph, Told]:
        parts = photograph.parts(equal_is_gray=not noise.of_channels)
        levels = noise.levels(photograph, parts)

        def part(pixels: Tensor, index: int, **solve: Any) -> Restoration:
            return enlarged(pixels, levels[index], **solve)

        result, told = restored(options, photograph, parts, part, follow)
        alpha = result.alpha
        if alpha is not None:
            alpha = torch.nn.functional.interpolate(
                alpha[None], scale_factor=factor, mode="bicubic"
            )
            alpha = alpha[0].clamp(0, 1)
        return replace(result, alpha=alpha, tags=result.tags.magnified(factor)), told

    return restore_files(options, restore)


def demo(options: argparse.Namespace) -> None:
    from convexreg.cli.demo import run_demo

    check_writable(options.output)
    if options.output.suffix.lower() in (".npy", ".npz"):
        raise ImageError(
            f"the picture of the demo has a frame and titles; got {options.output}, use .png"
        )
    outcome = run_demo(
        options.model,
        lam=parse_weight(options.lam),
        accuracy=options.accuracy,
        gap_tol=options.gap,
        max_iter=options.max_iter,
        device=options.device,
        callback=lambda: ProgressBar(quiet=options.quiet),
    )
    write_atomically(options.output, outcome.picture(options.output.suffix))
    if options.json:
        print(json.dumps([report(p.result, p.figures()) for p in outcome.problems], indent=2))
    else:
        print(outcome.text())
        print(f"picture: {options.output}")


def train(options: argparse.Namespace) -> None:
    from convexreg.cli.train import train as run

    run(options)


def _lipschitz(regularizer: AnyRegularizer) -> dict[str, float]:
    """Proven Lipschitz constant of the gradient at 25/255, as an entry of the card."""
    if isinstance(regularizer, AdaptiveRegularizer):
        bound = float(regularizer.second.lipschitz(sigma=25 / 255))
        return {"lipschitz_at_25_with_all_weights_one": bound}
    return {"lipschitz_at_25": float(regularizer.lipschitz(sigma=25 / 255))}


def info(options: argparse.Namespace) -> None:
    names = [options.model] if options.model else pretrained_names()
    cards: dict[str, dict[str, Any]] = {}
    for name in names:
        model = load_model(name)
        cards[name] = {
            "architecture": model.config.architecture,
            "adaptive": model.config.adaptive,
            "channels": model.config.channels,
            "group_size": model.config.group_size,
            "parameters": parameter_count(model.regularizer),
            "sigma_range": [round(level, 5) for level in model.regularizer.sigma_range or ()],
            **_lipschitz(model.regularizer),
            **model.card,
        }
    if options.json:
        print(json.dumps(cards, indent=2))
    elif options.model:
        print(f"{options.model}\n{card_text(cards[options.model])}")
    else:
        print(table(cards))
        print("convexreg info MODEL shows the card of one")
