"""A command that ends as it publishes a file, at a moment that the test chooses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ddfa_batch.tasks.files import atomic


class Stopped(BaseException):
    """The process ends here."""


@contextmanager
def stopped_at(moment: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever runs inside is to end before it publishes its file of this number, from 1."""
    calls, publish = 0, atomic.publish

    def stops(work: Path, path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == moment:
            raise Stopped
        publish(work, path)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(atomic, "publish", stops)
        yield
