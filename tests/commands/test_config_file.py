"""`--config`: options in a TOML file, and a run.json that does its run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq
import pytest
import small_model
from command_line import Answer, call

from ddfa_batch import cli

MAKERS = (
    *("process", "synth-videos", "render", "export", "to-webdataset", "compact", "select", "merge", "report"),
    *("fit", "train", "evaluate"),
)


@pytest.fixture(scope="module")
def made(models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    """A run whose every option but OUT and refine stands in a file, which says something else of refine, too."""
    folder = tmp_path_factory.mktemp("config")
    images = small_model.pictures(folder / "in", [2])
    (folder / "run.toml").write_text(
        f"images = ['{images}']\nrefine = 2\nvertices = 'none'\nmax_faces = 1\ntrack = false\n"
        "formats = ['png', 'jpeg']\nmodel = 'small'\n"
    )
    words = ("--config", folder / "run.toml", folder / "out", "--refine", 0)
    return folder / "out", call("process", *words, models=models, model=None)


def recorded(out: Path) -> dict[str, Any]:
    options: dict[str, Any] = json.loads((out / "run.json").read_text())["identity"]["options"]
    return options


def test_a_file_gives_arguments_and_options_and_the_command_line_has_the_last_word(made: tuple[Path, Answer]) -> None:
    out, answer = made
    assert answer.code == 0, answer.stderr
    options = recorded(out)
    assert set(options["formats"]) == {"jpeg", "png"}
    expected = {"vertices": "none", "max_faces": 1, "track": False, "refine": 0}
    assert {name: options[name] for name in expected} == expected


def test_the_file_of_a_run_goes_on_with_it(made: tuple[Path, Answer], models: Path) -> None:
    answer = call("process", "--config", made[0] / "run.json", models=models, model=None)
    assert answer.code == 0, answer.stderr
    assert "Nothing was left to do." in answer.stdout


def test_the_file_of_a_run_does_it_again_elsewhere(made: tuple[Path, Answer], models: Path, tmp_path: Path) -> None:
    answer = call("process", "--config", made[0] / "run.json", tmp_path / "again", models=models, model=None)
    assert answer.code == 0, answer.stderr
    assert recorded(tmp_path / "again") == recorded(made[0])
    first, second = (pq.read_table(out / "faces/000000.parquet") for out in (made[0], tmp_path / "again"))
    assert first.num_rows == 1
    assert second.equals(first)


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("images = 'a'\nout = 'b'", ["c"], ("a", "c")),
        ("out = 'b'", ["c"], ("c", "b")),
        ("images = 'a'", ["c"], ("a", "c")),
        ("images = 'a'\nout = 'b'", [], ("a", "b")),
        ("images = 'a'\nout = 'b'", ["c", "d"], ("c", "d")),
    ],
)
@pytest.mark.parametrize("name", ["process", "synth-videos"])
def test_what_the_command_line_names_is_what_the_file_leaves_out_or_else_the_last(
    name: str, text: str, words: list[str], expected: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "run.toml").write_text(text)
    command = cli.cli.get_command(click.Context(cli.cli), name)
    assert command is not None
    context = command.make_context(name, ["--config", str(tmp_path / "run.toml"), *words])
    images = context.params.get("source") or context.params["sources"][0]
    assert (images, str(context.params["out"])) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("refin = 1", "run.toml: there is no option 'refin'; did you mean 'refine'?"),
        ("xyzzy = 1", "run.toml: there is no option 'xyzzy'."),
        ("config = 'more.toml'", "there is no option 'config'"),
        ("refine = 1.5", "run.toml: refine: '1.5' is not a valid integer range."),
        ("refine = [1, 2]", "refine: '1,2' is not a valid integer range."),
        ("vertices = 3", "vertices: '3' is not one of"),
        ("track = 'perhaps'", "track: 'perhaps' is not a valid boolean"),
        ("refine = ", "run.toml is no valid TOML"),
        ("[process]\nrefine = 1", "there is no option 'process'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_a_sentence(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(text)
    answer = call("process", "--config", tmp_path / "run.toml", "in", "out")
    assert answer.code == 2
    assert said in answer.stderr
    assert not Path("out").exists()


def test_a_run_of_another_command_is_refused(made: tuple[Path, Answer]) -> None:
    answer = call("synth-videos", "--config", made[0] / "run.json")
    assert answer.code == 2
    assert "run.json is of process; give it to that command." in answer.stderr


def test_a_run_that_python_asked_for_says_so(made: tuple[Path, Answer], tmp_path: Path) -> None:
    content = json.loads((made[0] / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**content, "asked": {}}))
    answer = call("process", "--config", tmp_path / "run.json")
    assert answer.code == 2
    assert "does not tell what was asked for" in answer.stderr


def test_a_json_file_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    answer = call("process", "--config", tmp_path / "other.json")
    assert answer.code == 1
    assert "other.json is not of the format 'ddfa-batch run'" in answer.stderr


def test_ranges_are_lists(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("yaw-range = [-30, 'far']")
    answer = call("synth-videos", "--config", tmp_path / "run.toml", "in", "out")
    assert "yaw-range: 'far' is not a valid float" in answer.stderr


@pytest.mark.parametrize("name", MAKERS)
def test_every_command_that_makes_something_takes_a_file(name: str) -> None:
    command = cli.cli.get_command(click.Context(cli.cli), name)
    assert command is not None
    assert "config" in {option.name for option in command.params}
