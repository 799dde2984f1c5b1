"""What the commands of the command line do."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from convexreg.adaptive import AdaptiveRegularizer
from convexreg.cli.batch import note, restore_files
from convexreg.cli.progress import ProgressBar
from convexreg.cli.restoration import Follow, Posed, Told, parse_weight, report, restored
from convexreg.cli.text import card_text, table
from convexreg.files import write_atomically
from convexreg.models.config import AnyRegularizer, parameter_count
from convexreg.models.files import load_model, pretrained_names
from convexreg.pictures import kernels
from convexreg.pictures.files import check_writable
from convexreg.pictures.masks import read_missing
from convexreg.pictures.noise import estimate_sigma
from convexreg.pictures.photograph import ImageError, Photograph


def parse_sigma(text: str) -> float:
    """`"0.1"` or `"25/255"` as a number.

    :raises ValueError: neither of them.
    """
    numerator, _, denominator = text.partition("/")
    try:
        value = float(numerator) / float(denominator or 1)
    except (ValueError, ZeroDivisionError):
        raise ValueError(
            f'the noise level must be a number such as 0.1 or a ratio such as 25/255, got "{text}"'
        ) from None
    return value


def _estimated(pixels: Tensor) -> float:
    try:
        return estimate_sigma(pixels)
    except ValueError as error:
        raise ValueError(f"{error}: --sigma 0.1, or --sigma 25/255") from error


def denoise(options: argparse.Namespace) -> int:
    import deepinv

    given = None if options.sigma == "auto" else parse_sigma(options.sigma)

    def pose(part: Tensor, _: int) -> Posed:
        sigma = _estimated(part) if given is None else given
        physics = deepinv.physics.Denoising(deepinv.physics.GaussianNoise(sigma))
        return Posed(part.unsqueeze(0), physics, sigma)

    def restore(photograph: Photograph, follow: Follow | None) -> tuple[Photograph, Told]:
        return restored(options, photograph, photograph.parts(), pose, follow)

    return restore_files(options, restore)


def _kernel(options: argparse.Namespace) -> kernels.Kernel:
    """From a file, or by its numbers."""
    if options.gaussian is not None:
        return kernels.gaussian(options.gaussian)
    if options.disc is not None:
        return kernels.disc(options.disc)
    if options.motion is not None:
        length, angle = options.motion
        if not length > 0:
            raise ValueError(f"the length of the motion must be positive, got {length:g}")
        return kernels.motion(length, angle)
    return kernels.read_kernel(options.kernel)


def deblur(options: argparse.Namespace) -> int:
    import deepinv

    sigma, kernel = parse_sigma(options.sigma), _kernel(options)
    for remark in kernel.remarks:
        note(remark)
    height, width = kernel.filter.shape[-2:]
    margins = (height // 2, width // 2) if options.boundary == "valid" else (0, 0)
    channels = kernel.filter.shape[1]

    def restore(photograph: Photograph, follow: Follow | None) -> tuple[Photograph, Told]:
        size = photograph.pixels.shape[-2:]
        if height > size[0] or width > size[1]:
            raise ImageError(
                f"the kernel, {height} x {width}, is larger than the photograph, {size[0]} x {size[1]}"
            )
        if channels not in (1, photograph.pixels.shape[0]):
            raise ImageError(
                f"the kernel has {channels} channels and the photograph {photograph.pixels.shape[0]}; give "
                "one kernel for all channels, or one for each"
            )
        parts = photograph.parts(equal_is_gray=channels == 1)
        ends = torch.tensor([len(part) for part in parts]).cumsum(0).tolist()

        def pose(part: Tensor, index: int) -> Posed:
            own = slice(ends[index] - len(part), ends[index]) if channels > 1 else slice(1)
            physics = deepinv.physics.Blur(
                kernel.filter[:, own], padding=options.boundary, device=options.device
            )
            y = part.unsqueeze(0)
            rows, columns = margins
            around = (columns, columns, rows, rows)
            start = torch.nn.functional.pad(y, around, mode="replicate")
            return Posed(y, physics, sigma, start, margins)

        return restored(options, photograph, parts, pose, follow)

    return restore_files(options, restore)


def inpaint(options: argparse.Namespace) -> int:
    import deepinv

    sigma, mask = parse_sigma(options.sigma), read_missing(options.mask)
    if mask.float().mean() > 0.5:
        note(f"{options.mask} marks more than half; white is what is missing")

    def restore(photograph: Photograph, follow: Follow | None) -> tuple[Photograph, Told]:
        sizes = [tuple(image.shape[-2:]) for image in (mask, photograph.pixels)]
        if sizes[0] != sizes[1]:
            raise ImageError(
                f"the mask is {sizes[0][0]} x {sizes[0][1]} and the photograph {sizes[1][0]} x "
                f"{sizes[1][1]}; they must be of one size"
            )

        def pose(part: Tensor, _: int) -> Posed:
            known = (~mask).float().expand_as(part).to(options.device)
            size: Any = part.shape  # of any length, whatever deepinv's annotation says
            physics = deepinv.physics.Inpainting(size, mask=known, device=options.device)
            return Posed((part * ~mask).unsqueeze(0), physics, sigma)

        share = f"{100 * float(mask.float().mean()):.3g} %"
        return restored(options, photograph, photograph.parts(), pose, follow, missing=share)

    return restore_files(options, restore)


def superresolve(options: argparse.Namespace) -> int:
    import deepinv

    sigma, factor = parse_sigma(options.sigma), options.factor
    filter = kernels.antialiasing(factor)

    def pose(part: Tensor, _: int) -> Posed:
        channels, height, width = part.shape
        physics = deepinv.physics.Downsampling(
            img_size=(channels, factor * height, factor * width),
            filter=filter,
            factor=factor,
            padding="replicate",
            device=options.device,
        )
        return Posed(part.unsqueeze(0), physics, sigma)

    def restore(photograph: Photograph, follow: Follow | None) -> tuple[Photograph, Told]:
        result, told = restored(options, photograph, photograph.parts(), pose, follow)
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
