"""The clock, and what stands under a table."""

from __future__ import annotations

import time

import pytest

from benchmarks.harness.clock import Clock
from benchmarks.harness.markdown import environment_line
from benchmarks.harness.options import Options


def test_clock_stops_while_paused():
    clock = Clock()
    with clock.paused():
        time.sleep(0.05)
    assert clock.seconds < 0.04
    with pytest.raises(KeyError), clock.paused():
        raise KeyError
    time.sleep(0.02)
    assert clock.seconds > 0.015


def test_commands_under_tables_name_everything_that_matters():
    """What all runs share, and the weights that only some methods need; no defaults."""
    surroundings = {
        **{"date": "2026-01-01T00:00", "cpu": "a processor", "device": "cpu", "threads": 1},
        **{"versions": {"torch": "2", "deepinv": "0.5"}, "commit": "abc"},
    }
    options = Options(images="some", limit=6, tuning_crop=80, models=("crr", "mine")).record()
    document = {
        "runs": [
            {"options": {**options, "seed": 1, "weights": "peers"}, "environment": surroundings},
            {"options": {**options, "crop": 64}, "environment": surroundings},
        ]
    }
    expected = "--images some --limit 6 --tuning-crop 80 --models crr,mine --weights peers"
    assert environment_line("study", document).startswith(
        f"`python -m benchmarks run study {expected}`: a processor, 1 thread(s)"
    )
    document["runs"] = [{"options": Options().record(), "environment": surroundings}]
    assert environment_line("study", document).startswith("`python -m benchmarks run study`: ")
    other = {**surroundings, "cpu": "another"}
    document["runs"].append({"options": Options().record(), "environment": other})
    assert "a processor, 1 thread(s), torch 2, deepinv 0.5; another, 1" in environment_line(
        "", document
    )
