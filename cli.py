"""The command line: the group, its global options, and faults → a sentence and an exit code.

Every command is a module of `commands/`, imported when it is asked for, so that `--help` is quick.
"""

from __future__ import annotations

import atexit
import contextlib
import difflib
import importlib
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from ddfa_batch.commands import exit_codes
from ddfa_batch.commands.json_events import EVENTS
from ddfa_batch.commands.model_choice import default_models_folder
from ddfa_batch.schemas.errors import DdfaError

#: Every command, in the order `--help` lists them; `synth-videos` is `synth_videos` of `commands/synth_videos.py`.
COMMANDS = (
    *("process", "status", "verify", "render", "export", "report", "compact", "select", "merge"),
    "to-webdataset",
    *("synth-videos", "fit", "train", "evaluate", "bench", "labels", "models"),
)
#: Where this variable is set, faults show where in the code they came up.
_TRACEBACK = "DDFA_BATCH_TRACEBACK"
#: The name under which a file is written before it gets its own (`tasks.files.atomic.staged`).
_STAGED = re.compile(r"\.([^/]+)\.[0-9a-f]{32}\.tmp$")
_RESUME = "What is finished is kept: run the same command again to resume."


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(f"ddfa_batch.commands.{name}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as misuse:
            if not (near := difflib.get_close_matches(args[0], COMMANDS, n=1)):
                raise
            raise click.UsageError(f"{misuse.message} Did you mean '{near[0]}'?", ctx) from None

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as fault:  # click would leave without a word
            raise _OutputClosedError from fault


class _Terminated(KeyboardInterrupt):
    """SIGTERM: whatever puts things in order on Ctrl-C does so for it."""


class _OutputClosedError(Exception):
    """Whoever read the output went away."""


def main() -> None:
    """Entry point of `ddfa-batch`: turn every fault into a sentence and an exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    atexit.register(_heed_signals, signal.SIG_IGN)  # the first that is registered is the last that is called
    try:
        code = cli.main(prog_name="ddfa-batch", standalone_mode=False)
    except click.ClickException as misuse:
        code = misuse.exit_code
        _settle(code)
        if not EVENTS.end(code, misuse.format_message()):
            misuse.show()
    except SystemExit as leave:
        code = leave.code
    except (KeyboardInterrupt, click.Abort) as stop:
        code = _stopped(stop)
    except _OutputClosedError:
        _discard_output()
        code = _say(f"Stopped: the output is read no more. {_RESUME}", exit_codes.BROKEN_PIPE)
    except Exception as fault:  # the outermost boundary: a user meets sentences, whatever happened
        code = _faulty(fault)
    _settle(code if isinstance(code, int) else int(code is not None))
    EVENTS.end(code or 0)
    sys.exit(code)


def _settle(code: int) -> None:
    """The command has ended so: a signal that comes now ends the process at once, with this exit code, and silently."""
    _heed_signals(lambda *_: os._exit(code))


def _heed_signals(handler: signal.Handlers | Callable[[int, FrameType | None], None]) -> None:
    """Have signals that ask the command to end handled so, those that are not ignored, as in a background job."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _stopped(stop: BaseException) -> int:
    """Say what stopped the command, a signal or (click takes both for one) a file that ended; give the exit code."""
    cause = stop.__cause__ or stop
    if isinstance(cause, EOFError):
        return _faulty(cause)
    if isinstance(cause, _Terminated):
        return _say(f"Terminated. {_RESUME}", exit_codes.TERMINATED)
    return _say(f"Stopped. {_RESUME}", exit_codes.INTERRUPTED)


def _faulty(fault: Exception) -> int:
    if os.environ.get(_TRACEBACK):
        traceback.print_exception(fault)
    return _say(f"Error: {_sentence(fault)}", exit_codes.FAULT)


def _say(sentence: str, code: int) -> int:
    _settle(code)
    with contextlib.suppress(BrokenPipeError):
        if not EVENTS.end(code, sentence):
            click.echo(sentence, err=True)
    return code


def _discard_output() -> None:
    """Send what is still in the buffer of stdout nowhere, or Python would complain at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _sentence(fault: Exception) -> str:
    """What a user is told of a fault."""
    if isinstance(fault, DdfaError):
        return str(fault)
    if isinstance(fault, OSError):
        named = _STAGED.sub(r"\1", str(fault.filename)) + ": " if fault.filename else ""
        return f"{named}{_first_line(fault.strerror or fault)}."
    where = traceback.extract_tb(fault.__traceback__)[-1]
    return (
        f"unexpected {type(fault).__name__} in {Path(where.filename).name}, line {where.lineno}: "
        f"{_first_line(fault)}. Please report it, with what {_TRACEBACK}=1 before the command shows."
    )


def _first_line(fault: object) -> str:
    return next(iter(str(fault).strip().splitlines()), "no more is known").rstrip(".")


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="ddfa-batch")
@click.option(
    "--models-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="DDFA_BATCH_MODELS",
    help="Where imported models lie.  [env: DDFA_BATCH_MODELS; default: the user's data folder]",
)
@click.pass_context
def cli(context: click.Context, models_dir: Path | None) -> None:
    """Turn photographs into 3-D face parameters, landmarks and dense meshes, in bulk.

    A model comes with the package; others can be imported or trained, and named with --model.

    \b
    Try it:     ddfa-batch process ./images out/
    And look:   ddfa-batch status out/
    """
    context.obj = models_dir or default_models_folder()
