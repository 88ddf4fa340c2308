"""Options several commands share, and how a group of options reaches a command as one typed value."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from ddfa_batch.commands import exit_codes
from ddfa_batch.commands.cluster_options import cluster_options
from ddfa_batch.commands.json_events import log_json_option
from ddfa_batch.schemas.config import (
    BUILTIN,
    DEFAULT_ITEM_SECONDS,
    DEFAULT_MAX_PIXELS,
    DEFAULT_MEMORY_BYTES,
    MAX_MAX_PIXELS,
    MAX_REMOTE_ATTEMPTS,
    MAX_REMOTE_SECONDS,
    MAX_SHARD_SIZE,
    MIN_ITEM_SECONDS,
    MIN_MEMORY_BYTES,
    RemoteLimits,
)
from ddfa_batch.schemas.errors import ALL_KINDS, ERROR_KINDS, OptionError, checked_kinds
from ddfa_batch.schemas.picture_formats import DEFAULT_FORMATS, FORMATS, checked_formats

F = TypeVar("F", bound=Callable[..., Any])


class _NamedPath(click.Path):
    """A path; an empty string, which would mean the current folder, is misuse, and a URL is refused."""

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("An empty string names no file or folder.", param, ctx)
        from ddfa_batch.tasks.files.local_paths import check_local

        check_local(Path(os.fsdecode(value)))
        return super().convert(value, param, ctx)


class _SourceName(click.ParamType[str]):
    """What inputs are named by: a path, a pattern, - for standard input."""

    name = "source"

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not os.fspath(value):
            self.fail("An empty string names no file or folder.", param, ctx)
        return os.fsdecode(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Files and folders, as the shell completes them: most inputs are."""
        return [CompletionItem(incomplete, type="file")]


#: Bytes by the unit a size is given in.
_UNITS = {"": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "kb": 10**3, "mb": 10**6, "gb": 10**9}


class _Bytes(click.ParamType[int]):
    """A size in memory: bytes, or with a unit, such as 1500MB or 2GiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", str(value).lower())
        if found is None or found[2] not in _UNITS:
            self.fail(f"'{value}' is no size; give one such as 1500MB or 2GiB.", param, ctx)
        size = int(float(found[1]) * _UNITS[found[2]])
        if size < MIN_MEMORY_BYTES:
            self.fail(f"'{value}' is too little; below {MIN_MEMORY_BYTES >> 20} MiB a model has no room.", param, ctx)
        return size


class _RunPlace(_NamedPath):
    """The folder of a run: a path, or a URL, which stays text."""

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from ddfa_batch.tasks.files.remote_calls import is_url
        from ddfa_batch.tasks.files.url_secrets import refuse_secrets

        name = os.fsdecode(value)
        return refuse_secrets(name) if is_url(name) else super().convert(value, param, ctx)


#: What inputs are named by.
SOURCE = _SourceName()
#: Any path, one that must exist, a folder that must exist, and a file that must exist.
PATH = _NamedPath(path_type=Path)
#: The folder of a run, or the URL of one.
RUN_PLACE = _RunPlace(path_type=Path)
EXISTING = _NamedPath(path_type=Path, exists=True)
EXISTING_FOLDER = _NamedPath(path_type=Path, exists=True, file_okay=False)
EXISTING_FILE = _NamedPath(path_type=Path, exists=True, dir_okay=False)


def grouped(name: str, kind: type, options: Sequence[Callable[[Any], Any]]) -> Callable[[F], F]:
    """Give a command `options`, whose values reach it as one `kind` under the keyword `name`.

    The fields of `kind`, a dataclass, are called as the options' values are.
    """

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def gather(*arguments: Any, **values: Any) -> Any:
            group = kind(**{field.name: values.pop(field.name) for field in fields(kind)})
            return command(*arguments, **values, **{name: group})

        decorated: Any = gather
        for option in reversed(options):
            decorated = option(decorated)
        result: F = decorated
        return result

    return decorate


def model_option(words: str, default: str = BUILTIN) -> Callable[[F], F]:
    """The option --model; None where the user named none, by it or by the environment."""
    return click.option(
        "--model",
        envvar="DDFA_BATCH_MODEL",
        metavar="NAME|FOLDER",
        help=f"{words}  [env: DDFA_BATCH_MODEL; default: {default}]",
    )


def range_option(flag: str, name: str, low: float, high: float, words: str) -> Callable[[F], F]:
    """An option that takes two numbers, the least and the most."""
    return click.option(
        flag,
        name,
        nargs=2,
        type=float,
        default=(low, high),
        show_default=True,
        metavar="LOW HIGH",
        help=words,
    )


quiet_option = click.option("--quiet", is_flag=True, help="Print errors only.")
path_column_option = click.option("--path-column", metavar="NAME", help="Column of a manifest that holds the paths.")
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(1, MAX_MAX_PIXELS),
    metavar="N",
    default=DEFAULT_MAX_PIXELS,
    show_default=True,
    help="Larger pictures become an error row, before they take memory.",
)


def _formats(context: click.Context, option: click.Parameter, value: str) -> tuple[str, ...]:
    """Formats with commas between them."""
    try:
        return checked_formats(tuple(name.strip().lower() for name in value.split(",")))
    except OptionError as fault:
        raise click.BadParameter(str(fault)) from None


formats_option = click.option(
    "--formats",
    callback=_formats,
    metavar="NAMES",
    default=",".join(DEFAULT_FORMATS),
    show_default=True,
    help=f"Formats of pictures that are decoded; others become error rows. There are {', '.join(FORMATS)}.",
)


@dataclass(frozen=True)
class RunSettings:
    """How a run is carried out and how much is said of it; only the size of shards is part of the run itself."""

    #: Local processes; None for one per core.
    workers: int | None = None
    #: Where the work is done, as `schemas.config.Execution` has it.
    scheduler: str = "auto"
    #: What kind of cluster is asked for workers, and where it stands what for.
    cluster: str | None = None
    cluster_config: Path | None = None
    #: Seconds that an input may take.
    item_timeout: float = DEFAULT_ITEM_SECONDS
    #: Bytes that a worker may have in memory meanwhile.
    memory_limit: int = DEFAULT_MEMORY_BYTES
    #: Which part of the run is done, from 0, of `shard_count`; None, both, for all of it.
    shard_index: int | None = None
    #: In how many parts the run is done.
    shard_count: int | None = None
    #: Images per shard; None for a size that follows from their number.
    shard_size: int | None = None
    #: Replace the run in OUT.
    overwrite: bool = False
    #: Read what is finished, and do anew what is damaged.
    verify: bool = False
    #: Take up inputs that were added since the run was planned.
    extend: bool = False
    #: Say what would be done, and write nothing.
    dry_run: bool = False
    #: Exit with `exit_codes.STRICT` where an image ended as an error row.
    strict: bool = False
    #: How often stores behind URLs are asked, and how many seconds each attempt may take.
    remote_attempts: int = RemoteLimits.attempts
    remote_timeout: float = RemoteLimits.seconds
    #: Print errors only.
    quiet: bool = False
    #: Print the project's log lines too.
    verbose: bool = False

    @property
    def remote(self) -> RemoteLimits:
        """How long stores are waited for."""
        return RemoteLimits(self.remote_attempts, self.remote_timeout)


def _error_kinds(context: click.Context, option: click.Parameter, value: str | None) -> frozenset[str] | None:
    """`ALL_KINDS`, or kinds of error rows with commas between them."""
    if value is None:
        return None
    try:
        return checked_kinds(ERROR_KINDS if value == ALL_KINDS else value.split(","))
    except OptionError as fault:
        raise click.BadParameter(str(fault)) from None


retry_option = click.option(
    "--retry-failed",
    callback=_error_kinds,
    is_flag=False,
    flag_value=ALL_KINDS,
    metavar="[KINDS]",
    help="Do the error rows of finished shards again: all, or some, such as truncated,crashed. After IMAGES and OUT.",
)

remote_options = (
    click.option(
        "--remote-attempts",
        type=click.IntRange(1, MAX_REMOTE_ATTEMPTS),
        metavar="N",
        default=RemoteLimits.attempts,
        show_default=True,
        help="Of URLs: how often anything is asked for before it is given up.",
    ),
    click.option(
        "--remote-timeout",
        type=click.FloatRange(0.1, MAX_REMOTE_SECONDS),
        metavar="S",
        default=RemoteLimits.seconds,
        show_default=True,
        help="Of URLs: seconds an attempt may take.",
    ),
)


def _run_options(extend: str) -> list[Callable[[Any], Any]]:
    return [
        click.option(
            "--workers", type=click.IntRange(1), metavar="N", help="Local processes.  [default: one per core]"
        ),
        click.option(
            "--scheduler",
            default="auto",
            show_default=True,
            metavar="WHERE",
            help="in-process, local, tcp://HOST:PORT or a scheduler file; auto: in-process for few images.",
        ),
        *cluster_options,
        click.option(
            "--item-timeout",
            type=click.FloatRange(MIN_ITEM_SECONDS),
            metavar="SECONDS",
            default=DEFAULT_ITEM_SECONDS,
            show_default=True,
            help="What takes longer becomes an error row; a worker that hangs with it is replaced.",
        ),
        click.option(
            "--memory-limit",
            type=_Bytes(),
            metavar="SIZE",
            default="2GiB",
            show_default=True,
            help="The same of an input with which a worker takes more memory.",
        ),
        click.option(
            "--shard-size",
            type=click.IntRange(1, MAX_SHARD_SIZE),
            metavar="N",
            help="Images per shard, the unit of work and of resuming.  [default: by the number of images]",
        ),
        click.option(
            "--shard-index",
            type=click.IntRange(0),
            metavar="I",
            help="Do one part of the run, I from 0 to N - 1, as a task of a job array.",
        ),
        click.option("--shard-count", type=click.IntRange(1), metavar="N", help="Parts of the run (--shard-index)."),
        click.option("--overwrite", is_flag=True, help="Replace the run in OUT."),
        click.option("--verify", is_flag=True, help="Read what is finished first, and do anew what is damaged."),
        click.option("--extend", is_flag=True, help=extend),
        click.option("--dry-run", is_flag=True, help="Say what would be done, and stop."),
        click.option(
            "--strict", is_flag=True, help=f"Exit with {exit_codes.STRICT} if any image ended as an error row."
        ),
        *remote_options,
        quiet_option,
        click.option("--verbose", is_flag=True, help="Also say where Dask's dashboard is."),
        log_json_option,
    ]


run_options = grouped(
    "settings", RunSettings, _run_options(extend="Take up inputs that were added since; no row changes.")
)
#: Of runs that are made of a run.
derived_run_options = grouped(
    "settings", RunSettings, _run_options(extend="Take up what the run in OUT has more by now, and what changed there.")
)
