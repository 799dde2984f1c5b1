"""How much memory a process takes, and has taken."""

from __future__ import annotations

from pathlib import Path

import torch


def peak_mebibytes(device: str) -> float:
    """Most memory so far, in MiB: of the process, or of a CUDA device; NaN where nobody says."""
    if "cuda" in device:
        return torch.cuda.max_memory_allocated() / 2**20
    # ru_maxrss would start at the peak of the parent process
    return _said("VmHWM")


def mebibytes(device: str) -> float:
    """Memory now, in MiB, see `peak_mebibytes`."""
    return torch.cuda.memory_allocated() / 2**20 if "cuda" in device else _said("VmRSS")


def _said(key: str) -> float:
    """By Linux."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return float("nan")
    (line,) = (text for text in status.read_text().splitlines() if text.startswith(key))
    return float(line.split()[1]) / 2**10
