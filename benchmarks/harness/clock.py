"""A stopwatch that stops while something else is measured."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Clock:
    """Wall time of a method alone; work queued on a GPU is waited for at every reading."""

    def __init__(self, device: str = "cpu") -> None:
        self._cuda = "cuda" in device
        self._elapsed = 0.0
        self._started = self._now()

    def _now(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    @property
    def seconds(self) -> float:
        """Time passed, pauses excluded."""
        return self._elapsed + self._now() - self._started

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stops inside the `with` block."""
        self._elapsed += self._now() - self._started
        try:
            yield
        finally:
            self._started = self._now()
