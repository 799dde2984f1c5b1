"""What the commands of the command line do."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

from tqdm import tqdm

from convexreg.adaptive import AdaptiveRegularizer
from convexreg.cli.text import SHORTFALLS, card_text
from convexreg.files import write_atomically
from convexreg.models.config import AnyRegularizer, parameter_count
from convexreg.models.files import load_model, pretrained_names
from convexreg.pictures.files import check_writable, read_image, write_image
from convexreg.pictures.kernels import read_kernel
from convexreg.pictures.noise import PictureTooSmall
from convexreg.pictures.photograph import ImageError, Photograph, UnknownWhite
from convexreg.reconstruction.result import Reconstruction
from convexreg.restoration import Restoration, deblurred, denoised
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


def parse_weight(text: str) -> float | Literal["discrepancy", "sure"]:
    """A number, or the name of a rule that finds one.

    :raises ValueError: neither of them.
    """
    match text:
        case "discrepancy" | "sure":
            return text
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f'the weight must be a number, "discrepancy" or "sure", got "{text}"'
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


def _options(options: argparse.Namespace) -> dict[str, Any]:
    """What the options say of a solve, for `reconstruct`."""
    return {
        "regularizer": options.model,
        "lam": parse_weight(options.lam),
        "accuracy": options.accuracy,
        "gap_tol": options.gap,
        "max_iter": options.max_iter,
        "callback": ProgressBar(quiet=options.quiet),
    }


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


def _finish(
    options: argparse.Namespace, result: Reconstruction | None, extra: dict[str, Any]
) -> None:
    if options.json:
        said = {**extra, "status": "copied"} if result is None else report(result, extra)
        print(json.dumps(said, indent=2))
    else:
        for key, value in extra.items():
            print(f"{key.replace('_', ' ')}: {value}")
    if result is None:
        return
    if not options.json:
        print(result.summary())
        if isinstance(parse_weight(options.lam), str):
            print(f"lam: {float(result.lam[0]):.4g}")
    for code in sorted(set(result.status.tolist()) - {int(Status.CONVERGED)}):
        print(f"convexreg: warning: {SHORTFALLS[Status(code)]}", file=sys.stderr)


def _note(text: str) -> None:
    print(f"convexreg: note: {text}", file=sys.stderr)


def _read(options: argparse.Namespace) -> Photograph:
    """The input; a note on standard error if its white is probably not the default one."""
    if options.white == "auto":
        return _with_its_own_white(options)
    try:
        photograph = read_image(options.input, white=options.white)
    except UnknownWhite as error:
        if options.sigma == "auto":  # in whatever unit
            return read_image(options.input, white=1.0)
        raise ImageError(f"{error} (--white 255, or --white auto)") from error
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


def _with_its_own_white(options: argparse.Namespace) -> Photograph:
    """The input, its largest value for white."""
    try:
        photograph = read_image(options.input)
    except UnknownWhite:
        photograph = read_image(options.input, white=1.0)
    largest = float(photograph.pixels.max())
    if not largest > 0:
        raise ImageError(f"nothing in {options.input} is above zero, so that there is no white")
    white = largest * photograph.largest
    _note(f"white is {white:g}")
    return replace(photograph, pixels=photograph.pixels / largest, white=white)


def _given_sigma(options: argparse.Namespace) -> float | None:
    """`None` where it is to be estimated, and of photon noise without any other."""
    if options.sigma == "auto":
        return None
    return parse_sigma(options.sigma)


def _given_gain(options: argparse.Namespace) -> float | Literal["auto"] | None:
    if options.gain in (None, "auto"):
        return options.gain
    return parse_sigma(options.gain)


@contextmanager
def _advice() -> Iterator[None]:
    """Errors that a noise level or another white would help against say so."""
    try:
        yield
    except PictureTooSmall as error:
        raise ValueError(f"{error}; give the level: --sigma 0.1, or --sigma 25/255") from error


def _write(options: argparse.Namespace, photograph: Photograph, restored: Restoration) -> None:
    """Write the result, and say what it is."""
    for note in restored.notes:
        _note(note)
    write_image(options.output, photograph.with_pixels(restored.image))
    extra = {"output": str(options.output), "sigma": round(restored.sigma, 7)}
    if restored.noise is not None:
        extra["sigma_of_planes"] = [round(level, 7) for level in restored.noise.levels]
    _finish(options, restored.result, extra)


def denoise(options: argparse.Namespace) -> None:
    check_writable(options.output)
    photograph = _read(options)
    with _advice():
        restored = denoised(
            photograph.pixels.to(options.device),
            _given_sigma(options),
            gain=_given_gain(options),
            step=photograph.step,
            **_options(options),
        )
    _write(options, photograph, restored)


def deblur(options: argparse.Namespace) -> None:
    check_writable(options.output)
    photograph = _read(options)
    kernel, total = read_kernel(options.kernel)
    if abs(total - 1) > 1e-5:
        _note(f"the kernel sums to {total:.6g}; normalised to one")
    with _advice():
        restored = deblurred(
            photograph.pixels.to(options.device),
            kernel,
            _given_sigma(options),
            boundary=options.boundary,
            **_options(options),
        )
    _write(options, photograph, restored)


def demo(options: argparse.Namespace) -> None:
    from convexreg.cli.demo import run_demo

    check_writable(options.output)
    if options.output.suffix.lower() == ".npy":
        raise ImageError(
            f"the picture of the demo has a frame and titles; got {options.output}, use .png"
        )
    outcome = run_demo(
        options.model,
        lam=None if options.lam is None else parse_weight(options.lam),
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
