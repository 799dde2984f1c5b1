"""Files in, files out: one or many, picture by picture; failures do not stop the others."""

from __future__ import annotations

import argparse
import glob
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from convexreg.cli.log import LOG
from convexreg.cli.progress import ProgressBar, many_bar
from convexreg.cli.restoration import Restore, Told, digest, parse_weight
from convexreg.cli.text import SHORTFALLS
from convexreg.models.files import regularizer_of
from convexreg.pictures.files import (
    IMAGE_SUFFIXES,
    WRITABLE_SUFFIXES,
    PictureFile,
    check_writable,
    write_images,
)
from convexreg.pictures.photograph import ImageError, Photograph, UnknownWhite
from convexreg.pictures.samples import photograph_of
from convexreg.reconstruction.weight import WEIGHT_RULES
from convexreg.solvers.solution import Status


def note(text: str) -> None:
    """What should be known."""
    LOG.info("%s", text)


def restore_files(options: argparse.Namespace, restore: Restore) -> int:
    """Restore what the command names, and say how it went.

    :return: the exit code: 1 if some of many files failed.
    :raises ImageError: a single file that cannot be read or written, no files, or outputs that would
        overwrite inputs or each other.
    """
    sources, output = found(options.input), Path(options.output)
    parse_weight(options.lam)
    # what is read beside the inputs may not be overwritten either
    beside = (getattr(options, key, None) for key in ("kernel", "mask", "noise_map"))
    others = [Path(name) for name in beside if name]
    into_folder = (
        len(sources) > 1
        or Path(options.input[0]) != sources[0]
        or output.is_dir()
        or options.output.endswith("/")
    )
    targets = [output / _name(source) if into_folder else output for source in sources]
    _check_targets(sources, targets, others)
    if not into_folder:
        check_writable(output)
    options.model = regularizer_of(options.model)  # read once
    if into_folder:
        return _restore_many(options, output, list(zip(sources, targets, strict=True)), restore)
    _say(options, output, _restored_file(options, sources[0], output, restore))
    return 0


def found(names: list[str]) -> list[Path]:
    """The files that are meant by names of files and folders and by patterns, in order.

    :raises ImageError: a folder without images, or a pattern that nothing fits.
    """
    paths: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = [p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES]
            matches = sorted(p for p in inside if p.is_file())
        elif not path.exists() and glob.has_magic(name):
            matches = sorted(Path(match) for match in glob.glob(name, recursive=True))
        else:
            matches = [path]
        if not matches:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES))
            raise ImageError(f"there are no images in {name} ({kinds}); name files or a folder")
        paths += matches
    return list(dict.fromkeys(paths))


def _check_targets(sources: list[Path], targets: list[Path], others: list[Path]) -> None:
    """Refuse to overwrite what is read, or one result with another.

    :raises ImageError: that would happen.
    """
    read = {path.resolve() for path in (*sources, *others)}
    written: dict[Path, Path] = {}
    for source, target in zip(sources, targets, strict=True):
        if target.resolve() in read:
            raise ImageError(f"{target} is an input and would be overwritten; write somewhere else")
        if target in written:
            raise ImageError(
                f"{written[target]} and {source} would both be written to {target}; give each a folder of "
                "its own"
            )
        written[target] = source


def _restored_file(
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


def _say(options: argparse.Namespace, target: Path, told: list[Told]) -> None:
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


def _restore_many(
    options: argparse.Namespace,
    folder: Path,
    files: list[tuple[Path, Path]],
    restore: Restore,
) -> int:
    """Into a folder, under their names."""
    if not folder.is_dir():
        if folder.exists() or folder.suffix.lower() in IMAGE_SUFFIXES:
            raise ImageError(f"several results need a folder, and {folder} is a file")
        folder.mkdir()
    written, skipped, failed = 0, 0, 0
    with many_bar(len(files), "files", quiet=options.quiet) as bar:
        for number, (source, target) in enumerate(files, 1):
            if not options.overwrite and _is_done(source, target):
                skipped += 1
            else:
                try:
                    told = _restored_file(options, source, target, restore, bar)
                except Exception as error:  # whatever it is, the others do not depend on it
                    failed += 1
                    where = "" if str(source) in str(error) else f"{source}: "
                    LOG.error("%s%s", where, error)
                else:
                    written += 1
                    _say_one(options, target, told)
            bar.update(number - bar.n)
    if not options.json:
        print(f"{written} written to {folder}, {skipped} already there, {failed} failed")
    return 1 if failed else 0


def _say_one(options: argparse.Namespace, target: Path, told: list[Told]) -> None:
    """A line for one of many files."""
    line = f"{target}: {digest(told)}"
    if options.json:
        line = json.dumps({"output": str(target), "pages": [_reported(page) for page in told]})
    tqdm.write(line, file=sys.stdout)


def _name(source: Path) -> str:
    """Of the result: that of the file, in a format that can be written."""
    writable = source.suffix.lower() in WRITABLE_SUFFIXES
    return source.name if writable else f"{source.stem}.png"


def _is_done(source: Path, target: Path) -> bool:
    """Results are written all or nothing, so that one that is there and not older is complete."""
    if not (source.is_file() and target.is_file()):
        return False
    return target.stat().st_mtime >= source.stat().st_mtime
