"""What every test starts from: one thread, one seed."""

from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed() -> None:
    """All randomness of a test comes from here."""
    torch.manual_seed(0)
