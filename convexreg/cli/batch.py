"""Files in, files out: one or many, picture by picture; failures do not stop the others.

Many are divided among the processes of `torchrun`, if it has started several.
"""

from __future__ import annotations

import argparse
import glob
from pathlib import Path

import torch

from convexreg.cli.file import restored_file, say, say_one
from convexreg.cli.log import LOG
from convexreg.cli.progress import many_bar
from convexreg.cli.restoration import Restore, parse_weight
from convexreg.models.files import regularizer_of
from convexreg.pictures.files import IMAGE_SUFFIXES, WRITABLE_SUFFIXES, check_writable
from convexreg.pictures.photograph import ImageError
from convexreg.training.parallel import own_device, place, processes, total, wait


def restore_files(options: argparse.Namespace, restore: Restore) -> int:
    """Restore what the command names, and say how it went.

    :return: the exit code: 1 if some of many files failed.
    :raises ImageError: a single file that cannot be read or written, no files, or outputs that would
        overwrite inputs or each other.
    """
    options.device = own_device(options.device)
    with processes(torch.device("cpu")):  # all that they tell each other are a few numbers
        return _restored(options, restore)


def _restored(options: argparse.Namespace, restore: Restore) -> int:
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
    if place()[0] == 0:
        say(options, output, restored_file(options, sources[0], output, restore))
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
        folder.mkdir(exist_ok=True)
    waiting = [pair for pair in files if options.overwrite or not _is_done(*pair)]
    wait()  # all have seen the same files before the first one is written
    number, count = place()
    own, failed = waiting[number::count], 0
    what = "files" if count == 1 else f"files of process 1 of {count}"
    with many_bar(len(own), what, quiet=options.quiet or number > 0) as bar:
        for done, (source, target) in enumerate(own, 1):
            try:
                told = restored_file(options, source, target, restore, bar)
            except Exception as error:  # whatever it is, the others do not depend on it
                failed += 1
                where = "" if str(source) in str(error) else f"{source}: "
                LOG.error("%s%s", where, error)
            else:
                say_one(options, target, told)
            bar.update(done - bar.n)
    failed = int(total(torch.tensor(failed)))
    if not options.json and number == 0:
        written, skipped = len(waiting) - failed, len(files) - len(waiting)
        print(f"{written} written to {folder}, {skipped} already there, {failed} failed")
    return 1 if failed else 0


def _name(source: Path) -> str:
    """Of the result: that of the file, in a format that can be written."""
    writable = source.suffix.lower() in WRITABLE_SUFFIXES
    return source.name if writable else f"{source.stem}.png"


def _is_done(source: Path, target: Path) -> bool:
    """Results are written all or nothing, so that one that is there and not older is complete."""
    if not (source.is_file() and target.is_file()):
        return False
    return target.stat().st_mtime >= source.stat().st_mtime
