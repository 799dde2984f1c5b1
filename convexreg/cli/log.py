"""Notes, warnings and errors of the command line, through the standard module `logging`."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

LOG = logging.getLogger("convexreg")
_WORDS = {logging.INFO: "note", logging.WARNING: "warning", logging.ERROR: "error"}


class _BesideBars(logging.Handler):
    """On standard error, without breaking a progress bar there."""

    def emit(self, record: logging.LogRecord) -> None:
        word = _WORDS.get(record.levelno, record.levelname.lower())
        tqdm.write(f"convexreg: {word}: {one_line(record.getMessage())}", file=sys.stderr)


def one_line(text: str) -> str:
    """Without breaks, and with escapes for what cannot be seen: names and values may hold anything."""
    joined = " ".join(text.splitlines())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)


def show_log() -> None:
    """Show what the package logs from notes on; called again it changes nothing."""
    if not any(isinstance(handler, _BesideBars) for handler in LOG.handlers):
        LOG.addHandler(_BesideBars())
        LOG.setLevel(logging.INFO)
        LOG.propagate = False
        # what it says of every tag of a damaged file comes to one error, or does not matter
        logging.getLogger("tifffile").addHandler(logging.NullHandler())


@contextmanager
def logged_warnings() -> Iterator[None]:
    """Within it the warnings of all packages that would be shown are a line of the log each."""

    def show(message: Warning | str, *_: object) -> None:
        LOG.warning("%s", message)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
