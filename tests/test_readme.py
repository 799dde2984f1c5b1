"""The README's examples run and say the truth."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from convexreg.cli.parser import main

README = Path(__file__).parent.parent / "README.md"


def test_python_examples():
    outcome = doctest.testfile(str(README), module_relative=False)
    assert outcome.attempted > 5
    assert outcome.failed == 0


def test_every_command_line_option_mentioned_exists(capsys):
    help_texts = []
    for name in ("denoise", "deblur", "inpaint", "superresolve", "demo", "train", "info"):
        with pytest.raises(SystemExit):
            main([name, "--help"])
        help_texts.append(capsys.readouterr().out)
    options = set(re.findall(r"--[a-z-]+", " ".join(help_texts)))
    used = set()
    for line in README.read_text().splitlines():
        if line.startswith("convexreg "):
            used |= set(re.findall(r"--[a-z-]+", line))
    assert used
    assert used <= options
