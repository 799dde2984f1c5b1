"""Reconstructions leave nothing behind in memory; the benchmark `endurance` makes a thousand."""

from __future__ import annotations

from benchmarks.endurance import measured


def test_memory_does_not_grow() -> None:
    """After every kind has met every size, twenty of them, it stays where it is."""
    rows = measured(60, 20, "cpu")
    peaks = [float(str(row["mebibytes"])) for row in rows]
    assert peaks[-1] - peaks[0] < 8
