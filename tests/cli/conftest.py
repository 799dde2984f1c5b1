"""What the commands work on."""

from __future__ import annotations

import pytest
import torch

from convexreg.pictures.files import write_image
from convexreg.pictures.photograph import Photograph


@pytest.fixture
def photo(tmp_path):
    """A noisy gray photograph of 48 x 40 pixels."""
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(40.0), indexing="ij")
    clean = 0.5 + 0.3 * torch.sin(rows / 6) * torch.cos(columns / 5)
    noisy = clean + 25 / 255 * torch.randn(48, 40)
    write_image(tmp_path / "in.png", Photograph(noisy[None], None, 8))
    return tmp_path / "in.png"
