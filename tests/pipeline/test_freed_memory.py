"""A worker's malloc keeps what is freed; it gives it back when it is told to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ddfa_batch.pipeline import freed_memory

#: Frees 200 MB among which something lives on, as frames leave it, and prints the resident megabytes then and after.
_PROGRAM = """
from pathlib import Path
import numpy as np
from ddfa_batch.pipeline.freed_memory import give_back
def resident():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) // 1024
frames, kept = [], []
for _ in range(40):
    frames.append(np.ones(5_000_000, np.uint8))
    kept.append(np.ones(1000, np.uint8))
del frames
print(resident())
give_back()
print(resident())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from /proc")
@pytest.mark.skipif(freed_memory._malloc_trim() is None, reason="another C library")
def test_freed_memory_goes_back_though_malloc_was_told_to_keep_it() -> None:
    kept = dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(256 << 20))
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=os.environ | kept, check=True, capture_output=True, text=True
    )
    before, after = map(int, done.stdout.split())
    assert before - after > 150
