"""`--log-json`: what a command does, one JSON object a line, for programs that watch many runs."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from ddfa_batch.commands.progress import PLAIN_EVERY

if TYPE_CHECKING:
    from ddfa_batch.pipeline.plan import Run
    from ddfa_batch.pipeline.progress import Progress, Totals

F = TypeVar("F", bound=Callable[..., Any])

#: The name that stands for standard error.
_STDERR = "-"


class Events:
    """Where events of the command that is running go: nowhere until it is opened, and after its `end`."""

    def __init__(self) -> None:
        self._stream: TextIO | None = None
        self._lock = threading.Lock()  # log lines come from other threads, too
        self._phase: str | None = None
        self._told = 0.0

    @property
    def take_stderr(self) -> bool:
        """Whether standard error holds events, and so nothing else."""
        return self._stream is not None and self._stream is sys.stderr

    def open(self, name: str) -> None:
        """Send events to the end of a file, or where errors go; raises `OSError` where it cannot be written."""
        self._phase = None
        self._stream = sys.stderr if name == _STDERR else Path(name).open("a", encoding="utf-8")  # noqa: SIM115

    def say(self, event: str, **told: Any) -> None:
        """Write one event, if anybody listens."""
        with self._lock:
            if self._stream is None:
                return
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            self._stream.write(json.dumps({"time": now, "event": event, **told}) + "\n")
            self._stream.flush()

    def model(self, name: str, sentence: str) -> bool:
        """Tell which model is used; whether that has been said on standard error."""
        self.say("model", name=name, message=sentence)
        return self.take_stderr

    def hear(self, progress: Progress) -> None:
        """Tell where a run is: with each phase, and every `PLAIN_EVERY` seconds of one."""
        now, begins = time.monotonic(), progress.phase != self._phase
        if self._stream is None or not (begins or now - self._told >= PLAIN_EVERY):
            return
        self._phase, self._told = progress.phase, now
        counts = {"images": progress.images, "of": progress.n_inputs or None, "faces": progress.faces}
        self.say("progress", phase=str(progress.phase), **counts, errors=progress.n_errors)

    def done(self, run: Run, totals: Totals, seconds: float, done_now: int) -> None:
        """Tell what came of a run; `done_now` images in `seconds` by this command."""
        what = {"kind": run.kind, "out": str(run.folder), "shards": totals.shards_done, "rows": dict(totals.rows)}
        now = {"seconds": round(seconds, 3), "done_now": done_now}
        self.say("done", **what, no_face=totals.no_face, errors=dict(totals.errors), **now)

    def end(self, code: int, sentence: str | None = None) -> bool:
        """Tell with which exit code the command ends, and why; whether that has been said on standard error."""
        self.say("ended", exit_code=code, message=sentence)
        with self._lock:
            stream, self._stream = self._stream, None
        if stream is None or stream is sys.stderr:
            return stream is not None
        stream.close()
        return False


#: Those of the one command a process runs.
EVENTS = Events()


class LogEvents(logging.Handler):
    """Makes events of log lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        EVENTS.say("log", level=record.levelname.lower(), message=self.format(record))


def _open(context: click.Context, option: click.Parameter, name: str | None) -> None:
    if name is None or context.resilient_parsing:
        return
    try:
        EVENTS.open(name)
    except OSError as fault:
        raise click.BadParameter(f"{name}: {fault.strerror}.", context, option) from None


def log_json_option(command: F) -> F:
    """The option --log-json, which is no part of what a run is asked for."""
    decorated: F = click.option(
        "--log-json",
        metavar="FILE",
        expose_value=False,
        callback=_open,
        help="Add one JSON object per event to a file; - for standard error, which then holds nothing else.",
    )(command)
    return decorated
