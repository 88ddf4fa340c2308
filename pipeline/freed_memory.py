"""Freed memory given back to the system now and then: workers' malloc keeps it otherwise (`pipeline.cluster`).

Keeping is right for pictures, whose buffers come and go. The frames of a large video leave holes of all sizes, though:
after some dozen shards of 1920 × 1080 pixels a worker held twice what it used.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Give all memory back that is free in this process; where the C library knows no such thing nothing is done."""
    if (trim := _malloc_trim()) is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """glibc's malloc_trim(3); other C libraries lack it."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    return trim
