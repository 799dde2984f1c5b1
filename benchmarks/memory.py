"""How much memory a process has taken."""

from __future__ import annotations

import torch


def peak_mebibytes(device: str) -> float:
    """Most memory so far, in MiB: of the process, or of a CUDA device; NaN where nobody says."""
    if "cuda" in device:
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
