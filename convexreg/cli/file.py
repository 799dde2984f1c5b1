"""One file: its pictures restored one by one and written, and what is said of them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from convexreg.cli.log import LOG
from convexreg.cli.progress import ProgressBar, many_bar
from convexreg.cli.restoration import Restore, Told, digest
from convexreg.cli.text import SHORTFALLS
from convexreg.pictures.files import PictureFile, check_writable, write_images
from convexreg.pictures.photograph import ImageError, Photograph, UnknownWhite
from convexreg.pictures.samples import photograph_of
from convexreg.reconstruction.weight import WEIGHT_RULES
from convexreg.solvers.solution import Status


def note(text: str) -> None:
    """What should be known."""
    LOG.info("%s", text)


def restored_file(
    options: argparse.Namespace,
    source: Path,
    target: Path,
    restore: Restore,
    bar: tqdm[Any] | None = None,
) -> list[Told]:
    """What is said of every picture of a file; each is written before the next one is read.

    :param bar: of all files, if there are many.
    """
    told: list[Told] = []
    remarked: set[str] = set()
    own_white = options.white == "auto"
    any_unit = options.sigma == "auto" or options.noise_map is not None
    white = None if own_white else options.white
    with _named_white(), PictureFile(source, white=white) as file:
        numbers = [options.page] if options.page else list(range(1, len(file) + 1))
        check_writable(target, pictures=len(numbers))
        single = bar is None and len(numbers) == 1
        if len(numbers) > 1:
            note(f"{source} has {file.describe()}, each reconstructed alone; --page N takes one")

        def photographs() -> Iterator[Photograph]:
            for number in numbers:
                photograph = _read(file, number, own_white, any_unit)
                check_writable(target, photograph)
                for remark in _remarks(photograph, source):
                    if remark not in remarked:
                        note(remark)
                    remarked.add(remark)
                follow = ProgressBar(quiet=options.quiet) if single else None
                result, page = restore(photograph, follow)
                for said in page.notes:
                    note(f"{source}: {said}")
                told.append(page)
                pages.update(1 / len(numbers) if bar is not None else 1)
                yield result

        with many_bar(len(numbers), "pictures", quiet=options.quiet or single) as own:
            pages = own if bar is None else bar
            write_images(target, photographs(), None if options.page else file)
    for code in sorted(set().union(*(page.codes for page in told)) - {int(Status.CONVERGED)}):
        where = "" if bar is None else f"{source}: "
        LOG.warning("%s%s", where, SHORTFALLS[Status(code)])
    return told


@contextmanager
def _named_white() -> Iterator[None]:
    """Errors that name the option."""
    try:
        yield
    except UnknownWhite as error:
        raise ImageError(f"{error} (--white 255, or --white auto)") from error


def _read(file: PictureFile, number: int, own_white: bool, any_unit: bool) -> Photograph:
    """A picture of the file.

    :param own_white: take its largest value for white.
    :param any_unit: pixels whose white is not known are taken in their own unit.
    """
    try:
        photograph = file.read(number)
    except UnknownWhite:
        if not (own_white or any_unit):
            raise
        photograph = photograph_of(file.samples(number), file.path, 1.0)
    if not own_white:
        return photograph
    photograph = photograph.with_own_white()
    note(f"{file.path}: white is {photograph.white:g}")
    return photograph


def _remarks(photograph: Photograph, source: Path) -> Iterator[str]:
    """What the user should know of the input."""
    for remark in photograph.remarks:
        yield f"{source}: {remark}"
    if photograph.doubtful_white:
        yield f"{source} has 16 bits, but no value above 4095; if 4095 is white, give --white 4095"
    clipped = float((photograph.pixels > 1).float().mean())
    if photograph.bits < 32 and clipped > 0.01:
        yield (
            f"{100 * clipped:.0f} % of {source} is above --white {photograph.white:g}, where the result ends"
        )


def say(options: argparse.Namespace, target: Path, told: list[Told]) -> None:
    """The result of a single file."""
    pages = [_reported(page) for page in told]
    if options.json:
        output = {"output": str(target)}
        print(json.dumps(output | (pages[0] if len(pages) == 1 else {"pages": pages}), indent=2))
        return
    print(f"output: {target}")
    by_rule = options.lam in WEIGHT_RULES
    for number, page in enumerate(told, 1):
        for key, value in page.said.items():
            print(f"{key.replace('_', ' ')}: {value}")
        for part, (report, summary) in enumerate(zip(page.reports, page.summaries, strict=True), 1):
            names = [f"page {number}"] * (len(told) > 1) + [f"part {part}"] * (
                len(page.reports) > 1
            )
            lines = [_noise(report), *summary.split("\n")]
            lines += [f"lam: {report['lam']:.4g}"] if by_rule and "lam" in report else []
            if names:
                lines = [f"{', '.join(names)}: {lines[0]}; {'; '.join(lines[1:])}"]
            print("\n".join(lines))


def _noise(report: dict[str, Any]) -> str:
    gain = f", of photon noise of gain {report['gain']:.4g}" if "gain" in report else ""
    return f"sigma: {report['sigma']:.4g}{gain}"


def _reported(page: Told) -> dict[str, Any]:
    if len(page.reports) == 1:
        return {**page.said, **page.reports[0]}
    return {**page.said, "parts": list(page.reports)}


def say_one(options: argparse.Namespace, target: Path, told: list[Told]) -> None:
    """A line for one of many files."""
    line = f"{target}: {digest(told)}"
    if options.json:
        line = json.dumps({"output": str(target), "pages": [_reported(page) for page in told]})
    tqdm.write(line, file=sys.stdout)
