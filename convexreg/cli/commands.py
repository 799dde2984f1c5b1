"""What the commands of the command line do."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm import tqdm

from convexreg.adaptive import AdaptiveRegularizer
from convexreg.cli.text import SHORTFALLS, card_text
from convexreg.files import write_atomically
from convexreg.models.config import AnyRegularizer, parameter_count
from convexreg.models.files import load_model, pretrained_names
from convexreg.pictures.files import check_writable, read_image, write_image
from convexreg.pictures.kernels import read_kernel
from convexreg.pictures.noise import estimate_sigma
from convexreg.pictures.photograph import ImageError, Photograph, UnknownWhite
from convexreg.reconstruction.from_measurements import Reconstruction, reconstruct
from convexreg.reconstruction.weight import WEIGHT_RULES
from convexreg.solvers.loop import Progress
from convexreg.solvers.solution import Status


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


def parse_weight(text: str) -> float | Literal["auto", "discrepancy", "sure"]:
    """A number, or the name of a rule that finds one.

    :raises ValueError: neither of them.
    """
    match text:
        case "auto" | "discrepancy" | "sure":
            return text
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f'the weight must be a number, "auto", "discrepancy" or "sure", got "{text}"'
        ) from None


class ProgressBar:
    """Progress on standard error: the time left and the certified gap, a bar for each solve (a round, a plane
    of a large image)."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.bar: Any = None
        self.solves = 0

    def __call__(self, progress: Progress) -> None:
        if progress.iteration == 1:
            if self.bar is not None:
                self.bar.close()
            self.solves += 1
            form = "{desc}: {percentage:3.0f} %|{bar}| {elapsed}, {remaining} left{postfix}"
            self.bar = tqdm(
                desc=f"solve {self.solves}",
                total=1.0,
                disable=self.quiet or None,
                leave=False,
                bar_format=form,
            )
        self.bar.update(max(float(progress.done.min()) - self.bar.n, 0.0))
        gap = float(progress.relative_gap.max())
        stationarity = float(progress.stationarity.max())
        proven = f"gap <= {gap:.1e}" if gap < float("inf") else f"gradient {stationarity:.1e}"
        self.bar.set_postfix_str(proven)
        if not bool(progress.active.any()):
            self.bar.close()


def _solve(
    options: argparse.Namespace, y: Tensor, physics: Any, **arguments: Any
) -> Reconstruction:
    return reconstruct(
        y.to(options.device),
        physics,
        regularizer=options.model,
        lam=parse_weight(options.lam),
        accuracy=options.accuracy,
        gap_tol=options.gap,
        max_iter=options.max_iter,
        callback=ProgressBar(quiet=options.quiet),
        **arguments,
    )


def report(result: Reconstruction, extra: dict[str, Any]) -> dict[str, Any]:
    """What `--json` prints; infinite certificates are null."""
    relative = float(result.certificate.relative_gap[0])
    return {
        **extra,
        "status": Status(int(result.status[0])).name.lower(),
        "certified_relative_gap": relative if relative < float("inf") else None,
        "iterations": int(result.iterations[0]),
        "gradient_evaluations": float(result.evaluations[0]),
        "lam": float(result.lam[0]),
        "method": result.method,
        "seconds": round(result.seconds, 3),
        **({} if result.first is None else {"first_round": report(result.first, {})}),
    }


def _finish(options: argparse.Namespace, result: Reconstruction, extra: dict[str, Any]) -> None:
    if options.json:
        print(json.dumps(report(result, extra), indent=2))
    else:
        for key, value in extra.items():
            print(f"{key.replace('_', ' ')}: {value}")
        print(result.summary())
        if options.lam in WEIGHT_RULES:
            print(f"lam: {float(result.lam[0]):.4g}")
    for code in sorted(set(result.status.tolist()) - {int(Status.CONVERGED)}):
        print(f"convexreg: warning: {SHORTFALLS[Status(code)]}", file=sys.stderr)


def _note(text: str) -> None:
    print(f"convexreg: note: {text}", file=sys.stderr)


def _read(options: argparse.Namespace) -> Photograph:
    """The input; a note on standard error if its white is probably not the default one."""
    try:
        photograph = read_image(options.input, white=options.white)
    except UnknownWhite as error:
        raise ImageError(f"{error} (--white 255)") from error
    if photograph.doubtful_white:
        _note(
            f"{options.input} has 16 bits, but no value above 4095; if 4095 is white, give --white 4095"
        )
    clipped = float((photograph.pixels > 1).float().mean())
    if photograph.bits < 32 and clipped > 0.01:
        _note(
            f"{100 * clipped:.0f} % of {options.input} is above --white {photograph.white:g}, where the "
            "result ends"
        )
    return photograph


def _estimated(photograph: Photograph) -> float:
    try:
        return estimate_sigma(photograph.pixels)
    except ValueError as error:
        raise ValueError(f"{error}: --sigma 0.1, or --sigma 25/255") from error


def denoise(options: argparse.Namespace) -> None:
    import deepinv

    check_writable(options.output)
    photograph = _read(options)
    automatic = options.sigma == "auto"
    sigma = _estimated(photograph) if automatic else parse_sigma(options.sigma)
    physics = deepinv.physics.Denoising(deepinv.physics.GaussianNoise(sigma))
    result = _solve(options, photograph.pixels.unsqueeze(0), physics, sigma=sigma)
    write_image(options.output, photograph.with_pixels(result.image[0]))
    _finish(options, result, {"output": str(options.output), "sigma": round(sigma, 5)})


def deblur(options: argparse.Namespace) -> None:
    import deepinv

    check_writable(options.output)
    photograph = _read(options)
    kernel, total = read_kernel(options.kernel)
    if abs(total - 1) > 1e-5:
        _note(f"the kernel sums to {total:.6g}; normalised to one")
    if any(k > n for k, n in zip(kernel.shape[-2:], photograph.pixels.shape[-2:], strict=True)):
        raise ImageError(
            f"the kernel, {kernel.shape[-2]} x {kernel.shape[-1]}, is larger than the photograph, "
            f"{photograph.pixels.shape[-2]} x {photograph.pixels.shape[-1]}"
        )
    physics = deepinv.physics.Blur(kernel, padding=options.boundary, device=options.device)
    y = photograph.pixels.unsqueeze(0)
    margins = (kernel.shape[-2] // 2, kernel.shape[-1] // 2)
    start = y
    if options.boundary == "valid":
        padding = (margins[1], margins[1], margins[0], margins[0])
        start = torch.nn.functional.pad(y, padding, mode="replicate")
    result = _solve(options, y, physics, sigma=parse_sigma(options.sigma), x0=start)
    image = result.image[0]
    if options.boundary == "valid":
        image = image[:, margins[0] : -margins[0] or None, margins[1] : -margins[1] or None]
    write_image(options.output, photograph.with_pixels(image))
    _finish(options, result, {"output": str(options.output)})


def demo(options: argparse.Namespace) -> None:
    from convexreg.cli.demo import run_demo

    check_writable(options.output)
    if options.output.suffix.lower() == ".npy":
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
    cards = {}
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
        return
    for name, card in cards.items():
        print(f"{name}\n{card_text(card)}")
