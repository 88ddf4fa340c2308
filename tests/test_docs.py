"""The documentation says what the program does: commands, columns, links, code."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import click
import numpy as np
import portraits
import pytest
from command_line import call
from conftest import ROOT, wanted

from ddfa_batch import cli
from ddfa_batch.pipeline.process import process
from ddfa_batch.schemas import tables
from ddfa_batch.schemas.config import Execution
from ddfa_batch.schemas.errors import ERROR_KINDS
from ddfa_batch.tasks.bundles.model_bundle import Bundle

DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = {path: path.read_text() for path in DOCS}


def command_lines() -> list[str]:
    """Every `ddfa-batch …` line of a code block or of inline code, and of the help texts."""
    blocks = [block for text in TEXT.values() for block in re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)]
    lines = [line for block in blocks for line in block.splitlines()]
    lines += [line.strip() for command in all_commands().values() for line in (command.help or "").splitlines()]
    found = [re.sub(r"^\$ |\s+#.*$|^Examples?:\s+", "", line) for line in lines]
    return sorted({line for line in found if line.startswith("ddfa-batch ")})


def all_commands() -> dict[tuple[str, ...], click.Command]:
    found: dict[tuple[str, ...], click.Command] = {}

    def walk(command: click.Command, words: tuple[str, ...]) -> None:
        found[words] = command
        context = click.Context(command)
        for name in command.list_commands(context) if isinstance(command, click.Group) else ():
            child = command.get_command(context, name)
            assert child is not None
            walk(child, (*words, name))

    walk(cli.cli, ())
    return found


@pytest.mark.parametrize("line", command_lines())
def test_every_command_in_the_documentation_parses(line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = cli.cli
    context = click.Context(command, info_name="ddfa-batch")
    while isinstance(command, click.Group):
        name, words = words[0], words[1:]
        child = command.get_command(context, name)
        assert child is not None, line
        command, context = child, click.Context(child, info_name=name, parent=context)
    command.make_parser(context).parse_args(words)


def test_every_command_is_in_the_readme() -> None:
    for words, command in all_commands().items():
        if not isinstance(command, click.Group):
            assert words[-1] in TEXT[ROOT / "README.md"], words


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT[path]):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


def test_every_column_and_error_kind_is_documented() -> None:
    output = TEXT[ROOT / "docs/output.md"]
    for schema in (
        tables.IMAGES,
        tables.faces_schema(62, {}, smooth=True),
        tables.tracks_schema({}),
        tables.videos_schema(),
    ):
        for name in schema.names:
            assert re.search(rf"\b{name}\b", output), name
    synth = TEXT[ROOT / "docs/synth-videos.md"]
    for name in tables.frames_schema(62, {}).names:
        assert re.search(rf"\b{name}\b", synth), name
    for kind in ERROR_KINDS:
        assert f"`{kind}`" in output


def test_the_tour_in_the_readme_runs(
    photos: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    process(wanted(photos, tmp_path / "out", bundle), Execution("in-process"))
    (code,) = re.findall(r"```python\n(.*?)```", TEXT[ROOT / "README.md"], re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    scope: dict[str, object] = {}
    exec(code, scope)
    assert np.asarray(scope["meshes"]).shape[0] == 16


def test_the_examples_from_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the built-in model; the guarded one is what a script has, and starts no cluster here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    shutil.copy(portraits.astronaut(), "photos")
    (tmp_path / "photos/cut.jpg").touch()
    scope: dict[str, Any] = {"__name__": "example"}
    for code in re.findall(r"```python\n(.*?)```", TEXT[ROOT / "docs/python.md"], re.DOTALL):
        exec(code, scope)
    assert len(scope["faces"]) == 1
    assert scope["meshes"].shape == (1, 9681, 3)
    (nose,) = scope["faces"].landmarks68[:, 30, :2]
    assert np.linalg.norm(nose - portraits.ASTRONAUT[2]) < 10
    assert [entry.what for entry in scope["run"].run.history] == ["retried"]


def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command and query of it, in order."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photographs").mkdir()
    for portrait in (portraits.astronaut(), portraits.hopper()):
        shutil.copy(portrait, "photographs")
    blocks = re.findall(r"```(\w*)\n(.*?)```", TEXT[ROOT / "docs/tutorial.md"], re.DOTALL)
    scope: dict[str, Any] = {}
    for language, block in blocks:
        if language == "python":
            exec(block, scope)
        for line in block.splitlines() if not language else ():
            if line.startswith("ddfa-batch "):
                answer = call(*shlex.split(line)[1:], model=None)
                assert answer.code == 0, (line, answer.stderr)
    assert len(scope["faces"]) == 2
    assert (tmp_path / "out/report.html").stat().st_size > 10_000
    assert len(list(tmp_path.glob("heads/**/*.glb"))) == 2
