"""A folder that is removed, entry by entry, while a command works in it: at moments that are counted, not timed."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

#: What Python tells of (audit events) before it opens, lists, makes, renames or removes something.
_TOUCHES = frozenset({"open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove", "os.rmdir"})


class Removal:
    """The removal of `folder`, a step of which is taken whenever this process touches something below it."""

    def __init__(self, folder: Path, begins: int, backwards: bool) -> None:
        #: The touches so far.
        self.touches, self._begins = 0, begins
        self._folder, self._steps = str(folder), _steps(folder, backwards)
        self._stepping = self.over = False

    def touched(self, event: str, arguments: tuple[object, ...]) -> None:
        """An audit hook's part."""
        if event not in _TOUCHES or self._stepping or self.over or not self._is_below(arguments[0]):
            return
        self.touches += 1
        if self.touches >= self._begins:
            self._step(1)

    def waited(self, _: float) -> None:
        """In place of `time.sleep`: meanwhile the removal goes on."""
        if self.touches >= self._begins:
            self._step(1)

    def finish(self) -> None:
        """Take the steps that are left."""
        self._step(sys.maxsize)

    def _is_below(self, path: object) -> bool:
        return isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(self._folder)

    def _step(self, steps: int) -> None:
        self._stepping = True
        for _ in range(steps):
            if next(self._steps, None) is None:
                self.over = True
                break
        self._stepping = False


def _steps(folder: Path, backwards: bool) -> Iterator[str]:
    """Remove a folder as `rm -r` does: what it lists, one by one, then itself if nothing was added meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name, reverse=backwards):
            if entry.is_dir():
                yield from _steps(Path(entry.path), backwards)
            else:
                Path(entry.path).unlink(missing_ok=True)
                yield entry.path
        with contextlib.suppress(OSError):
            folder.rmdir()
        yield str(folder)


_now: list[Removal] = []
sys.addaudithook(lambda event, arguments: _now[0].touched(event, arguments) if _now else None)


@contextlib.contextmanager
def removed_meanwhile(folder: Path, begins: int = sys.maxsize, backwards: bool = False) -> Iterator[Removal]:
    """Remove `folder` while the block works in it, an entry at each touch from that of this number on; then the rest.

    What is there before is removed first. backwards: in the opposite order of names.
    """
    shutil.rmtree(folder, ignore_errors=True)
    _now.append(removal := Removal(folder, begins, backwards))
    try:
        with mock.patch.object(time, "sleep", removal.waited):
            yield removal
    finally:
        _now.clear()
    if removal.touches >= begins:
        removal.finish()
