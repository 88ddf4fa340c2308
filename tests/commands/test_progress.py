"""Progress: in words, as plain lines, and drawn on a terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import command_line
import pytest
import small_model
from click.testing import CliRunner

from ddfa_batch import cli
from ddfa_batch.commands import progress
from ddfa_batch.commands.progress import Pace, PlainLines, Silence, Step, Watched, open_display, sentence
from ddfa_batch.commands.run_progress import RunProgress, run_step
from ddfa_batch.commands.training_progress import TrainingProgress
from ddfa_batch.pipeline.plan import Run
from ddfa_batch.pipeline.progress import Phase, Progress, ShardProgress, Totals
from ddfa_batch.schemas.run import RunModel
from ddfa_batch.tasks.files.run_folders import run_folder_at


def a_run(kind: str = "process") -> Run:
    """A planned run of 1,000 images."""
    return Run(
        folder=run_folder_at("out"),
        kind=kind,
        created="today",
        root="/in",
        source="/in",
        n_inputs=1000,
        shard_size=100,
        identity={"options": {}},
        model=RunModel("small", "/models/small", "d", "MIT", "t", 9),
        notes=[],
    )


@pytest.mark.parametrize(
    ("step", "rate", "words"),
    [
        (Step("starting workers"), 0.0, "starting workers"),
        (Step("listing inputs", 12_345), 0.0, "listing inputs: 12,345"),
        (Step("listing inputs", 12_345), 5000.0, "listing inputs: 12,345, 5,000/s"),
        (Step("working", 0, 1000, "images", ("0 faces",)), 0.0, "  0%  0/1,000 images, 0 faces"),
        (
            Step("working", 450, 1000, "images", ("512 faces", "1 error")),
            38.0,
            " 45%  450/1,000 images, 14 s left, 512 faces, 1 error, 38/s",
        ),
        (Step("training", 3, 200, "iterations", ("fwpdc",)), 0.01, "  2%  3/200 iterations, 5.5 h left, fwpdc"),
        (Step("working", 1000, 1000, "images"), 3.21, "100%  1,000/1,000 images, 3.2/s"),
    ],
)
def test_a_step_in_words(step: Step, rate: float, words: str) -> None:
    assert sentence(step, rate) == words


def test_pace_is_that_of_the_last_half_minute() -> None:
    pace = Pace()
    for second in range(100):
        pace.note(Step("working", 10 * min(second, 50) + 2 * max(second - 50, 0), 10_000), float(second))
    assert pace.rate == pytest.approx(2.0)


def test_pace_begins_anew_with_another_step() -> None:
    pace = Pace()
    for second in range(3):
        pace.note(Step("listing inputs", 100 * second), float(second))
    assert pace.rate == pytest.approx(100.0)
    pace.note(Step("working", 500, 1000), 3.0)
    assert pace.rate == 0.0


def test_neither_what_was_done_before_nor_the_workers_start_counts() -> None:
    pace = Pace()
    for seconds, done in ((0, 900), (20, 900), (40, 910), (50, 920)):
        pace.note(Step("working", done, 1000), float(seconds))
    assert pace.rate == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("told", "step"),
    [
        (Progress(Phase.LISTING), Step("listing inputs")),
        (Progress(Phase.LISTING, listed=2000), Step("listing inputs", 2000)),
        (Progress(Phase.MODEL, listed=1000), Step("loading the model")),
        (Progress(Phase.WORKERS, a_run()), Step("starting workers")),
        (
            Progress(
                Phase.WORKING,
                a_run(),
                Totals(1, (("images", 100), ("faces", 90))),
                n_inputs=1000,
                at_work=(ShardProgress(1, images=40, faces=44, errors=2), ShardProgress(2, images=10)),
            ),
            Step("working", 150, 1000, "images", ("134 faces", "2 errors")),
        ),
        (
            Progress(
                Phase.WORKING, a_run("synth-videos"), Totals(1, (("images", 8), ("clips", 8), ("frames", 80))), 1000
            ),
            Step("working", 8, 1000, "images", ("8 clips, 80 frames",)),
        ),
        (Progress(Phase.JOINING, a_run()), Step("joining files")),
    ],
)
def test_what_a_run_is_doing(told: Progress, step: Step) -> None:
    assert run_step(told) == step


def test_a_run_is_announced_once_as_soon_as_it_is_planned() -> None:
    announced: list[tuple[str, int]] = []
    shown = RunProgress(Silence(), lambda run, now: announced.append((run.kind, now.totals.images)))
    shown(Progress(Phase.LISTING, listed=1000))
    assert announced == []
    before = Totals(1, (("images", 100),))
    shown(Progress(Phase.WORKERS, a_run(), before))
    shown(Progress(Phase.WORKING, a_run(), before, at_work=(ShardProgress(1, images=7),)))
    assert announced == [("process", 100)]
    assert shown.done_now == 7


def test_plain_lines_come_now_and_then_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    lines = PlainLines()
    for done in range(0, 41):
        clock[0] = float(done)
        lines.show(Step("working", done, 40, "images"))
    lines.show(Step("working", 40, 40, "images"))
    assert capsys.readouterr().err.splitlines() == [
        " 38%  15/40 images, 25 s left, 1.0/s",
        " 75%  30/40 images, 10 s left, 1.0/s",
        "100%  40/40 images, 1.0/s",
    ]


def test_what_is_waited_for_is_said_where_nothing_is_new_for_long(capsys: pytest.CaptureFixture[str]) -> None:
    watched = Watched(Silence(), silent_for=0.1)
    watched.show(Step("joining files", waits_for="files to be joined"))
    time.sleep(0.35)  # said after 0.1 s and 0.2 s, and then not before 0.4 s
    watched.show(Step("reading", 1))  # of which it is not known what it waits for
    time.sleep(0.2)
    watched.end()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(re.fullmatch(r"Nothing new for .+: waiting for files to be joined\.", line) for line in said)


def test_every_phase_of_a_run_says_what_it_waits_for() -> None:
    at_work = tuple(ShardProgress(shard) for shard in range(10))
    assert all(run_step(Progress(phase, a_run())).waits_for for phase in Phase)
    waits_for = run_step(Progress(Phase.WORKING, a_run(), n_inputs=1000, at_work=at_work)).waits_for
    assert waits_for == "1,000 of 1,000 images; at work are shards 0, 1, 2, 3, 4, 5, 6, 7 and 2 more"


def test_a_run_whose_end_hangs_says_so(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is done but for the joined file, which stands on something that answers nobody: here a pipe."""
    photos, joined = small_model.pictures(tmp_path / "in", [1, 1]), tmp_path / "out" / "vertices.h5"
    words = ["--models-dir", str(models), "process", str(photos), str(tmp_path / "out"), "--model", "small"]
    assert CliRunner().invoke(cli.cli, words).exit_code == 0
    joined.unlink()
    os.mkfifo(joined)
    monkeypatch.setattr(progress, "SILENT_FOR", 0.3)
    answers = threading.Timer(1.5, joined.write_bytes, [b"no meshes"])
    answers.start()
    answer = CliRunner().invoke(cli.cli, words)
    answers.join()
    assert answer.exit_code == 0, answer.output
    assert "waiting for files of the shards to be joined; all images are done." in answer.stderr


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    open_display(quiet=True).show(Step("working", 1, 1, "images"))
    assert capsys.readouterr().err == ""


def test_pipes_get_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(open_display(quiet=False), PlainLines)


def on_a_terminal(*words: object, models: Path, stdout: Path) -> str:
    """What a command draws on a terminal of 80 columns, its stdout going to a file."""
    ours, theirs = pty.openpty()
    environment = command_line.environment(models, "small", TERM="xterm", COLUMNS="80", LINES="24")
    with stdout.open("w") as file:
        running = subprocess.Popen(
            [command_line.COMMAND, *map(str, words)], stdout=file, stderr=theirs, stdin=theirs, env=environment
        )
    os.close(theirs)
    drawn = b""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux's way to say that the other side has closed
            break
        drawn += part
        if not part:
            break
    os.close(ours)
    assert running.wait(timeout=60) == 0
    return drawn.decode()


def test_a_terminal_gets_a_line_that_counts_images_within_a_shard(models: Path, tmp_path: Path) -> None:
    photos = small_model.pictures(tmp_path / "in", [1] * 250)
    words = ("process", photos, tmp_path / "out", "--scheduler", "in-process", "--shard-size", 250, "--refine", 3)
    drawn = on_a_terminal(*words, models=models, stdout=tmp_path / "said.txt")
    counts = {int(n) for n in re.findall(r"(\d+)/250 images", drawn)}
    assert any(0 < n < 250 for n in counts), drawn
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h")  # the cursor is given back
    said = (tmp_path / "said.txt").read_text()
    assert said.startswith("250 images in ")
    assert "\x1b" not in said


def test_a_training_says_a_line_for_every_iteration(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    from ddfa_batch.pipeline.train import TrainingStart
    from ddfa_batch.tasks.training.state import Record

    shown = TrainingProgress(iterations=3, samples=640, quiet=False)
    shown.begun(TrainingStart(90, 10, ("2 pictures are missing.",), "cpu", 1, 910_000, 46_500_000, 49_500_000))
    errors = {"fwpdc": 2.312, "vdc": 2.4}
    shown(Record(1, "fwpdc", errors, errors, 1e-3, pixels=60, seconds=2.0, validation=5.125))
    shown(Record(2, "vdc", errors, errors, 1e-3, pixels=120, seconds=4.0))
    shown.close()
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "2 pictures are missing.",
        "The net has 0.91 M parameters and 46.5 M MACs (49.5 M as the paper counts, with normalisation).",
        "90 clips to train on, 10 held out; 1,920 samples on cpu.",
        "Resuming after iteration 1 of 3.",
    ]
    first, last = said.err.splitlines()[-2:]
    assert " 67%  2/3 iterations" in first
    assert "fwpdc, vertex error fwpdc 2.31, vdc 2.40 px, validation 5.12 %, 60 px, 320 samples/s" in first
    assert "100%  3/3 iterations, vdc, " in last
    assert "validation 5.12 %, 120 px, 160 samples/s" in last
