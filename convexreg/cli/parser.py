"""The command line: `convexreg denoise | deblur | inpaint | superresolve | demo | train | info`."""

from __future__ import annotations

import argparse
import ctypes
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import torch

from convexreg.cli import commands
from convexreg.cli.arguments import add_files, add_sigma, add_solve_options, add_white
from convexreg.cli.completion import complete_files
from convexreg.cli.log import LOG, logged_warnings, one_line, show_log
from convexreg.cli.values import count, device, factor, nonnegative, positive, seed
from convexreg.models.config import ARCHITECTURES
from convexreg.models.files import ModelFileError
from convexreg.pictures.photograph import ImageError
from convexreg.solvers.solution import SolverError

# glibc's <malloc.h>
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0, or 2 with one sentence on standard error, or 1 if of many files
    some failed."""
    options = parser().parse_args(arguments)
    keep_freed_memory()
    show_log()
    try:
        with logged_warnings():
            return options.run(options) or 0
    except (ImageError, ModelFileError, SolverError, ValueError, OSError, ArithmeticError) as error:
        LOG.error("%s", error)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        LOG.error("there is not enough memory for this: it has to be smaller, or in parts")
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"convexreg: interrupted {interrupt}".rstrip(), file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """Says what was wrong in one sentence, without the usage."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = sys.argv[1:] if args is None else args
        for word in words:
            if word.startswith("--") and word.endswith("=--"):  # which argparse takes for no value
                self.error(f"argument {word.removesuffix('=--')}: expected one argument")
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"convexreg: error: {one_line(message)} (see {self.prog} --help)\n")


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

    sub = command("denoise", commands.denoise, "Remove noise from photographs.")
    add_files(sub)
    add_sigma(sub)
    sub.add_argument(
        "--gain",
        help="of photon noise, whose variance is gain times brightness (and that of --sigma, if given), "
        '"auto" to estimate both, 0 for noise of one level (default: recognised where the noise clearly '
        "grows with the brightness)",
    )
    add_solve_options(sub, denoising=True)

    sub = command("deblur", commands.deblur, "Undo a known blur.")
    add_files(sub)
    blur = sub.add_mutually_exclusive_group(required=True)
    blur.add_argument(
        "--kernel",
        type=Path,
        help="picture of a point of light, or NPY file; one for all channels, or one for each",
    )
    blur.add_argument(
        "--gaussian", type=positive, metavar="STD", help="a Gaussian, standard deviation in pixels"
    )
    blur.add_argument(
        "--disc", type=positive, metavar="RADIUS", help="out of focus, radius in pixels"
    )
    blur.add_argument(
        "--motion",
        type=float,
        nargs=2,
        metavar=("LENGTH", "ANGLE"),
        help="a straight line: pixels, and degrees from the right counterclockwise",
    )
    add_sigma(sub)
    sub.add_argument(
        "--boundary",
        choices=("valid", "circular", "replicate", "reflect"),
        default="valid",
        help="what the scene does beyond the photograph; valid: unknown, reconstructed too "
        "(default: %(default)s)",
    )
    add_solve_options(sub)

    sub = command("inpaint", commands.inpaint, "Fill in missing pixels.")
    add_files(sub)
    sub.add_argument(
        "--mask",
        type=Path,
        required=True,
        help="picture of the same size, white where pixels are missing",
    )
    add_sigma(sub)
    add_solve_options(sub)

    sub = command("superresolve", commands.superresolve, "Enlarge photographs.")
    add_files(sub)
    sub.add_argument(
        "--factor", type=factor, default=2, help="pixels a side for one (default: %(default)s)"
    )
    add_sigma(sub)
    add_solve_options(sub)

    sub = command(
        "demo", commands.demo, "Denoise and deblur a photograph that ships with scikit-image."
    )
    sub.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("convexreg-demo.png"),
        help="picture to write (default: %(default)s)",
    )
    add_solve_options(sub, denoising=None)

    sub = command("train", commands.train, "Train a regularizer on a folder of images.")
    sub.add_argument(
        "images",
        type=Path,
        help="folder of photographs; colour is turned into gray without --colour",
    )
    add_white(sub)
    sub.add_argument(
        "--reduce",
        type=count,
        default=1,
        help="blocks of so many pixels a side become one, which loses the artefacts of JPEG files",
    )
    sub.add_argument("-o", "--output", type=Path, required=True, help="model file to write")
    shown = "default: %(default)s"
    sub.add_argument("--architecture", choices=ARCHITECTURES, default="mgradnet-m", help=shown)
    sub.add_argument(
        "--adaptive",
        action="store_true",
        help="train a second round with weights from the reconstruction of --start MODEL",
    )
    sub.add_argument(
        "--another-round",
        action="store_true",
        help="train one round more, after those of an adaptive --start MODEL",
    )
    sub.add_argument(
        "--colour",
        action="store_true",
        help="train the part for the two colour differences of a model for colour images, whose luminance is "
        "a gray model",
    )
    sub.add_argument(
        "--luminance",
        metavar="MODEL",
        help="that gray model (default: mgradnet-m, mgradnet-m-adaptive with --adaptive)",
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
        type=nonnegative,
        default=0.0,
        help="on patches that are hard for their noise level: 0 is mean PSNR, 1 squared error, "
        + shown,
    )
    sub.add_argument(
        "--flatness",
        type=nonnegative,
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
        help="model to start from (same architecture; an adaptive one also starts from a convex one; with "
        "--colour a model for colour images)",
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
        help="continue an interrupted run, with the same options, or a finished one with more --steps",
    )
    sub.add_argument("--seed", type=seed, default=0, help=f"of patches and noise, {shown}")
    sub.add_argument("--device", default="cpu", type=device, help=shown)
    sub.add_argument("-q", "--quiet", action="store_true", help="no progress bar")

    sub = command("info", commands.info, "List the shipped models, or show the card of a model.")
    sub.add_argument("model", nargs="?", help="shipped model or model file (default: a list)")
    sub.add_argument("--json", action="store_true", help="print the card, or all, as JSON")
    complete_files(subparsers.choices.values())
    return parser


def out_of_memory(error: Exception) -> bool:
    """Whether it is what NumPy, CUDA or the allocator of PyTorch, which has no type for it, say then."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


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
