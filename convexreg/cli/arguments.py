"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from convexreg.cli.values import count, device, positive, white
from convexreg.models.files import DEFAULT_MODEL
from convexreg.reconstruction.defaults import ACCURACIES, MAX_ITER, Accuracy


def add_files(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "input",
        nargs="+",
        help="PNG, TIFF, JPEG, WebP, BMP, NPY or NPZ files, folders of them, patterns",
    )
    sub.add_argument(
        "-o",
        "--output",
        required=True,
        help="file to write, or folder for the results of several: what is there and not older than its "
        "input is skipped",
    )
    sub.add_argument("--overwrite", action="store_true", help="do again what is there")
    sub.add_argument(
        "--page",
        type=count,
        metavar="N",
        help="of files with several pictures take one, counted from one (default: all)",
    )
    add_white(sub, auto=True)


def add_white(sub: argparse.ArgumentParser, *, auto: bool = False) -> None:
    """:param auto: whether it can be that of each picture."""
    further = ', or "auto" for the largest of each picture' if auto else ""
    sub.add_argument(
        "--white",
        type=white if auto else positive,
        help=f"number in the file that stands for white, e.g. 4095 for 12-bit data in 16 bits{further} "
        "(default: the largest of the integer type, 1 for floats)",
    )


def add_sigma(sub: argparse.ArgumentParser) -> None:
    noise = sub.add_mutually_exclusive_group()
    noise.add_argument(
        "--sigma",
        default="auto",
        help='noise level on the [0, 1] scale, such as 0.01 or "2.5/255", or "auto" (default: %(default)s)',
    )
    noise.add_argument(
        "--noise-map",
        type=Path,
        metavar="FILE",
        help="picture or NPY file of the photograph's size with the noise level of every pixel, in the "
        "numbers of the photograph's file (10 in one of 8 bits is 10/255)",
    )


def add_solve_options(sub: argparse.ArgumentParser, *, denoising: bool | None = False) -> None:
    """:param denoising: whether the problem is that, `None` for both kinds."""
    sub.add_argument(
        "-m",
        "--model",
        default=DEFAULT_MODEL,
        help="shipped model (see info) or model file (default: %(default)s)",
    )
    sub.add_argument(
        "--lam",
        default="auto",
        help='weight of the regularizer: a number, "auto" (default: one for denoising, else from how the '
        'noise passes the operator), "discrepancy", or "sure", which takes longer',
    )

    def gap(accuracy: Accuracy) -> str:
        usual = ACCURACIES[accuracy]
        if denoising is None:
            return f"{usual.strongly_convex_gap:g} in denoising, {usual.gap:g} in deblurring"
        return f"{usual.strongly_convex_gap if denoising else usual.gap:g}"

    effort = sub.add_mutually_exclusive_group()
    for name in ACCURACIES:
        if name != "default":
            effort.add_argument(
                f"--{name}",
                dest="accuracy",
                action="store_const",
                const=name,
                default="default",
                help=f"certified relative gap of {gap(name)}",
            )
    effort.add_argument(
        "--gap", type=positive, help=f"certified relative gap to reach (default: {gap('default')})"
    )
    sub.add_argument(
        "--max-iter",
        type=count,
        default=MAX_ITER,
        help="iterations of a solve (default: %(default)s)",
    )
    sub.add_argument(
        "--device", default="cpu", type=device, help="cpu, cuda, mps (default: %(default)s)"
    )
    sub.add_argument("--json", action="store_true", help="print the result as JSON, many as lines")
    sub.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
