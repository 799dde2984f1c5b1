"""A stopwatch that stops while something else is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import TypeVar

import torch

K = TypeVar("K")


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


def alternating(runs: Mapping[K, Callable[[], float]], repeats: int) -> dict[K, list[float]]:
    """The seconds that each run returns, taking turns; the first turns, which allocate, do not count."""
    seconds: dict[K, list[float]] = {key: [] for key in runs}
    for _ in range(repeats + 1):
        for key, run in runs.items():
            seconds[key].append(run())
    return {key: values[1:] for key, values in seconds.items()}


def processor_seconds(run: Callable[[], object]) -> float:
    """Time of the processor, not of the wall: what else runs on the machine must not decide."""
    started = time.process_time()
    run()
    return time.process_time() - started


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch computes on one thread inside the `with` block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def summary(seconds: Sequence[float], digits: int = 4) -> dict[str, str]:
    """Median, least and most of repeated times, as they are saved."""
    values = {"seconds": median(seconds), "seconds_min": min(seconds), "seconds_max": max(seconds)}
    return {name: f"{value:.{digits}f}" for name, value in values.items()}
