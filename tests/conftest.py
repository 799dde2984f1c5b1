"""What every test starts from: one thread, one seed."""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read once, when numpy is imported

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("here", max_examples=40, deadline=None, derandomize=True, database=None)
settings.register_profile("nightly", max_examples=10_000, deadline=None)
settings.load_profile("here")


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Random numbers of tables and constants, which are drawn on import, are the same in every run."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def seed() -> None:
    """All randomness of a test comes from here."""
    torch.manual_seed(0)
