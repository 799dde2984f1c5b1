"""The command line: `convexreg denoise | deblur | demo | train | info`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from convexreg.files import write_atomically
from convexreg.images import ImageError, check_writable, read_image, write_image
from convexreg.memory import keep_freed_memory
from convexreg.models import (
    ARCHITECTURES,
    ModelFileError,
    open_model,
    parameter_count,
    pretrained_names,
)
from convexreg.reconstruct import DEFAULT_MODEL, Reconstruction, reconstruct
from solvers.loop import Progress
from solvers.solution import SolverError, Status


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0, or 2 with one sentence on standard error."""
    options = _parser().parse_args(arguments)
    keep_freed_memory()
    try:
        options.run(options)
    except (ImageError, ModelFileError, SolverError, ValueError, OSError, ArithmeticError) as error:
        print(f"convexreg: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("convexreg: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="convexreg",
        description="Certified image reconstruction with learned convex regularizers.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, description: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=description, description=description)
        sub.set_defaults(run=run)
        return sub

    def add_solve_options(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("-m", "--model", default=DEFAULT_MODEL, help="shipped model or model file")
        sub.add_argument("--lam", type=float, help="weight of the regularizer (default: automatic)")
        sub.add_argument("--gap", type=float, help="certified relative gap to reach")
        sub.add_argument("--max-iter", type=int, default=1000)
        sub.add_argument("--device", default="cpu")
        sub.add_argument("--json", action="store_true", help="print the result as JSON")
        sub.add_argument("-q", "--quiet", action="store_true", help="no progress bar")

    sub = command("denoise", _denoise, "Remove Gaussian noise from a photograph.")
    sub.add_argument("input", type=Path)
    sub.add_argument("-o", "--output", type=Path, required=True)
    sub.add_argument(
        "--sigma", default="auto", help='noise level on the [0, 1] scale, "25/255", or "auto"'
    )
    add_solve_options(sub)

    sub = command("deblur", _deblur, "Undo a known blur.")
    sub.add_argument("input", type=Path)
    sub.add_argument("--kernel", type=Path, required=True, help="image or NPY file of odd size")
    sub.add_argument("-o", "--output", type=Path, required=True)
    sub.add_argument("--sigma", required=True, help='noise level on the [0, 1] scale, or "2.5/255"')
    sub.add_argument(
        "--boundary",
        choices=("valid", "circular", "replicate", "reflect"),
        default="valid",
        help="what the scene does beyond the photograph; valid: unknown, reconstructed as well",
    )
    add_solve_options(sub)

    sub = command("demo", _demo, "Denoise and deblur a photograph that ships with scikit-image.")
    sub.add_argument("-o", "--output", type=Path, default=Path("convexreg-demo.png"))
    add_solve_options(sub)

    sub = command("train", _train, "Train a regularizer on a folder of images.")
    sub.add_argument("images", type=Path, help="folder of photographs")
    sub.add_argument("-o", "--output", type=Path, required=True, help="model file to write")
    sub.add_argument("--architecture", choices=ARCHITECTURES, default="mgradnet-m")
    sub.add_argument(
        "--objective", choices=("unrolled", "score", "equilibrium"), default="equilibrium"
    )
    sub.add_argument("--steps", type=int, default=2000)
    sub.add_argument("--batch-size", type=int, default=8)
    sub.add_argument("--patch-size", type=int, default=64)
    sub.add_argument("--learning-rate", type=float, default=2e-3)
    sub.add_argument(
        "--conditioning-rate",
        type=float,
        help="learning rate of potential and noise conditioning (default: 5 times the other)",
    )
    sub.add_argument("--start", help="model to start from (same architecture)")
    sub.add_argument("--validation", type=Path, help="folder of images for the log")
    sub.add_argument(
        "--run",
        dest="run_folder",
        type=Path,
        help="folder of log and checkpoint (default: OUTPUT.run)",
    )
    sub.add_argument("--resume", action="store_true", help="continue from the checkpoint")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--device", default="cpu")
    sub.add_argument("-q", "--quiet", action="store_true", help="no progress bar")

    sub = command("info", _info, "Show the card of a model, or list the shipped ones.")
    sub.add_argument("model", nargs="?")
    sub.add_argument("--json", action="store_true")
    return parser


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


def estimate_sigma(pixels: Tensor) -> float:
    """Noise level of an image `(C, H, W)` (Donoho & Johnstone 1994, scikit-image's estimator)."""
    from skimage.restoration import estimate_sigma as estimator

    return float(estimator(pixels.numpy(), channel_axis=0, average_sigmas=True))


def read_kernel(path: Path) -> Tensor:
    """A blur kernel `(1, 1, k, k)` of odd size from an image or NPY file, normalised to sum one.

    :raises ImageError: unreadable, even-sized, negative or zero.
    """
    kernel = read_image(path).gray().double()
    height, width = kernel.shape[-2:]
    if height % 2 == 0 or width % 2 == 0:
        raise ImageError(
            f"the kernel {path} is {height} x {width}; its sides must be odd so that it has a centre"
        )
    if kernel.min() < 0:
        raise ImageError(f"the kernel {path} has negative entries; a blur has none")
    if kernel.sum() <= 0:
        raise ImageError(f"the kernel {path} sums to zero; it would remove the image")
    return (kernel / kernel.sum()).float().unsqueeze(0)


class ProgressBar:
    """A progress bar on standard error showing the certified gap."""

    def __init__(self, limit: int, *, quiet: bool) -> None:
        self.bar = tqdm(total=limit, disable=quiet, unit="it", leave=False)

    def __call__(self, progress: Progress) -> None:
        self.bar.update()
        self.bar.set_postfix_str(f"relative gap <= {float(progress.relative_gap.max()):.1e}")
        if not bool(progress.active.any()):
            self.bar.close()


def _solve(
    options: argparse.Namespace, y: Tensor, physics: Any, **arguments: Any
) -> Reconstruction:
    return reconstruct(
        y.to(options.device),
        physics,
        regularizer=options.model,
        lam="auto" if options.lam is None else options.lam,
        gap_tol=options.gap,
        max_iter=options.max_iter,
        callback=ProgressBar(options.max_iter, quiet=options.quiet),
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
    }


def _finish(options: argparse.Namespace, result: Reconstruction, extra: dict[str, Any]) -> None:
    if options.json:
        print(json.dumps(report(result, extra), indent=2))
    else:
        for key, value in extra.items():
            print(f"{key.replace('_', ' ')}: {value}")
        print(result.summary())


def _denoise(options: argparse.Namespace) -> None:
    import deepinv

    check_writable(options.output)
    photograph = read_image(options.input)
    automatic = options.sigma == "auto"
    sigma = estimate_sigma(photograph.pixels) if automatic else parse_sigma(options.sigma)
    physics = deepinv.physics.Denoising(deepinv.physics.GaussianNoise(sigma))
    result = _solve(options, photograph.pixels.unsqueeze(0), physics, sigma=sigma)
    write_image(options.output, photograph.with_pixels(result.image[0]))
    _finish(options, result, {"output": str(options.output), "sigma": sigma})


def _deblur(options: argparse.Namespace) -> None:
    import deepinv

    check_writable(options.output)
    photograph = read_image(options.input)
    kernel = read_kernel(options.kernel)
    if not options.json:
        print("the kernel is normalised to sum one")
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


def _demo(options: argparse.Namespace) -> None:
    from convexreg.demo import run_demo

    check_writable(options.output)
    outcome = run_demo(
        options.model, callback=lambda limit: ProgressBar(limit, quiet=options.quiet)
    )
    write_atomically(options.output, outcome.picture(options.output.suffix))
    if options.json:
        print(json.dumps([report(p.result, p.figures()) for p in outcome.problems], indent=2))
    else:
        print(outcome.text())
        print(f"picture: {options.output}")


def _train(options: argparse.Namespace) -> None:
    from convexreg.training.command import train

    train(options)


def _info(options: argparse.Namespace) -> None:
    names = [options.model] if options.model else pretrained_names()
    cards = {}
    for name in names:
        model = open_model(name)
        cards[name] = {
            "architecture": model.config.architecture,
            "parameters": parameter_count(model.regularizer),
            "sigma_range": list(model.regularizer.sigma_range or ()),
            "lipschitz_at_25": float(model.regularizer.lipschitz(sigma=25 / 255)),
            **model.card,
        }
    if options.json:
        print(json.dumps(cards, indent=2))
        return
    for name, card in cards.items():
        print(name)
        for key, value in card.items():
            print(f"  {key}: {value}")


if __name__ == "__main__":
    sys.exit(main())
