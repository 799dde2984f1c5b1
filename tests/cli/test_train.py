"""`convexreg train`: what it writes, says and refuses."""

from __future__ import annotations

import signal

import numpy
import tifffile
import torch
from PIL import Image

from convexreg import load_model
from convexreg.pictures.files import write_image
from convexreg.pictures.photograph import Photograph
from convexreg.training.run import TrainingRun
from tests.cli.command import run


def test_train_then_use_and_resume(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for index in range(2):
        image = numpy.random.default_rng(index).integers(0, 255, (32, 32), dtype=numpy.uint8)
        Image.fromarray(image).save(tmp_path / "photos" / f"{index}.png")
    model = tmp_path / "m.safetensors"
    command = (
        "train", tmp_path / "photos", "-o", model, "--objective", "score", "--steps", "2",
        "--batch-size", "1", "--patch-size", "16", "-q",
    )  # fmt: skip
    assert run(*command) == 0
    assert run("info", model) == 0
    assert "score" in capsys.readouterr().out
    assert run(*command) == 2
    assert "--resume" in capsys.readouterr().err
    assert run(*command, "--resume") == 0
    assert run(*command, "--resume", "--start", "mgradnet-m") == 2
    assert "other settings (channels, group_size, started_from)" in capsys.readouterr().err


def test_training_shows_where_it_starts(tmp_path, capsys):
    for name in ("train", "validate"):
        (tmp_path / name).mkdir()
        twelve = numpy.random.default_rng(0).integers(0, 4095, (24, 26)).astype(numpy.uint16)
        tifffile.imwrite(tmp_path / name / "a.tif", twelve)
    model = tmp_path / "m.safetensors"
    command = (
        "train", tmp_path / "train", "-o", model, "--objective", "score", "--batch-size", "1",
        "--patch-size", "16", "--steps", "2", "--filters",
    )  # fmt: skip
    assert run(*command, 6, "-q") == 0
    assert "1 images of" in capsys.readouterr().err
    assert load_model(model).config.channels == (1, 4, 8, 6)
    assert "validation_psnr" not in load_model(model).card
    assert run(*command, 6, "--start", model) == 2
    assert "leave --filters out" in capsys.readouterr().err
    assert run(*command, 7) == 2
    assert "7 channels" in capsys.readouterr().err
    assert run(*command[:-1], "--validation", tmp_path / "train") == 2
    assert "cannot be both trained on and validated on" in capsys.readouterr().err
    more = ("--start", model, "--validation", tmp_path / "validate", "--white", 4095)
    again = tmp_path / "again.safetensors"
    assert run(*command[:-1], *more, "--validate-every", 1, "-o", again) == 0
    printed = capsys.readouterr()
    assert "4095" not in printed.err
    shown = printed.out + printed.err
    assert all(f"step {step}: validation PSNR" in shown for step in (0, 1, 2))
    card = load_model(again).card
    assert card["started_from"] == "m.safetensors"
    assert set(card["validation_psnr"]) == {"5", "15", "25", "50"}


def test_a_second_interrupt_does_not_wait(tmp_path, capsys, monkeypatch):
    """And what a log file shows: a line per checkpoint, and that the run is about to stop."""
    write_image(tmp_path / "a.png", Photograph(torch.rand(1, 48, 48), None, 8))
    command = ["train", tmp_path, "--objective", "score", "--steps", 201, "--batch-size", 1]
    command += ["--patch-size", 16, "--filters", 2, "-o", tmp_path / "out.safetensors"]
    optimise = TrainingRun._optimise

    def interrupted(self, loss_of):
        if self.step == 200:
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)
        return optimise(self, loss_of)

    monkeypatch.setattr(TrainingRun, "_optimise", interrupted)
    assert run(*command) == 130
    shown = capsys.readouterr()
    assert "step 200 of 201: loss" in shown.out
    assert "stopping after this step; again to stop at once" in shown.err
    assert "interrupted within a step; --resume continues" in shown.err
    monkeypatch.undo()
    assert run(*command, "--resume", "-q") == 0
    assert run(*command[:-1], tmp_path / "out.pth") == 2
    assert "a model file is a .safetensors file" in capsys.readouterr().err


def test_interrupted_training_resumes(tmp_path, capsys, monkeypatch):
    """Ctrl-C in the middle of a step ends after it; the resumed run ends like an undisturbed one."""
    for index in range(2):
        pixels = torch.rand(1, 48, 48)
        write_image(tmp_path / f"{index}.png", Photograph(pixels, None, 8))
    common = ["train", tmp_path, "--objective", "score", "--steps", 4, "--batch-size", 2]
    common += ["--patch-size", 32, "-q"]
    optimise, steps = TrainingRun._optimise, []

    def interrupted(self, loss_of):
        steps.append(self.step)
        if len(steps) == 2:
            signal.raise_signal(signal.SIGINT)
        return optimise(self, loss_of)

    monkeypatch.setattr(TrainingRun, "_optimise", interrupted)
    out = tmp_path / "out.safetensors"
    assert run(*common, "-o", out) == 130
    assert "interrupted after step 2; continue with --resume" in capsys.readouterr().err
    assert not out.exists()
    assert run(*common, "-o", out, "--seed", 1, "--resume") == 2
    assert "other settings (seed)" in capsys.readouterr().err
    assert run(*common, "-o", out, "--resume") == 0
    assert steps == [0, 1, 2, 3]
    assert run(*common, "-o", tmp_path / "whole.safetensors") == 0
    first, second = (
        load_model(path).regularizer.state_dict() for path in (out, tmp_path / "whole.safetensors")
    )
    for key, value in first.items():
        assert torch.equal(value, second[key])
