"""A stopwatch that stops while something else is measured."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

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


def summary(seconds: Sequence[float], digits: int = 4) -> dict[str, str]:
    """Median, least and most of repeated times, as they are saved."""
    values = {"seconds": median(seconds), "seconds_min": min(seconds), "seconds_max": max(seconds)}
    return {name: f"{value:.{digits}f}" for name, value in values.items()}
