"""Every command's help teaches with an example, and fits a terminal of 80 columns."""

from __future__ import annotations

import click
import pytest

from ddfa_batch import cli

COLUMNS = 80


def helps() -> dict[str, str]:
    """The help of every command and group, by the words that call it."""
    found: dict[str, str] = {}

    def walk(command: click.Command, context: click.Context) -> None:
        found[context.command_path] = command.get_help(context)
        for name in command.list_commands(context) if isinstance(command, click.Group) else ():
            child = command.get_command(context, name)
            assert child is not None
            walk(child, click.Context(child, parent=context, info_name=name, terminal_width=COLUMNS))

    walk(cli.cli, click.Context(cli.cli, info_name="ddfa-batch", terminal_width=COLUMNS))
    return found


HELPS = helps()
GROUPS = ("ddfa-batch", "ddfa-batch models", "ddfa-batch labels")


@pytest.mark.parametrize("words", [words for words in HELPS if words not in GROUPS])
def test_an_example_teaches_the_command(words: str) -> None:
    assert "Example" in HELPS[words]
    assert any(line.removeprefix("  Example:").strip().startswith(words) for line in HELPS[words].splitlines())


@pytest.mark.parametrize("words", HELPS)
def test_no_line_is_wider_than_a_terminal(words: str) -> None:
    assert [line for line in HELPS[words].splitlines() if len(line) > COLUMNS] == []


@pytest.mark.parametrize("words", GROUPS)
def test_commands_are_told_in_whole_phrases(words: str) -> None:
    assert "..." not in HELPS[words].split("Commands:")[1]
