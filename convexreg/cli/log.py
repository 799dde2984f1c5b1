"""Notes, warnings and errors of the command line, through the standard module `logging`."""

from __future__ import annotations

import logging
import sys

from tqdm import tqdm

LOG = logging.getLogger("convexreg")
_WORDS = {logging.INFO: "note", logging.WARNING: "warning", logging.ERROR: "error"}


class _BesideBars(logging.Handler):
    """On standard error, without breaking a progress bar there."""

    def emit(self, record: logging.LogRecord) -> None:
        word = _WORDS.get(record.levelno, record.levelname.lower())
        tqdm.write(f"convexreg: {word}: {record.getMessage()}", file=sys.stderr)


def show_log() -> None:
    """Show what the package logs from notes on; called again it changes nothing."""
    if not any(isinstance(handler, _BesideBars) for handler in LOG.handlers):
        LOG.addHandler(_BesideBars())
        LOG.setLevel(logging.INFO)
        LOG.propagate = False
