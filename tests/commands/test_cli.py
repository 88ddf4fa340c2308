"""The group: what `--help` costs, faults and signals as sentences and exit codes, misuse."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import command_line
import pytest
import small_model
from dask_clusters import local_workers, templates

from ddfa_batch import cli
from ddfa_batch.pipeline import plan
from ddfa_batch.schemas.errors import RunFolderError

#: What `--help` does without: together they take seconds.
HEAVY = (
    "numba",
    "matplotlib",
    "cv2",
    "dask",
    "distributed",
    "pyarrow",
    "onnxruntime",
    "h5py",
    "numpy",
    "pandas",
    "torch",
)


def test_help_imports_nothing_heavy() -> None:
    """Of each command, in one process: none may, so what one has imported is told of with it."""
    code = (
        "import contextlib, io, sys; from ddfa_batch import cli\n"
        f"for words in {[[], *([name] for name in cli.COMMANDS)]!r}:\n"
        "    sys.argv, said = ['ddfa-batch', *words, '--help'], io.StringIO()\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(said): cli.main()\n"
        "    usage = said.getvalue().partition(' [')[0]\n"
        f"    print(usage, *sorted(set({HEAVY!r}) & set(sys.modules)), sep='|')"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stderr.strip() == ""
    assert answer.stdout.splitlines() == ["Usage: ddfa-batch", *(f"Usage: ddfa-batch {name}" for name in cli.COMMANDS)]


def test_a_first_picture_imports_no_more_than_it_needs(models: Path, tmp_path: Path) -> None:
    """Compilers, plots, clusters and progress lines have their seconds where they are wanted."""
    unneeded = ("numba", "matplotlib", "distributed", "scipy", "onnx", "torch", "rich")
    photos = small_model.pictures(tmp_path / "in", [1])
    code = (
        "import sys; from ddfa_batch import cli\n"
        f"sys.argv = ['ddfa-batch', 'process', {str(photos)!r}, {str(tmp_path / 'out')!r}, '--quiet']\n"
        "try: cli.main()\n"
        f"finally: print(*sorted(set({unneeded!r}) & set(sys.modules)))"
    )
    environment = command_line.environment(models, "small")
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert answer.stdout.strip() == ""


def test_the_package_runs_as_a_module() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "ddfa_batch", "--version"], capture_output=True, text=True, check=True
    )
    assert answer.stdout.startswith("ddfa-batch, version ")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (RunFolderError("out/run.json is damaged."), "Error: out/run.json is damaged.\n"),
        (PermissionError(13, "Permission denied", "out/run.json"), "Error: out/run.json: Permission denied.\n"),
        (OSError("no room\nat all"), "Error: no room.\n"),
        (OSError(28, "No space left on device", f"out/.a.html.{'0f' * 16}.tmp"), "Error: out/a.html: No space left on"),
        (KeyError("shape"), "Error: unexpected KeyError in "),
        (EOFError("the file ends"), "Error: unexpected EOFError in "),
        (MemoryError(), ": no more is known. Please report it, with what DDFA_BATCH_TRACEBACK=1 before the command"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_fault_is_one_sentence(monkeypatch: pytest.MonkeyPatch, fault: Exception, said: str) -> None:
    monkeypatch.setattr(plan, "read_run", lambda out: (_ for _ in ()).throw(fault))
    answer = command_line.call("status", "out")
    assert answer.code == 1
    assert said in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


def test_a_variable_shows_where_a_fault_came_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "read_run", lambda out: out.nothing)
    answer = command_line.call("status", "out", DDFA_BATCH_TRACEBACK="1")
    assert answer.code == 1
    assert answer.stderr.startswith("Traceback")
    assert "Error: unexpected AttributeError in test_cli.py" in answer.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Usage:"),
        (("proces",), "No such command 'proces'. Did you mean 'process'?"),
        (("frobnicate",), "No such command 'frobnicate'."),
        (("process",), "Missing argument 'IMAGES...'"),
        (("process", "", "out"), "An empty string names no file or folder."),
        (("process", "in", ""), "An empty string names no file or folder."),
        (("synth-videos", "", "out"), "An empty string names no file or folder."),
        (("status", ""), "An empty string names no file or folder."),
        (("fit", "", "out"), "An empty string names no file or folder."),
    ],
    ids=lambda value: " ".join(map(repr, value)) if isinstance(value, tuple) else "",
)
def test_misuse_is_code_2(words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = command_line.call(*words)
    assert answer.code == 2
    assert said in answer.stdout + answer.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ("process", "in", "out", "--boxes", "https://host/boxes.csv"),
        ("synth-videos", "in", "gs://bucket/out"),
        ("fit", "labels.parquet", "s3://bucket/out"),
        ("train", "labels", "s3://bucket/out"),
        ("evaluate", "in", "s3://bucket/out", "--run", "in"),
        ("labels", "import", "300w-lp", "in", "s3://bucket/labels.parquet"),
    ],
    ids=" ".join,
)
def test_urls_are_refused_and_make_no_folders(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    answer = command_line.call(*words)
    assert answer.code == 1
    assert "is a URL; inputs may be one, and folders of runs but those of synth-videos and fit" in answer.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


@pytest.fixture
def running(models: Path, tmp_path: Path) -> subprocess.Popen[str]:
    """A run at its work: five of its many shards are done."""
    photos = small_model.pictures(tmp_path / "in", [1] * 100)
    words = ("process", photos, tmp_path / "out", "--shard-size", 2, "--scheduler", "in-process")
    running = command_line.start(*words, models=models)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list((tmp_path / "out/shards").glob("[0-9]*"))) < 5:
        time.sleep(0.01)
    return running


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 130, "Stopped. "), (signal.SIGTERM, 143, "Terminated. ")]
)
def test_a_signal_keeps_what_is_finished(running: subprocess.Popen[str], number: int, code: int, said: str) -> None:
    running.send_signal(number)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == code
    assert f"{said}What is finished is kept: run the same command again to resume." in errors
    assert "Traceback" not in errors


def test_ctrl_c_at_a_terminal_reaches_the_workers_too_and_nobody_complains(models: Path, tmp_path: Path) -> None:
    photos, out = small_model.pictures(tmp_path / "in", [1] * 100), tmp_path / "out"
    words = ("process", photos, out, "--shard-size", 2, "--scheduler", "local", "--workers", 2)
    running = command_line.start(*words, models=models, start_new_session=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list((out / "shards").glob("[0-9]*"))) < 5:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in errors
    assert not list((out / "shards").glob(".*.inflight")) or not Path("/proc").is_dir()  # no image is to blame


@pytest.mark.parametrize(
    ("number", "awaited", "code", "said"),
    [
        (signal.SIGINT, "template", 130, "Stopped. "),
        (signal.SIGINT, "worker", 130, "Stopped. "),
        (signal.SIGTERM, "worker", 143, "Terminated. "),
    ],
    ids=["Ctrl-C while the template imports", "Ctrl-C while workers start", "SIGTERM while workers start"],
)
def test_a_signal_while_local_workers_start_is_one_sentence(
    models: Path, tmp_path: Path, number: int, awaited: str, code: int, said: str
) -> None:
    photos = small_model.pictures(tmp_path / "in", [1] * 8)
    words = ("process", photos, tmp_path / "out", "--shard-size", 2, "--scheduler", "local", "--workers", 2)
    running = command_line.start(*words, models=models, start_new_session=True)
    started = templates if awaited == "template" else local_workers
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not started(running.pid):
        time.sleep(0.01)
    if number == signal.SIGINT:  # as a terminal sends it, to all
        os.killpg(running.pid, number)
    else:
        running.send_signal(number)
    begun = time.monotonic()
    _, errors = running.communicate(timeout=60)
    assert time.monotonic() - begun < 5
    assert running.returncode == code
    told = [line for line in errors.splitlines() if line and not line.startswith("Model: ")]  # which it may yet come to
    assert told == [f"{said}What is finished is kept: run the same command again to resume."]


#: A command that gets a signal when all is said, or when the interpreter has ended nearly everything.
LATE = {
    "when all is said": "cli.EVENTS.end = lambda *_: strike()",
    "as Python ends": "atexit.register(strike)",
}


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("word", "code"), [("--version", 0), ("--unknown", 2)])
def test_a_signal_after_the_end_says_nothing_and_changes_no_exit_code(
    late: str, number: signal.Signals, word: str, code: int
) -> None:
    script = (
        "import atexit, os, signal; from ddfa_batch import cli\n"
        f"def strike(): os.kill(os.getpid(), {int(number)})\n"
        f"signal.signal(signal.SIGINT, signal.default_int_handler); {LATE[late]}; cli.main()"
    )
    answer = subprocess.run([sys.executable, "-c", script, word], capture_output=True, text=True, check=False)
    assert (answer.returncode, "Traceback" in answer.stderr) == (code, False), answer.stderr
    assert not answer.stderr or answer.stderr.startswith("Usage: ")


def test_a_reader_that_goes_away_ends_the_command() -> None:
    read, write = os.pipe()
    os.close(read)
    answer = subprocess.run(
        [command_line.COMMAND, "models", "list"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert answer.returncode == 141
    assert answer.stderr.startswith("Stopped: the output is read no more.")
    assert len(answer.stderr.strip().splitlines()) == 1
