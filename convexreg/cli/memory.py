"""Keeping freed memory, for programs that run one solve after the other."""

from __future__ import annotations

import ctypes

# glibc's <malloc.h>
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> None:
    """Tell glibc to reuse freed blocks of up to 32 MiB instead of returning them to the system.

    A solver allocates the same temporaries in every iteration, and clearing fresh pages can take
    longer than the arithmetic on them. This is a setting of the whole process, so programs (the
    command line, training, benchmarks) make it, not the library. Without glibc it does nothing.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 64 * 2**20)
