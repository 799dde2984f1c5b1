"""A command run on whatever is given to it, and what has to hold of it all the same."""

from __future__ import annotations

import contextlib
import io
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.memory import peak_mebibytes
from convexreg.cli.parser import main

SECONDS, MEBIBYTES = 30.0, 768.0
"""Of computing, whatever else the machine does, and of memory: a command on a picture of some hundred pixels
takes a fraction of both."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and its lines on standard error."""

    code: int
    lines: list[str]


def abused(folder: Path, *arguments: object) -> Ended:
    """Run a command in `folder`, which writes to names that begin with `out`.

    It ends in time, within memory, with code 0 and its result, or with another one, one sentence that
    says why, and nothing written.
    """
    words = [str(argument) for argument in arguments]
    before, began, memory = os.getcwd(), time.process_time(), peak_mebibytes("cpu")
    said = io.StringIO()
    os.chdir(folder)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(said),
            warnings.catch_warnings(record=True) as unlogged,
        ):
            warnings.simplefilter("default")  # as they are outside of tests
            try:
                code = main(words)
            except SystemExit as end:
                code = end.code
    finally:
        os.chdir(before)
    assert not unlogged, words
    ended = Ended(int(code or 0), said.getvalue().splitlines())
    shown = f"{words}\n{said.getvalue()}"
    assert time.process_time() - began < SECONDS, shown
    assert peak_mebibytes("cpu") - memory < MEBIBYTES, shown
    assert all(line.startswith("convexreg: ") for line in ended.lines), shown
    errors = [line for line in ended.lines if line.startswith("convexreg: error: ")]
    written = [path.name for path in folder.rglob("*") if path.is_file()]
    assert not any(name.startswith(".unfinished") for name in written), shown
    assert ended.code in (0, 2), shown
    if ended.code == 0:
        assert errors == [], shown
    else:
        assert errors == ended.lines[-1:], shown
        assert len(errors[0]) < 600, shown
        assert not any(name.startswith("out") for name in written), shown
    return ended
