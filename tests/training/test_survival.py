"""Training that is killed, extended, or divided among processes."""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from convexreg import load_model
from convexreg.training import parallel
from convexreg.training.log import Record
from tests.training.trainings import SETTINGS, log, training

LONG = replace(SETTINGS, steps=60, checkpoint_every=5, validate_every=60)


def run_on(folder: Path, run: Path, taken: Any) -> None:
    """Start, or resume where there is a checkpoint, and go on to the end, counting steps."""
    own = training(folder, run, settings=LONG)
    if own.checkpoint.exists():
        own.resume()

    def count(record: Record) -> None:
        taken.value += 1

    own.run(count)


def test_a_run_that_is_killed_at_twenty_moments_ends_with_the_same_bits(
    folder: Path, tmp_path: Path
) -> None:
    """Forked, so that a start takes no time; by SIGKILL, which nothing can catch."""
    whole = training(folder, tmp_path / "whole", settings=LONG)
    expected = whole.run().state_dict()
    moments, fork = random.Random(0), multiprocessing.get_context("fork")
    taken, kills = fork.Value("i", 0), 0
    while kills < 20:
        taken.value = 0
        with warnings.catch_warnings():  # of threads, which wait for work only
            warnings.simplefilter("ignore", DeprecationWarning)
            child = fork.Process(target=run_on, args=(folder, tmp_path / "parts", taken))
            child.start()
        steps = moments.randrange(1, 9)  # more than there are between two checkpoints, at times
        while child.is_alive() and taken.value < steps:
            time.sleep(moments.uniform(0.0, 0.01))
        child.kill()
        child.join()
        if child.exitcode == 0:  # all done: once more from the start
            (tmp_path / "parts" / "checkpoint.safetensors").unlink()
        kills += child.exitcode == -9
    last = training(folder, tmp_path / "parts", settings=LONG)
    if last.checkpoint.exists():
        last.resume()
    result = last.run().state_dict()
    assert all(torch.equal(result[key], expected[key]) for key in expected)
    assert log(last) == log(whole)
    left = {path.name for path in (tmp_path / "parts").iterdir()}
    assert {"checkpoint.safetensors", "log.jsonl"} <= left


def test_a_finished_run_goes_on_for_more_steps(folder: Path, tmp_path: Path) -> None:
    training(folder, tmp_path).run()
    longer = training(folder, tmp_path, settings=replace(SETTINGS, steps=12))
    longer.resume()
    assert longer.step == SETTINGS.steps
    rates = longer.schedule.get_last_lr()
    assert rates[0] > 0
    longer.run()
    assert [line["step"] for line in log(longer)] == list(range(1, 13))
    with pytest.raises(ValueError, match="has taken 12 steps; give as many or more"):
        training(folder, tmp_path).resume()


def test_two_processes_train_what_one_does(folder: Path, tmp_path: Path) -> None:
    """With the same batches, each half of them."""
    command = [
        "train", folder, "--steps", 3, "--batch-size", 4, "--patch-size", 16, "--filters", 4, "--flatness",
        0.01, "-q", "-o",
    ]  # fmt: skip
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "--module"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    states = []
    for name, start in (("one", ["-m"]), ("two", launch)):
        model = tmp_path / f"{name}.safetensors"
        words = [str(word) for word in (sys.executable, *start, "convexreg", *command, model)]
        done = subprocess.run(words, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        states.append(load_model(model).regularizer.state_dict())
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=1e-4, atol=1e-6)


def test_a_batch_is_divided_without_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = torch.arange(12).reshape(6, 2)
    shares = []
    for number in range(3):
        monkeypatch.setattr(parallel, "place", lambda number=number: (number, 3))
        shares.append(parallel.share(batch))
    assert torch.equal(torch.cat(shares), batch)
    with pytest.raises(ValueError, match="a batch of 4 cannot be divided among 3 processes"):
        parallel.share(batch[:4])
