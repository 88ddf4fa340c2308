"""`--config FILE`: what a command is asked for, in a TOML file, or in the run.json of a run that is done again."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from ddfa_batch.commands.cluster_options import CLUSTER_TABLE
from ddfa_batch.schemas.config import BUILTIN
from ddfa_batch.schemas.decoding import Document
from ddfa_batch.schemas.errors import OptionError

F = TypeVar("F", bound=Callable[..., Any])

#: Bytes above which a file is no list of options.
_MAX_BYTES = 1 << 20
#: Options that say what to do about a run that stands in OUT, or how much is said; nobody wants them done again.
_OF_THE_MOMENT = frozenset(
    {"overwrite", "verify", "extend", "dry_run", "retry_failed", "shard_index", "shard_count", "quiet", "verbose"}
    | {"cluster", "cluster_config"}
)
_UNLISTED = frozenset({"help", "config"})


class _ConfigOption(click.Option):
    """Takes a file up before anything else is looked at, and gives what the command line names to whom it is for."""

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        taken = super().handle_parse_result(ctx, opts, args)
        if ctx.default_map and isinstance(opts, dict):
            _share_out(_arguments(ctx.command), ctx.default_map, opts)
        return taken


def _share_out(arguments: list[click.Argument], named: Mapping[str, Any], given: dict[str, Any]) -> None:
    """Where the command line names fewer things than there are arguments, they are those the file leaves out.

    Where the file names all, they are the last: OUT is another one.
    """
    words: list[str] = []
    for argument in arguments:
        value = given.get(str(argument.name))
        words += [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    if not words or len(words) >= len(arguments) or not all(argument.required for argument in arguments):
        return
    left_out = [argument for argument in arguments if argument.name not in named]
    takers = left_out if len(left_out) == len(words) else arguments[-len(words) :]
    for argument in arguments:
        given.pop(str(argument.name), None)
    for argument, word in zip(takers, words, strict=True):
        given[str(argument.name)] = (word,) if argument.nargs == -1 else word


def config_option(command: F) -> F:
    """The option --config, whose file says what the command line leaves out."""
    decorated: F = click.option(
        "--config",
        cls=_ConfigOption,
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=_take_up,
        help="Options by their names, in TOML, or a run's run.json; the command line has the last word.",
    )(command)
    return decorated


def _take_up(context: click.Context, option: click.Parameter, file: Path | None) -> None:
    """Make what a file says the defaults of the command."""
    if file is None or context.resilient_parsing:
        return
    content = _recorded(context, file) if file.suffix == ".json" else _written(file)
    names = _names(context.command)
    defaults = {}
    for name, value in content.items():
        if name == "cluster" and isinstance(value, dict) and name in names:
            context.meta[CLUSTER_TABLE] = value
            continue
        parameter = names.get(name.replace("_", "-"))
        if parameter is None:
            raise click.UsageError(_unknown(file, name, list(names)), context)
        defaults[str(parameter.name)] = _checked(context, file, name, parameter, value)
    context.default_map = {**(context.default_map or {}), **defaults}


def _written(file: Path) -> dict[str, Any]:
    """What a TOML file holds; raises `click.UsageError` where it is none."""
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise click.UsageError(f"{file} is too large for a file of options.")
        return tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise click.UsageError(f"{file} is no valid TOML ({fault}).") from None


def _recorded(context: click.Context, file: Path) -> dict[str, Any]:
    """What the command of a run was asked for, as its run.json tells; OUT is where that lies."""
    from ddfa_batch.schemas.run import decode_run

    record = decode_run(file.read_bytes(), Document(str(file), OptionError, "give a TOML file, or a run's run.json"))
    if record.kind != context.info_name:
        raise click.UsageError(f"{file} is of {record.kind}; give it to that command.")
    if not record.asked:
        raise click.UsageError(f"{file} does not tell what was asked for: Python made it, or an older version.")
    return {**record.asked, _argument_names(context.command)[-1]: str(file.absolute().parent)}


def _names(command: click.Command) -> dict[str, click.Parameter]:
    """Every parameter by the name it has in a file: --max-faces is max-faces, IMAGES images."""
    options = {
        max(parameter.opts, key=len).lstrip("-"): parameter
        for parameter in command.params
        if isinstance(parameter, click.Option)
    }
    arguments = dict(zip(_argument_names(command), _arguments(command), strict=True))
    return {name: parameter for name, parameter in (arguments | options).items() if name not in _UNLISTED}


def _arguments(command: click.Command) -> list[click.Argument]:
    return [parameter for parameter in command.params if isinstance(parameter, click.Argument)]


def _argument_names(command: click.Command) -> list[str]:
    return [argument.human_readable_name.rstrip(".").lower() for argument in _arguments(command)]


def _unknown(file: Path, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name.replace("_", "-"), known, n=1)
    return f"{file}: there is no option '{name}'" + (f"; did you mean '{near[0]}'?" if near else ".")


def _checked(context: click.Context, file: Path, name: str, parameter: click.Parameter, value: Any) -> Any:
    """A value as the command line would have it: text, which the option's type reads; raises where it cannot."""
    words = _as_words(parameter, value)
    try:
        parameter.type_cast_value(context, words)
    except click.BadParameter as fault:
        raise click.UsageError(f"{file}: {name}: {fault.message}", context) from None
    return words


def _as_words(parameter: click.Parameter, value: Any) -> Any:
    if isinstance(parameter, click.Option) and isinstance(value, bool) and not parameter.is_flag:
        return parameter.flag_value if value else None
    if isinstance(value, bool) or value is None:
        return value
    if not isinstance(value, list):
        return [str(value)] if parameter.nargs == -1 or parameter.multiple else str(value)
    words = [str(each) for each in value]
    return words if parameter.nargs != 1 or parameter.multiple else ",".join(words)


def asked_for(model: tuple[str, str]) -> dict[str, Any]:
    """What the command that is running was asked for, by the names of `--config`, for run.json.

    model: the name and folder of the one that is used. Paths are absolute; what is secret in URLs is left out.
    """
    context = click.get_current_context()
    names = _names(context.command)
    asked = {
        name: _plain(context.params[str(parameter.name)], parameter)
        for name, parameter in names.items()
        if parameter.name not in _OF_THE_MOMENT and context.params.get(str(parameter.name)) is not None
    }
    asked.pop(_argument_names(context.command)[-1], None)  # OUT is where run.json lies
    if "model" in names:
        asked["model"] = BUILTIN if model[0] == BUILTIN else model[1]
    return asked


def _plain(value: Any, parameter: click.Parameter) -> Any:
    """A value as JSON has it. Paths keep links and `..` as they were named: a pattern may hold them, too."""
    from ddfa_batch.tasks.files.remote_calls import is_url
    from ddfa_batch.tasks.files.url_secrets import without_secrets

    if isinstance(value, tuple | list):
        return [_plain(each, parameter) for each in value]
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, str):
        names_input = isinstance(parameter, click.Argument) and not is_url(value) and value != "-"
        return str(Path(value).absolute()) if names_input else without_secrets(value)
    return value
