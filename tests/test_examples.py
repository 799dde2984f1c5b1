"""The examples run, on small pictures, and are better than the simple things that they compare with."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import pytest
from matplotlib import pyplot

matplotlib.use("agg")

EXAMPLES = Path(__file__).parent.parent / "examples"
SMALLER = {
    "adaptive_weights": {"SIZE": 32},
    "certificates": {"SIZE": 24},
    "deblur_measured_kernel": {"SIZE": 64},
    "deblur_photograph": {"SIZE": 48, "ITERATIONS": 15},
    "deepinv_pipeline": {"SIZE": 32, "ITERATIONS": 3},
    "denoise_photograph": {"SIZE": 48},
    "extend": {"SIZE": 32},
    "microscopy": {"SIZE": 48},
    "tomography": {"SIZE": 41, "ANGLES": 20, "SWEEPS": 4},
    "train_own_images": {"STEPS": 10},
    "uncertainty": {"SIZE": 12, "STEPS": 768},
}
UNTRAINED = {"train_own_images"}


def test_every_example_is_here_and_readable():
    files = sorted(EXAMPLES.glob("*.py"))
    assert [path.stem for path in files] == sorted(SMALLER)
    for path in files:
        lines = path.read_text().splitlines()
        assert len(lines) < 220, path
        assert re.fullmatch(r"=+", lines[2]), f"{path}: the title is underlined"


@pytest.mark.filterwarnings("ignore::UserWarning:deepinv")
@pytest.mark.parametrize("name", SMALLER)
def test_example(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (EXAMPLES / f"{name}.py").read_text()
    for constant, value in SMALLER[name].items():
        text, count = re.subn(rf"^{constant} = .*$", f"{constant} = {value}", text, flags=re.M)
        assert count == 1, f"{name} has no {constant}"
    found = {"__name__": "__main__"}
    try:
        exec(compile(text, str(EXAMPLES / f"{name}.py"), "exec"), found)
        assert pyplot.get_fignums()
    finally:
        pyplot.close("all")
    assert not list(tmp_path.iterdir()), "an example leaves files behind"
    scores = found.get("scores")
    assert capsys.readouterr().out
    if isinstance(scores, dict) and "convexreg" in scores and name not in UNTRAINED:
        assert max(scores, key=lambda key: scores[key]) == "convexreg", scores
