"""What MkDocs is told while it builds the site: pages from outside docs/, and a reference made from the program itself.

README, cards and changelog stay where their readers look for them, and become pages; the reference of commands is their
help, that of tables their schemas, so neither can fall behind. Links between the files of the repository become links
between pages.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from ddfa_batch.cli import cli
from ddfa_batch.schemas import tables
from ddfa_batch.schemas.config import BUILTIN_MODELS

ROOT = Path(__file__).parents[2]
#: Files of the repository that are pages, and the page of each.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    **{f"models/{name}/CARD.md": f"cards/{name}.md" for name in BUILTIN_MODELS},
}
_FILES = {page: source for source, page in PAGES.items()}
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    made = {page: (ROOT / source).read_text(encoding="utf-8") for source, page in PAGES.items()}
    made |= {"reference/commands.md": commands(), "reference/tables.md": schemas()}
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links between files of the repository links between pages."""
    return linked(markdown, page.file.src_uri)


def linked(markdown: str, page: str) -> str:
    """The text of a page with its links: to another page where one is made of the file, else the words alone."""
    source = _FILES.get(page, f"docs/{page}")

    def link(match: re.Match[str]) -> str:
        target, anchor = match["target"], match["anchor"] or ""
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        file = os.path.normpath(PurePosixPath(source).parent / target)
        there = PAGES.get(file, file.removeprefix("docs/") if file.startswith("docs/") else None)
        if there is None:
            return match["text"]
        return f"{match['image']}[{match['text']}]({os.path.relpath(there, PurePosixPath(page).parent)}{anchor})"

    return _LINK.sub(link, markdown)


def commands() -> str:
    """The help of every command, as a page."""
    parts = ["# Commands\n", "As `ddfa-batch COMMAND --help` prints it.\n"]
    for words, command, context in _commands(cli, ("ddfa-batch",), None):
        if not isinstance(command, click.Group):
            parts.append(f"## {' '.join(words[1:])}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def _commands(
    command: click.Command, words: tuple[str, ...], parent: click.Context | None
) -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    context = click.Context(command, info_name=words[-1], parent=parent, terminal_width=100, max_content_width=100)
    yield words, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _commands(child, (*words, name), context)


def schemas() -> str:
    """The columns of every table, as a page."""
    named = {
        "plan.parquet": tables.PLAN,
        "images/": tables.images_schema(),
        "faces/": tables.faces_schema(62, {}, expressions=("NAME",)),
        "tracks/": tables.tracks_schema({}),
        "videos/": tables.videos_schema(),
        "frames/ of synth-videos": tables.frames_schema(62, {}),
        "exports/ of export": tables.exports_schema({}),
    }
    parts = ["# Tables\n", "Types as Arrow names them; what columns mean is in [what a run writes](../output.md).\n"]
    for name, schema in named.items():
        rows = "\n".join(f"| {field.name} | {field.type} | {'yes' if field.nullable else 'no'} |" for field in schema)
        parts.append(f"## {name}\n\n| column | type | may be null |\n|---|---|---|\n{rows}\n")
    return "\n".join(parts)
