"""Many files among the processes of `torchrun`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from PIL import Image

from convexreg.cli import batch
from tests.cli.command import run
from tests.models.model_files import write

LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def launched(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`torchrun --nproc-per-node 2 -m convexreg ...`."""
    words = [sys.executable, *LAUNCHER, "-m", "convexreg", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=240)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Five, of which one is none."""
    (tmp_path / "in").mkdir()
    write(tmp_path / "small.safetensors")
    random = numpy.random.default_rng(0)
    for name in "abcd":
        pixels = random.integers(0, 256, (20, 18)).astype(numpy.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    return tmp_path / "in"


def test_every_file_is_done_once_by_one_of_two_processes(pictures, tmp_path):
    options = ("--sigma", "0.1", "-m", tmp_path / "small.safetensors", "--max-iter", "2", "-q")
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert run("denoise", pictures, "-o", alone, *options) == 1
    ended = launched("denoise", pictures, "-o", together, *options)
    assert ended.returncode != 0
    lines = ended.stdout.splitlines()
    done = [Path(line.split(": sigma")[0]).name for line in lines if ": sigma" in line]
    assert sorted(done) == ["a.png", "b.png", "c.png", "d.png"]
    said = [line for line in lines if "written to" in line]
    assert said == [f"4 written to {together}, 0 already there, 1 failed"]
    assert len(re.findall(r"bad\.png cannot be read", ended.stderr)) == 1
    assert {p.name: p.read_bytes() for p in alone.iterdir()} == {
        p.name: p.read_bytes() for p in together.iterdir()
    }
    # what is missing is divided when it goes on
    (pictures / "bad.png").unlink()
    (together / "a.png").unlink()
    (together / "c.png").unlink()
    ended = launched("denoise", pictures, "-o", together, *options, "--json")
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 2
    assert {p.name: p.read_bytes() for p in alone.iterdir()} == {
        p.name: p.read_bytes() for p in together.iterdir()
    }


def test_a_single_file_is_for_the_first_process(pictures, tmp_path, monkeypatch, capsys):
    options = ("--sigma", "0.1", "-m", tmp_path / "small.safetensors", "--max-iter", "2", "-q")
    monkeypatch.setattr(batch, "place", lambda: (1, 2))
    assert run("denoise", pictures / "a.png", "-o", tmp_path / "one.png", *options) == 0
    assert not (tmp_path / "one.png").exists()
    assert capsys.readouterr().out == ""
