"""`--log-json`: one JSON object per event, in a file or alone on standard error."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import small_model
from command_line import call


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures, and a file that is none."""
    folder = small_model.pictures(tmp_path_factory.mktemp("watched") / "in", [1, 2])
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    return folder


@pytest.fixture(scope="module")
def watched(images: Path, models: Path) -> tuple[Path, list[dict[str, Any]]]:
    """A run, and the events it wrote to a file."""
    out, log = images.parent / "out", images.parent / "events.jsonl"
    answer = call("process", images, out, "--vertices", "none", "--log-json", log, "--strict", models=models)
    assert answer.code == 3, answer.stderr
    assert "3 images: 3 faces" in answer.stdout  # what people read stays as it is
    return out, events(log.read_text())


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_event_has_a_time_with_its_zone_and_they_follow_each_other(
    watched: tuple[Path, list[dict[str, Any]]],
) -> None:
    times = [datetime.fromisoformat(event["time"]) for event in watched[1]]
    assert times == sorted(times)
    assert all(time.utcoffset() is not None for time in times)


def test_phases_are_told_as_they_begin(watched: tuple[Path, list[dict[str, Any]]]) -> None:
    phases = [event["phase"] for event in watched[1] if event["event"] == "progress"]
    assert phases[0] == "listing inputs"
    assert phases.index("planning") < phases.index("working") < phases.index("done")


def test_what_came_of_a_run_is_told(watched: tuple[Path, list[dict[str, Any]]]) -> None:
    out, told = watched
    (done,) = [event for event in told if event["event"] == "done"]
    assert done["out"] == str(out)
    assert (done["kind"], done["done_now"], done["no_face"], done["shards"]) == ("process", 3, 0, 1)
    assert (done["rows"]["images"], done["rows"]["faces"]) == (3, 3)
    assert sum(done["errors"].values()) == 1


def test_the_last_event_tells_the_exit_code(watched: tuple[Path, list[dict[str, Any]]]) -> None:
    assert watched[1][-1].items() >= {"event": "ended", "exit_code": 3}.items()


def test_another_command_adds_to_the_file(images: Path, models: Path, tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    for _ in range(2):
        call("process", images, tmp_path / "out", "--vertices", "none", "--log-json", log, models=models)
    assert [event["done_now"] for event in events(log.read_text()) if event["event"] == "done"] == [3, 0]


def test_a_fault_ends_in_an_event_and_a_sentence(images: Path, models: Path, tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    answer = call("process", images, tmp_path / "out", "--detector", "none-such", "--log-json", log, models=models)
    last = events(log.read_text())[-1]
    assert (last["event"], last["exit_code"]) == ("ended", answer.code == 1)
    assert answer.stderr == f"{last['message']}\n"


def test_standard_error_holds_events_alone_when_it_is_named(images: Path, models: Path, tmp_path: Path) -> None:
    good = call("process", images, tmp_path / "out", "--vertices", "none", "--log-json", "-", models=models)
    assert [event["event"] for event in events(good.stderr)][-2:] == ["done", "ended"]
    bad = call("process", images, tmp_path / "bad", "--detector", "none-such", "--log-json", "-", models=models)
    assert "none-such" in events(bad.stderr)[-1]["message"]
    misuse = call("process", images, tmp_path / "bad", "--log-json", "-", "--quiet", "--verbose", models=models)
    (last,) = events(misuse.stderr)
    assert (last["exit_code"], last["message"]) == (2, "--quiet and --verbose exclude each other.")


def test_a_file_that_cannot_be_written_is_misuse(images: Path, models: Path, tmp_path: Path) -> None:
    answer = call("process", images, tmp_path / "out", "--log-json", tmp_path / "absent/log", models=models)
    assert answer.code == 2
    assert "absent/log: No such file or directory." in " ".join(answer.stderr.split())
    assert not (tmp_path / "out").exists()


def test_a_run_does_not_remember_where_its_events_went(watched: tuple[Path, list[dict[str, Any]]]) -> None:
    assert "log-json" not in json.loads((watched[0] / "run.json").read_text())["asked"]
