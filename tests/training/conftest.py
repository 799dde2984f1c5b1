"""Photographs to train on."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small photographs of squares on a slope."""
    path = tmp_path_factory.mktemp("photographs")
    generator = numpy.random.default_rng(0)
    for index in range(4):
        image = numpy.linspace(40, 90, 20 + index) * numpy.ones((22, 1))
        top, left = generator.integers(2, 10, 2)
        image[top : top + 8, left : left + 8] += 120
        Image.fromarray(image.astype(numpy.uint8)).save(path / f"{index}.png")
    return path
