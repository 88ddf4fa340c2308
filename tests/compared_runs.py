"""Whether two runs wrote the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddfa_batch.pipeline.results import open_run

#: Columns that hold times, which no two runs share.
TIMES = ["decode_ms", "detect_ms", "regress_ms"]


def same_tables(a: Path | str, b: Path | str) -> None:
    """Assert that two runs wrote the same rows, times aside, and the same meshes."""
    left, right = open_run(a), open_run(b)
    assert left.images().drop_columns(TIMES).equals(right.images().drop_columns(TIMES))
    assert left.faces().equals(right.faces())
    assert np.array_equal(left.vertices(), right.vertices())
