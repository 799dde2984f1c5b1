"""Whether there is memory for what a file claims to hold."""

from __future__ import annotations

import os
from pathlib import Path

from convexreg.pictures.photograph import ImageError

_BYTES = 16
"""Of a sample while it is read: as it is stored, in float64 and in float32."""
_UNKNOWN = 2**36
"""Bytes of memory where the system does not say."""


def check_memory(path: Path, samples: int) -> None:
    """Refuse what cannot be decoded, before a decoder believes a header and takes all memory.

    :param samples: how many numbers the header of a picture claims.
    :raises ImageError: more than this machine has memory for.
    """
    if _BYTES * samples > _memory():
        raise ImageError(
            f"{path} claims a picture of {samples:.3g} numbers, for which this machine has no memory; it is "
            "damaged, or has to be cut into parts"
        )


def _memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN
