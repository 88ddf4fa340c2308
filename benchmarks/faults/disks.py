"""Faults of disks and of what the system grants: full, read-only, slow, failing; descriptors, memory, the clock."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from functools import cache, partial
from pathlib import Path

import psutil
from cases import CannotError, Case, Fault
from signals import killed

#: Bytes of a disk that is large enough, and the address space that is granted beyond what a command begins with.
_LARGE, _MEMORY = 64 << 20, (16 << 20, 256 << 20)
_SHIM = Path(__file__).with_name("failing_system.c")
_ALL = ("process", "videos", "synth-videos", "render", "export", "to-webdataset", "fit")


def _disk(case: Case, size: int) -> None:
    """Put a file system of so many bytes where the run goes."""
    case.out.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(case.out))
    case.undone.callback(subprocess.run, ["umount", "--lazy", str(case.out)], check=False, capture_output=True)


def _mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], check=False, capture_output=True, text=True)
    if done.returncode:
        raise CannotError(f"mount: {done.stderr.strip()}")


def full(case: Case) -> None:
    """The disk is too small for the run, at a random place, and larger afterwards."""
    written = sum(path.stat().st_size for path in case.expected.rglob("*") if path.is_file())
    _disk(case, max(int(case.rng.uniform(0.02, 1.0) * written), 4096))
    case.ends_in_a_sentence(case.start())
    _mount("-o", f"remount,size={_LARGE}", str(case.out))


def read_only(case: Case) -> None:
    """The file system becomes read-only at a random moment, as after an error of the disk, and is mended afterwards."""
    _disk(case, _LARGE)
    started = case.under_way()
    while not started.ended():  # busy as long as a file is open for writing
        done = subprocess.run(["mount", "-o", "remount,ro", str(case.out)], check=False, capture_output=True)
        if not done.returncode:
            break
    case.ends_in_a_sentence(started)
    _mount("-o", f"remount,rw,size={_LARGE}", str(case.out))


def removed(what: str, case: Case) -> None:
    """OUT, or a folder of it, is removed at a random moment."""
    started = case.under_way()
    shutil.rmtree(case.out / what, ignore_errors=True)
    case.ends_in_a_sentence(started)


def limited(limit: int, low: int, high: int, case: Case) -> None:
    """The system grants little of something; the next command has enough."""
    value = int(case.rng.integers(low, high))
    if limit == resource.RLIMIT_AS:
        value += psutil.Process().memory_info().vms
    case.ends_in_a_sentence(case.start(limits={limit: value}))
    if case.subject.name in ("process", "videos"):
        case.finishing = ["--retry-failed"]


# ------------------------------------------------------------------------------ calls of the system that fail


@cache
def _shim(folder: Path) -> Path:
    built = folder / "failing_system.so"
    if (compiler := shutil.which("cc")) is None:
        raise CannotError("no C compiler")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(built), str(_SHIM), "-ldl"], check=True)
    return built


def failing(variable: str, low: int, high: int, case: Case) -> None:
    """A call of the system fails or is slow, as `failing_system.c` says."""
    more = {"LD_PRELOAD": str(_shim(case.base)), variable: str(int(case.rng.integers(low, high)))}
    case.ends_in_a_sentence(case.start(environment=more))
    if case.subject.name in ("process", "videos"):
        case.finishing = ["--retry-failed"]


def clock_back(case: Case) -> None:
    """The clock is set back by a day at a random moment."""
    mark = case.folder / "set-back"
    started = case.start(environment={"LD_PRELOAD": str(_shim(case.base)), "FAULT_CLOCK_FILE": str(mark)})
    while not started.ended() and not case.out.exists():
        os.sched_yield()
    mark.touch()
    case.ends_in_a_sentence(started)


def _limit(limit: int, low: int, high: int) -> partial[None]:
    return partial(limited, limit, low, high)


FAULTS = (
    Fault("disk full (tmpfs)", "at a random place", _ALL, full, 3),
    Fault("disk becomes read-only", "at a random moment", ("process", "synth-videos", "render"), read_only, 2),
    Fault(
        "quota of a file's size (RLIMIT_FSIZE)",
        "from the beginning",
        ("process", "render", "fit", "export"),
        _limit(resource.RLIMIT_FSIZE, 1_000, 200_000),
        2,
    ),
    Fault(
        "few file descriptors (RLIMIT_NOFILE)",
        "from the beginning",
        ("process", "videos", "render"),
        _limit(resource.RLIMIT_NOFILE, 8, 40),
        2,
    ),
    Fault(
        "little memory (RLIMIT_AS)",
        "from the beginning",
        ("process", "render"),
        _limit(resource.RLIMIT_AS, *_MEMORY),
        3,
    ),
    Fault("OUT removed", "at a random moment", _ALL, partial(removed, ""), 2),
    Fault("a folder of OUT removed", "at a random moment", ("process",), partial(removed, "images"), 4),
    Fault("receipts removed", "at a random moment", ("process", "render"), partial(removed, "shards"), 2),
    Fault("fsync fails (EIO)", "at a random call", ("process",), partial(failing, "FAULT_FSYNC_FAILS", 1, 30), 4),
    Fault("rename fails (EIO)", "at a random call", ("process",), partial(failing, "FAULT_RENAME_FAILS", 1, 30), 4),
    Fault(
        "slow disk: fsync takes 50 to 200 ms", "always", ("process",), partial(failing, "FAULT_FSYNC_MS", 50, 200), 2
    ),
    Fault("clock set back by a day", "when OUT is made", ("process",), clock_back, 3),
    Fault("SIGKILL, names with line ends, quotes, strokes", "at a random moment", ("process, odd names",), killed, 6),
)
