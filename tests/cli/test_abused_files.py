"""Files that are cut off, damaged, animated, or claim to be enormous, wherever a command reads one."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.abuse import abused
from tests.cli.damage import (
    FILES,
    GRAY,
    claiming_array,
    claiming_png,
    claiming_tiff,
    damaged,
)
from tests.models.model_files import write
from tests.tables import over

COMMANDS = {
    "picture": ("denoise", "X"),
    "kernel": ("deblur", "whole.npy", "--kernel", "X"),
    "mask": ("inpaint", "whole.npy", "--mask", "X"),
    "noise map": ("denoise", "whole.npy", "--noise-map", "X"),
}
SUFFIXES = {".ome.tif": ".tif", ".bmp": ".png"}


def tried(role: str, suffix: str, content: bytes) -> int:
    """The exit code of a command that reads these bytes as that."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / f"x{suffix}").write_bytes(content)
        numpy.save(folder / "whole.npy", GRAY / 255)
        model = write(folder / "small.safetensors")
        command = [f"x{suffix}" if word == "X" else word for word in COMMANDS[role]]
        level = () if role == "noise map" else ("--sigma", "0.1")
        target = "out" + (SUFFIXES.get(suffix, suffix) if role == "picture" else ".npy")
        options = ("-m", model.name, "--max-iter", "2", "-q")
        return abused(folder, *command, "-o", target, *level, *options).code


@over("role", {name: name for name in COMMANDS})
@given(data=st.data())
def test_damaged_files(role: str, data: st.DataObject) -> None:
    suffix, content = FILES[data.draw(st.sampled_from(sorted(FILES)))]
    tried(role, suffix, data.draw(damaged(content())))


@over("file", FILES)
def test_files_cut_off_anywhere(file) -> None:
    suffix, content = file
    whole = content()
    assert tried("picture", suffix, whole) == 0 or suffix in (".png", ".webp")
    for share in numpy.linspace(0, 1, 12)[:-1]:
        tried("picture", suffix, whole[: int(share * len(whole))])


def _archive(array: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", array)
    return buffer.getvalue()


LARGE = {
    "PNG": (".png", lambda: claiming_png(10**5, 10**5)),
    "PNG of 16 bits": (".png", lambda: claiming_png(10**5, 10**5, 16)),
    "long PNG": (".png", lambda: claiming_png(1, 2**31 - 1)),
    "TIFF": (".tif", lambda: claiming_tiff(10**5, 10**5, 1)),
    "packed TIFF": (".tif", lambda: claiming_tiff(10**5, 10**5, 8)),
    "larger TIFF": (".tif", lambda: claiming_tiff(2**32 - 1, 2**32 - 1, 8)),
    "bands": (".tif", lambda: claiming_tiff(10**4, 10**4, 8, samples=10**4)),
    "NPY": (".npy", lambda: claiming_array(10**5, 10**5)),
    "NPZ": (".npz", lambda: _archive(claiming_array(10**5, 10**5))),
    "many in NPZ": (".npz", lambda: _archive(claiming_array(10**9, 4, 4))),
}


@pytest.mark.parametrize("role", COMMANDS)
@over("file", LARGE)
def test_files_that_claim_to_be_enormous(role: str, file) -> None:
    suffix, content = file
    assert tried(role, suffix, content()) == 2
