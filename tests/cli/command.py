"""The command line, called from Python."""

from __future__ import annotations

from convexreg.cli.parser import main


def run(*arguments: object) -> int:
    """Exit code."""
    return main([str(argument) for argument in arguments])
