"""The command line: `convexreg denoise | deblur | demo | train | info`."""

from __future__ import annotations

import argparse
import ctypes
import math
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import torch

from convexreg.cli import commands
from convexreg.models.config import ARCHITECTURES
from convexreg.models.files import DEFAULT_MODEL, ModelFileError
from convexreg.pictures.photograph import ImageError
from convexreg.reconstruction.defaults import ACCURACIES, BLUR_WEIGHT, MAX_ITER
from convexreg.solvers.solution import SolverError

# glibc's <malloc.h>
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0, or 2 with one sentence on standard error."""
    options = parser().parse_args(arguments)
    keep_freed_memory()
    try:
        options.run(options)
    except (ImageError, ModelFileError, SolverError, ValueError, OSError, ArithmeticError) as error:
        print(f"convexreg: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"convexreg: interrupted {interrupt}".rstrip(), file=sys.stderr)
        return 130
    return 0


class _Parser(argparse.ArgumentParser):
    """Says what was wrong in one sentence, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"convexreg: error: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """Commands and options."""
    parser = _Parser(
        prog="convexreg",
        description="Certified image reconstruction with learned convex regularizers.",
    )
    parser.add_argument("--version", action="version", version=f"convexreg {version('convexreg')}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, description: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=description, description=description)
        sub.set_defaults(run=run)
        return sub

    usual = ACCURACIES["default"]

    def add_solve_options(sub: argparse.ArgumentParser, lam: str | None, says: str) -> None:
        sub.add_argument(
            "-m",
            "--model",
            default=DEFAULT_MODEL,
            help="shipped model (see info) or model file, default: %(default)s",
        )
        sub.add_argument(
            "--lam",
            default=lam,
            help='weight of the regularizer: a number, "discrepancy", or "sure", which takes longer and '
            f"suits every operator (default: {says})",
        )
        effort = sub.add_mutually_exclusive_group()
        for name, accuracy in ACCURACIES.items():
            if accuracy != ACCURACIES["default"]:
                effort.add_argument(
                    f"--{name}",
                    dest="accuracy",
                    action="store_const",
                    const=name,
                    default="default",
                    help=f"certified relative gap of {accuracy.strongly_convex_gap:g} in denoising, else "
                    f"{accuracy.gap:g} (default: {usual.strongly_convex_gap:g} and {usual.gap:g})",
                )
        effort.add_argument("--gap", type=positive, help="certified relative gap to reach")
        sub.add_argument("--max-iter", type=count, default=MAX_ITER, help="default: %(default)s")
        sub.add_argument("--device", default="cpu", type=device, help="default: %(default)s")
        sub.add_argument("--json", action="store_true", help="print the result as JSON")
        sub.add_argument("-q", "--quiet", action="store_true", help="no progress bar")

    def add_white(sub: argparse.ArgumentParser, kind: Any = positive, further: str = "") -> None:
        sub.add_argument(
            "--white",
            type=kind,
            help=f"number in the file that stands for white, e.g. 4095 for 12-bit data in 16 bits{further} "
            "(default: the largest of the integer type, 1 for floats)",
        )

    def add_input(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("input", type=Path, help="PNG, TIFF, JPEG, BMP or NPY file")
        add_white(sub, white, ', or "auto" for its largest')

    sub = command("denoise", commands.denoise, "Remove Gaussian noise from a photograph.")
    add_input(sub)
    sub.add_argument("-o", "--output", type=Path, required=True, help="image file to write")
    sub.add_argument(
        "--sigma",
        default="auto",
        help='noise level on the [0, 1] scale, "25/255", or "auto" (default)',
    )
    sub.add_argument(
        "--gain",
        help="of photon noise, whose variance is gain times brightness (and that of --sigma, if given), or "
        '"auto" to estimate both',
    )
    add_solve_options(sub, "1", "1")

    sub = command("deblur", commands.deblur, "Undo a known blur.")
    add_input(sub)
    sub.add_argument(
        "--kernel",
        type=Path,
        required=True,
        help="image of a point of light, or NPY file, of odd size",
    )
    sub.add_argument("-o", "--output", type=Path, required=True, help="image file to write")
    sub.add_argument(
        "--sigma",
        default="auto",
        help='noise level on the [0, 1] scale, "2.5/255", or "auto" (default)',
    )
    sub.add_argument(
        "--boundary",
        choices=("valid", "circular", "replicate", "reflect"),
        default="valid",
        help="what the scene does beyond the photograph; valid (default): unknown, reconstructed too",
    )
    add_solve_options(sub, f"{BLUR_WEIGHT:g}", f"{BLUR_WEIGHT:g}")

    sub = command(
        "demo", commands.demo, "Denoise and deblur a photograph that ships with scikit-image."
    )
    sub.add_argument(
        "-o", "--output", type=Path, default=Path("convexreg-demo.png"), help="picture to write"
    )
    add_solve_options(sub, None, f"1 for denoising, {BLUR_WEIGHT:g} for deblurring")

    sub = command("train", commands.train, "Train a regularizer on a folder of images.")
    sub.add_argument("images", type=Path, help="folder of photographs; colour is turned into gray")
    add_white(sub)
    sub.add_argument("-o", "--output", type=Path, required=True, help="model file to write")
    shown = "default: %(default)s"
    sub.add_argument("--architecture", choices=ARCHITECTURES, default="mgradnet-m", help=shown)
    sub.add_argument(
        "--adaptive",
        action="store_true",
        help="train a second round with weights from the reconstruction of --start MODEL",
    )
    sub.add_argument(
        "--objective",
        choices=("unrolled", "score", "equilibrium"),
        default="equilibrium",
        help=shown,
    )
    sub.add_argument("--steps", type=count, default=2000, help=shown)
    sub.add_argument("--batch-size", type=count, default=8, help=shown)
    sub.add_argument("--patch-size", type=count, default=64, help=f"pixels a side, {shown}")
    sub.add_argument(
        "--learning-rate", type=positive, default=2e-3, help=f"of the filters, {shown}"
    )
    sub.add_argument(
        "--conditioning-rate",
        type=positive,
        help="learning rate of potential and noise conditioning (default: 5 times the other)",
    )
    sub.add_argument(
        "--emphasis",
        type=float,
        default=0.0,
        help="on patches that are hard for their noise level: 0 is mean PSNR, 1 squared error, "
        + shown,
    )
    sub.add_argument(
        "--flatness",
        type=float,
        default=0.0,
        help=f"price of the logarithm of the Lipschitz constant, for faster solves, {shown}",
    )
    sub.add_argument(
        "--bfloat16",
        action="store_true",
        help="coarser and faster steps, on a CPU with matrix units (AMX) or a GPU",
    )
    sub.add_argument(
        "--start",
        help="model to start from (same architecture; an adaptive one also starts from a convex one)",
    )
    sub.add_argument("--filters", type=count, help="of a model without --start (default: 64)")
    sub.add_argument("--validation", type=Path, help="folder of other images for PSNR in the log")
    sub.add_argument(
        "--validate-every",
        type=count,
        default=500,
        metavar="STEPS",
        help=f"and after the last, {shown}",
    )
    sub.add_argument(
        "--run",
        dest="run_folder",
        type=Path,
        help="folder of log and checkpoint (default: OUTPUT.run)",
    )
    sub.add_argument(
        "--resume",
        action="store_true",
        help="continue an interrupted run, with the same options (steps cannot be added)",
    )
    sub.add_argument("--seed", type=int, default=0, help=f"of patches and noise, {shown}")
    sub.add_argument("--device", default="cpu", type=device, help=shown)
    sub.add_argument("-q", "--quiet", action="store_true", help="no progress bar")

    sub = command("info", commands.info, "Show the card of a model, or list the shipped ones.")
    sub.add_argument("model", nargs="?", help="shipped model or model file (default: all shipped)")
    sub.add_argument("--json", action="store_true", help="print the card as JSON")
    return parser


def positive(text: str) -> float:
    """A positive number.

    :raises argparse.ArgumentTypeError: it is not.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text!r}")
    return value


def white(text: str) -> float | str:
    """A positive number, or "auto".

    :raises argparse.ArgumentTypeError: neither.
    """
    return text if text == "auto" else positive(text)


def count(text: str) -> int:
    """A whole number of at least one.

    :raises argparse.ArgumentTypeError: it is not.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def device(name: str) -> str:
    """The name of a device that is there.

    :raises argparse.ArgumentTypeError: it is not.
    """
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        why = "" if reason.startswith("Expected one of") else f" ({reason})"
        raise argparse.ArgumentTypeError(
            f"cannot compute on {name!r}{why}; devices are cpu, cuda, cuda:1, mps"
        ) from error
    return name


def keep_freed_memory() -> None:
    """Tell glibc to reuse freed blocks of up to 32 MiB instead of returning them to the system.

    A solver allocates the same temporaries in every iteration, and clearing fresh pages can take
    longer than the arithmetic on them. This is a setting of the whole process, so programs (the
    command line, training, benchmarks) make it, not the library. Without glibc it does nothing.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 64 * 2**20)
