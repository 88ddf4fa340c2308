"""`ddfa-batch` as a user meets it: called in this process, which is quick, or started as a command of its own."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from ddfa_batch import cli

#: The command as it is installed beside this Python.
COMMAND = str(Path(sys.executable).with_name("ddfa-batch"))
#: The command where Ctrl-C counts, though it be ignored here, as it is in jobs that run in the background.
_INTERRUPTIBLE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from ddfa_batch.cli import main; main()"
)


@dataclass(frozen=True)
class Answer:
    """What a command answered."""

    #: Its exit code.
    code: int
    #: What it said.
    stdout: str
    #: What it said where errors go.
    stderr: str


def call(*words: object, models: Path | None = None, model: str | None = "small", **more: str) -> Answer:
    """Call a command where `models` is the models folder, `model` the one the environment names; `more` variables."""
    code: object = None
    with (
        _process_restored(),
        mock.patch.dict(os.environ, environment(models, model, **more), clear=True),
        mock.patch.object(sys, "argv", ["ddfa-batch", *map(str, words)]),
        contextlib.redirect_stdout(io.StringIO()) as stdout,
        contextlib.redirect_stderr(io.StringIO()) as stderr,
    ):
        try:
            cli.main()
        except SystemExit as leave:
            code = leave.code
    assert isinstance(code, int | None), code
    return Answer(code or 0, stdout.getvalue(), stderr.getvalue())


def start(*words: object, models: Path | None = None, start_new_session: bool = False) -> subprocess.Popen[str]:
    """Start a command in a process of its own, or a session as a terminal has, with pipes for what it says.

    What it reaches is not counted: coverage takes locks that a signal's exception leaves locked.
    """
    counted = environment(models, "small")
    return subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTIBLE, *map(str, words)],
        env={name: value for name, value in counted.items() if not name.startswith("COVERAGE_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=start_new_session,
    )


def environment(models: Path | None, model: str | None, **more: str) -> dict[str, str]:
    """The environment of a command: this one's without its own variables, and those that are named."""
    own = {"DDFA_BATCH_MODELS": models and str(models), "DDFA_BATCH_MODEL": models and model, **more}
    others = {name: value for name, value in os.environ.items() if not name.startswith("DDFA_BATCH")}
    return others | {name: value for name, value in own.items() if value}


@contextlib.contextmanager
def _process_restored() -> Iterator[None]:
    """Undo what a command does to its process, which ends with it elsewhere."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
