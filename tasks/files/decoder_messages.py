"""What libjpeg, libpng and OpenCV print while they decode, kept out of the terminal without losing anybody's words.

They know no other way to complain than file descriptor 2, and a run over a million files would drown its progress.
The descriptor belongs to the whole process, though: other threads write to it while one decodes.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator

#: Lines of decoders: libpng, libjpeg-turbo (the warnings of its jerror.h), OpenCV's log (its faults end in two breaks).
_DECODER_LINE = re.compile(
    rb"(?:libpng (?:warning|error): [^\n]*"
    rb"|Corrupt JPEG data: [^\n]*|Premature end of JPEG file[^\n]*|Unknown Adobe color transform code [^\n]*"
    rb"|Inconsistent progression sequence for [^\n]*|Warning: unknown JFIF revision number [^\n]*"
    rb"|Invalid SOS parameters for sequential JPEG[^\n]*|Application transferred too many scanlines[^\n]*"
    rb"|\[ ?(?:WARN|ERROR|FATAL|INFO|DEBUG):\d+@[^\n]*\n?(?=\n))\n"
)
#: What OpenCV's log puts before its words: the level, the seconds that the process has run, a line of its source code.
_LOG_PREFIX = re.compile(r"^\[ ?[A-Z]+:\d+@[\d.]+\] (?:global \S+ \S+ )?")


class _Redirection:
    """File descriptor 2 of the process, turned to an unnamed file while at least one thread decodes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._decoding = 0
        #: Where descriptor 2 leads otherwise; −1 while it does, or where it is closed.
        self._terminal = -1
        #: The unnamed file; −1 until one is needed. It is empty whenever nobody decodes.
        self._sink = -1
        os.register_at_fork(
            before=self._lock.acquire,
            after_in_parent=self._lock.release,
            after_in_child=self._forget,
        )

    def enter(self) -> None:
        """Begin one thread's share."""
        with self._lock:
            if self._decoding == 0 and (terminal := _duplicate(2)) >= 0:
                self._terminal = terminal
                self._sink = self._sink if self._sink >= 0 else _unnamed_file()
                os.dup2(self._sink, 2)
            self._decoding += 1

    def leave(self) -> list[str]:
        """End one thread's share: the decoders' lines since the last end, the same in every run.

        Anything else goes on to where it belongs.
        """
        with self._lock:
            self._decoding -= 1
            words = self._taken() if self._terminal >= 0 else b""
            if self._decoding == 0 and self._terminal >= 0:
                os.close(self._terminal)
                self._terminal = -1
        lines = (found.group().decode("utf-8", "replace").strip() for found in _DECODER_LINE.finditer(words))
        return [_LOG_PREFIX.sub("", line) for line in lines]

    def _taken(self) -> bytes:
        """What was printed so far. The file is changed before it is read, so that nothing falls between."""
        sink, printed = self._sink, os.lseek(self._sink, 0, os.SEEK_CUR) > 0
        if printed:
            self._sink = _unnamed_file()
        if self._decoding == 0:
            os.dup2(self._terminal, 2)
        elif printed:
            os.dup2(self._sink, 2)
        if not printed:
            return b""
        words = os.pread(sink, os.fstat(sink).st_size, 0)
        os.close(sink)
        _write(self._terminal, _DECODER_LINE.sub(b"", words))
        return words

    def _forget(self) -> None:
        """In a forked child no other thread lives that would turn the descriptor back."""
        if self._terminal >= 0:
            os.dup2(self._terminal, 2)
        self._decoding, self._terminal, self._sink = 0, -1, -1
        self._lock.release()


def _duplicate(descriptor: int) -> int:
    """A copy of the descriptor; −1 where it is closed."""
    try:
        return os.dup(descriptor)
    except OSError:
        return -1


def _unnamed_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _write(descriptor: int, words: bytes) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more, as whoever printed would have found
        while words:
            words = words[os.write(descriptor, words) :]


_REDIRECTION = _Redirection()


@contextlib.contextmanager
def caught_messages(lines: list[str]) -> Iterator[None]:
    """Append to `lines` what decoders print to file descriptor 2 inside the block, instead of letting it through.

    Other threads may decode at the same time, and may print: what is no decoder's line goes on to standard error when
    the next of the blocks ends. Which thread gets a decoder's line is then anybody's guess.
    """
    _REDIRECTION.enter()
    try:
        yield
    finally:
        lines.extend(_REDIRECTION.leave())
