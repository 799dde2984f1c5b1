"""What the shell completes: `shtab --shell bash convexreg.cli.parser.parser` writes the script."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

_FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
"""Functions of shtab's scripts."""
_NAMES = ("input", "output", "images", "model", "start")


def complete_files(parsers: Iterable[argparse.ArgumentParser]) -> None:
    """Have names of files completed where they are asked for."""
    for parser in parsers:
        for action in parser._actions:
            if action.type is Path or action.dest in _NAMES:
                action.complete = _FILES  # pyright: ignore[reportAttributeAccessIssue]
