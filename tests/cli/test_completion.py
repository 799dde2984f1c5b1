"""The script that shtab writes completes commands, options and files."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import shtab

from convexreg.cli.parser import parser

LINES = {
    "commands": ("convexreg de", "deblur demo denoise"),
    "options": ("convexreg denoise --sig", "--sigma"),
    "inputs": ("convexreg denoise ph", "photo.png"),
    "files of options": ("convexreg deblur photo.png --kernel ps", "psf.npy"),
    "choices": ("convexreg deblur photo.png --boundary ci", "circular"),
}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize("name", LINES)
def test_bash_completes(name, tmp_path):
    line, expected = LINES[name]
    (tmp_path / "convexreg.bash").write_text(shtab.complete(parser(), "bash"))
    for file in ("photo.png", "psf.npy"):
        (tmp_path / file).touch()
    words = line.split()
    script = (
        f"source convexreg.bash; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
        f'COMP_LINE="{line}"; _shtab_convexreg; echo "${{COMPREPLY[*]}}"'
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert " ".join(sorted(done.stdout.split())) == expected


def test_other_shells_get_a_script():
    assert "_convexreg" in shtab.complete(parser(), "zsh")
