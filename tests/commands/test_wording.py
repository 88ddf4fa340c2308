"""Counts, bytes and durations as people read them."""

from __future__ import annotations

import pytest

from ddfa_batch.commands.wording import byte_size, count, duration


@pytest.mark.parametrize(("n", "words"), [(0, "0 faces"), (1, "1 face"), (2, "2 faces"), (12_345, "12,345 faces")])
def test_counts(n: int, words: str) -> None:
    assert count(n, "face") == words


@pytest.mark.parametrize(
    ("n", "words"),
    [(999, "999 B"), (76_356, "76.4 kB"), (9.24e6, "9.24 MB"), (69.4e9, "69.4 GB"), (4.58e15, "4,580 TB")],
)
def test_bytes(n: float, words: str) -> None:
    assert byte_size(n) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (8.21, "8.2 s"), (45, "45 s"), (600, "10 min"), (7140, "119 min"), (9000, "2.5 h")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
