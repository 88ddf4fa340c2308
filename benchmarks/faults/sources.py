"""Faults of what a run reads, and of the moment's time: inputs that vanish, are cut or replaced; a clock set back."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import cv2
from cases import Case, Fault
from started import Started
from subjects import portrait

#: A day, and a time before there were computers, which clocks without a battery tell.
_LONG_AGO = (time.time() - 86_400, 3_600.0)


def _picked(case: Case) -> tuple[Path, int]:
    """An input of a copy of the sources, a picture, and its image_id."""
    paths = sorted(case.own_sources().glob("p*.png"))
    at = int(case.rng.integers(len(paths)))
    return paths[at], 1 + at  # none.png comes first


def _listed(case: Case) -> Started:
    """A run at a random moment after its inputs were listed, for one that vanished before is none of them."""
    started = case.under_way()
    while not (case.out / "run.json").exists() and not started.ended():
        time.sleep(0.002)
    return started


def vanished(case: Case) -> None:
    """An input is moved away at a random moment and put back after the end; its error row is retried."""
    path, _ = _picked(case)
    started = _listed(case)
    path.rename(case.folder / "away.png")
    case.ends_in_a_sentence(started)
    (case.folder / "away.png").rename(path)
    case.finishing = ["--retry-failed"]


def cut(case: Case) -> None:
    """An input is cut at a random moment, as while it is copied, and whole after the end; its error row is retried."""
    path, _ = _picked(case)
    whole, started = path.read_bytes(), case.under_way()
    path.write_bytes(whole[: int(case.rng.integers(len(whole)))])
    case.ends_in_a_sentence(started)
    path.write_bytes(whole)
    case.finishing = ["--retry-failed"]


def replaced(case: Case) -> None:
    """An input becomes another picture at a random moment; rows of all others are as they were."""
    path, image_id = _picked(case)
    started = case.under_way()
    cv2.imwrite(str(case.folder / "other.png"), portrait(30))
    (case.folder / "other.png").replace(path)
    case.excused = {image_id}
    case.ends_in_a_sentence(started)


def all_vanished(case: Case) -> None:
    """The folder of the inputs is moved away at a random moment, as where a disk is unplugged, and put back."""
    folder = case.own_sources()
    started = _listed(case)
    folder.rename(case.folder / "away")
    case.ends_in_a_sentence(started)
    (case.folder / "away").rename(folder)
    case.finishing = ["--retry-failed"]


def aged(case: Case) -> None:
    """Times of all files are set back after a kill."""
    started = case.under_way()
    started.end_all()
    when = _LONG_AGO[int(case.rng.integers(2))]
    for path in [*case.own_sources().iterdir(), *case.out.rglob("*")]:
        if path.exists():
            os.utime(path, (when, when))


def in_the_future(case: Case) -> None:
    """Times of all files lie a day ahead, as of another machine's clock, after Ctrl-C."""
    started = case.under_way()
    started.signal(signal.SIGINT)
    started.wait(case.subject.limit)
    for path in case.out.rglob("*"):
        os.utime(path, (time.time() + 86_400,) * 2)


FAULTS = (
    Fault("an input vanishes, and comes back", "at a random moment after it was listed", ("process",), vanished, 8),
    Fault("an input is cut, and is whole later", "at a random moment", ("process",), cut, 8),
    Fault("an input is replaced by another picture", "at a random moment", ("process",), replaced, 6),
    Fault(
        "all inputs vanish, and come back", "at a random moment after they were listed", ("process",), all_vanished, 5
    ),
    Fault("times of all files set back", "after SIGKILL at a random moment", ("process",), aged, 4),
    Fault(
        "times of all files in the future", "after Ctrl-C at a random moment", ("process", "render"), in_the_future, 2
    ),
)
