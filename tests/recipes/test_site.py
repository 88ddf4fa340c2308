"""The documentation as a site: links between files lead to pages, and the reference is the program's own."""

from __future__ import annotations

import pytest

pytest.importorskip("mkdocs")

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


def test_the_reference_tells_every_command_and_column() -> None:
    commands, tables = hooks.commands(), hooks.schemas()
    for command in ("process", "models import", "synth-videos"):
        assert f"\n## {command}\n" in commands
    assert "--refine" in commands
    assert "| landmarks68 |" in tables
