"""The documentation as a site: links between files lead to pages, and the reference is the program's own."""

from __future__ import annotations

import re

import click
import pytest

pytest.importorskip("mkdocs")

from ddfa_batch.cli import cli
from recipes.site import hooks


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("index.md", "[a](docs/videos.md#cuts)", "[a](videos.md#cuts)"),
        ("index.md", "![a](docs/picture.png)", "![a](picture.png)"),
        ("videos.md", "[a](../models/builtin/CARD.md)", "[a](cards/builtin.md)"),
        ("cards/builtin.md", "![a](../../docs/reliability.png)", "![a](../reliability.png)"),
        ("cards/builtin.md", "[a](../builtin-large/CARD.md)", "[a](builtin-large.md)"),
        ("index.md", "[MIT](LICENSE)", "MIT"),
        ("index.md", "[a](https://example.org/x.md) [b](#there)", "[a](https://example.org/x.md) [b](#there)"),
    ],
)
def test_links_lead_to_pages(page: str, text: str, expected: str) -> None:
    assert hooks.linked(text, page) == expected


def test_the_reference_tells_every_option_of_every_command() -> None:
    sections = dict(part.split("\n", 1) for part in hooks.commands().split("\n## ")[1:])
    said = {name: " ".join(text.split()) for name, text in sections.items()}
    found = [(words, command) for words, command, _ in hooks._commands(cli, ("ddfa-batch",), None)]
    assert len(found) > 20
    for words, command in found:
        for option in command.params if not isinstance(command, click.Group) else ():
            if isinstance(option, click.Option) and not option.hidden:
                assert option.help, (words, option.name)
                assert all(flag in said[" ".join(words[1:])] for flag in option.opts), (words, option.opts)


def test_every_page_is_in_the_navigation() -> None:
    """So that it is found from any other; `make docs` also warns of what is left out."""
    named = re.findall(r"^ +- .+: (\S+\.md)$", (hooks.ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    written = [path.name for path in (hooks.ROOT / "docs").glob("*.md")]
    assert sorted(named) == sorted([*written, *hooks.PAGES.values(), "reference/commands.md", "reference/tables.md"])


def test_the_reference_tells_every_column() -> None:
    assert "| landmarks68 |" in hooks.schemas()
