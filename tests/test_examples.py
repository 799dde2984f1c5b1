"""The examples run as they are, on small pictures."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
ARGUMENTS = {
    "adaptive_weights": ["--size", "32", "-o", "out.png"],
    "deblur_photograph": ["--size", "16", "--iterations", "4", "-o", "out.png"],
    "deepinv_pipeline": ["--size", "24", "--iterations", "3"],
    "failures": ["--size", "32"],
    "tomography": ["--size", "24", "--angles", "8", "-o", "out.png"],
    "train_own_images": ["--steps", "10", "-o", "out.safetensors"],
    "uncertainty": ["--size", "12", "--steps", "768", "-o", "out.png"],
}


def test_every_example_is_here_and_short():
    files = sorted(EXAMPLES.glob("*.py"))
    assert [path.stem for path in files] == sorted(ARGUMENTS)
    assert all(len(path.read_text().splitlines()) < 80 for path in files)


@pytest.mark.filterwarnings("ignore::UserWarning:deepinv")
@pytest.mark.parametrize("name", ARGUMENTS)
def test_example(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    specification = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    example = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(example)
    example.main(ARGUMENTS[name])
    written = [path for path in tmp_path.iterdir() if path.stat().st_size > 1000]
    assert len(written) == ("-o" in ARGUMENTS[name])
    assert " dB" in capsys.readouterr().out or name == "uncertainty"
