"""Every option with numbers that make no sense, that are extreme, and with no numbers at all."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy
from hypothesis import given
from hypothesis import strategies as st

from convexreg.cli.parser import parser
from tests.cli.abuse import abused
from tests.cli.damage import COLOUR, GRAY
from tests.models.model_files import write
from tests.tables import over

NUMBERS = (
    "0", "-0", "1", "-1", "2", "0.1", "1e-3", "nan", "inf", "-inf", "1e308", "-1e308", "1e-308", "1e400",
    "25/255", "1/0", "0/0", "1/inf", "auto", "discrepancy", "sure", "", " ", ",", "0.1,0.2", "1,", ",1",
    "nan,nan", "0,0", "1e308,1e-308", "1,2,3", "[1, 2]", "(1,)", "1 2", "0x10", "1_000", "1e3", "9" * 60,
    "1" + "0" * 30, "\u0663", "\u00bd", "\u221e", "\u03c3", "\N{SNOWMAN}", "\0", "--", "-", "'", "%s", "%n",
    "$(ls)", "../..", "/", ".", "none", "true", "1000", "64", "3.5",
)  # fmt: skip
"""What people, shells and programs put where a number belongs."""

BLUR = ("--gaussian", "1")
MASK = ("--mask", "mask.npy")
COMMANDS: dict[str, tuple[str, ...]] = {
    "denoise": ("gray.npy",),
    "deblur": ("gray.npy",),
    "inpaint": ("colour.npy", *MASK),
    "superresolve": ("gray.npy",),
    "train": (
        "photos",
        "--steps",
        "1",
        "--batch-size",
        "1",
        "--patch-size",
        "16",
        "--filters",
        "2",
    ),
}
NOT_TRIED = {
    "help",
    "output",
    "model",
    "run_folder",
    "input",
    "images",
    "luminance",
    "start",
    "validation",
}


def numbers_of(command: str) -> dict[str, int]:
    """The options of a command that take values, and how many."""
    subparsers = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return {
        action.option_strings[-1]: int(action.nargs or 1)
        for action in subparsers.choices[command]._actions
        if action.option_strings and action.nargs != 0 and action.dest not in NOT_TRIED
    }


VALUES = st.one_of(
    st.sampled_from(NUMBERS),
    st.floats().map(str),
    st.integers().map(str),
    st.text(max_size=8).filter(lambda text: "\0" not in text),
)


def tried(command: str, option: str, values: list[str]) -> int:
    """The exit code of a command with such values."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        numpy.save(folder / "gray.npy", GRAY / 255)
        numpy.save(folder / "colour.npy", COLOUR / 255)
        numpy.save(folder / "mask.npy", numpy.eye(20, 18))
        (folder / "photos").mkdir()
        numpy.save(folder / "photos" / "gray.npy", GRAY / 255)
        words = [command, *COMMANDS[command]]
        given_already = words.index(option) if option in words else None
        if given_already is not None:
            del words[given_already : given_already + 2]
        if command == "deblur" and option not in ("--kernel", "--gaussian", "--disc", "--motion"):
            words += BLUR
        if command == "train":
            words += ["-o", "out.safetensors", "-q"]
        else:
            model = write(folder / "small.safetensors")
            words += ["-o", "out.npy", "-m", model.name, "-q"]
            if option != "--max-iter":
                words += ["--max-iter", "2"]
            if option not in ("--sigma", "--noise-map"):
                words += ["--sigma", "0.1"]
        # with "=" a value may begin with a dash
        words += [f"{option}={values[0]}"] if len(values) == 1 else [option, *values]
        return abused(folder, *words).code


@over("command", {name: name for name in COMMANDS})
@given(data=st.data())
def test_values(command: str, data: st.DataObject) -> None:
    options = numbers_of(command)
    option = data.draw(st.sampled_from(sorted(options)))
    values = data.draw(st.lists(VALUES, min_size=options[option], max_size=options[option]))
    tried(command, option, values)
