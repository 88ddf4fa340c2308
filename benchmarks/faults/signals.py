"""Faults of processes of a run on this machine: signals, and commands beside each other."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial

import psutil
from cases import Case, Fault, WrongError
from started import Started

#: Seconds in which a command that is asked to end has to, and those for which processes are stopped.
_END_SECONDS, _STOPPED_SECONDS = 15.0, 1.0
_HERE = ("process", "videos", "synth-videos", "fit", "render", "export", "to-webdataset")
_LOCAL = ("process, local workers",)


def killed(case: Case) -> None:
    started = case.under_way()
    started.end_all()


def killed_in_finishing(case: Case) -> None:
    """Killed four times in a row."""
    for _ in range(4):
        started, end = case.start(), time.monotonic() + case.moment() / 2
        while time.monotonic() < end and not started.ended():
            time.sleep(0.002)
        started.end_all()


def killed_alone(case: Case) -> None:
    """The command is killed, its workers are not, and it is started again at once."""
    started = case.under_way()
    started.signal(signal.SIGKILL)
    started.wait(case.subject.limit)


def asked_to_end(number: int, code: int, case: Case, times: int = 1) -> None:
    """The command is to end soon, say how to go on, and leave no process."""
    started = case.under_way()
    family = _family(started)
    for _ in range(times):
        started.signal(number)
        time.sleep(0.05)
    began = time.monotonic()
    ended = started.wait(case.subject.limit)
    seconds = time.monotonic() - began
    if ended not in (0, code, -number) or (ended == -number and time.monotonic() - began > _END_SECONDS):
        raise WrongError(f"ended with {ended}: {started.words()[-300:]}")
    if seconds > _END_SECONDS:
        raise WrongError(f"took {seconds:.1f} s to end")
    if ended == code and code > 0 and "again" not in started.words():
        raise WrongError(f"does not say how to go on: {started.words()[-300:]}")
    _gone, alive = psutil.wait_procs(family, timeout=_END_SECONDS)
    if alive:
        raise WrongError(f"{len(alive)} of its processes are left")
    started.end_all()


def stopped(case: Case) -> None:
    """All of the command is stopped for a while, as by Ctrl-Z or a lid, and goes on."""
    started = case.under_way()
    os.killpg(started.pid, signal.SIGSTOP)
    time.sleep(_STOPPED_SECONDS)
    os.killpg(started.pid, signal.SIGCONT)
    _ends_well(case, started)


def worker_hit(number: int, case: Case) -> None:
    """A worker is killed, or stopped for a while; the command goes on with another."""
    started = case.under_way()
    if workers := _workers(started):
        worker = workers[int(case.rng.integers(len(workers)))]
        _send(worker, number)
        if number == signal.SIGSTOP:
            time.sleep(_STOPPED_SECONDS)
            _send(worker, signal.SIGCONT)
    _ends_well(case, started)


def all_workers_killed(case: Case) -> None:
    started = case.under_way()
    for worker in _workers(started):
        _send(worker, signal.SIGKILL)
    case.ends_in_a_sentence(started)  # while they start the command cannot do without them


def two_at_once(case: Case) -> None:
    """The second is refused or finds all done; the first ends well."""
    first = case.under_way()
    second = case.subject.start(case.base, case.out)
    codes = first.wait(case.subject.limit), second.wait(case.subject.limit)
    if sorted(codes) not in ([0, 0], [0, 1]):
        raise WrongError(f"ended with {codes}: {first.words()[-300:]}")


def _ends_well(case: Case, started: Started) -> None:
    if code := started.wait(case.subject.limit):
        raise WrongError(f"ended with {code}: {started.words()[-300:]}")


def _send(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _family(started: Started) -> list[psutil.Process]:
    try:
        return psutil.Process(started.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _workers(started: Started) -> list[psutil.Process]:
    """The processes that work: those that are forked from the template, which bears the same words."""
    parents = {process.pid: (_words(process), process) for process in _family(started)}
    return [process for _, process in parents.values() if "forkserver" in parents.get(_parent(process), ("",))[0]]


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _parent(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.Error:
        return 0


def _asked(number: int, code: int, times: int = 1) -> Callable[[Case], None]:
    return partial(asked_to_end, number, code, times=times)


FAULTS = (
    Fault("SIGKILL to the command", "at a random moment", ("process", "synth-videos", "fit", "render"), killed, 50),
    Fault("SIGKILL to the command", "at a random moment", ("videos", "export", "to-webdataset"), killed, 8),
    Fault(
        "SIGKILL to the command, and again to the one that goes on",
        "four times in a row",
        _HERE,
        killed_in_finishing,
        2,
    ),
    Fault("Ctrl-C (SIGINT)", "at a random moment", _HERE, _asked(signal.SIGINT, 130), 2),
    Fault("Ctrl-C three times", "at a random moment", ("process", "render"), _asked(signal.SIGINT, 130, 3), 4),
    Fault("SIGTERM", "at a random moment", _HERE, _asked(signal.SIGTERM, 143), 2),
    Fault(
        "SIGHUP, the terminal closed", "at a random moment", ("process", "synth-videos"), _asked(signal.SIGHUP, 129), 4
    ),
    Fault("SIGSTOP, then SIGCONT", "at a random moment", ("process", "videos", "render"), stopped, 2),
    Fault(
        "two commands at once", "the second at a random moment", ("process", "videos", "export", "fit"), two_at_once, 3
    ),
    Fault("SIGKILL to the command and its local workers", "at a random moment", _LOCAL, killed, 4),
    Fault("SIGKILL to the command only, workers left behind", "at a random moment", _LOCAL, killed_alone, 4),
    Fault("Ctrl-C with local workers", "at a random moment", _LOCAL, _asked(signal.SIGINT, 130), 3),
    Fault("SIGTERM with local workers", "at a random moment", _LOCAL, _asked(signal.SIGTERM, 143), 3),
    Fault("SIGKILL to a local worker", "at a random moment", _LOCAL, partial(worker_hit, signal.SIGKILL), 4),
    Fault(
        "SIGSTOP to a local worker, then SIGCONT", "at a random moment", _LOCAL, partial(worker_hit, signal.SIGSTOP), 3
    ),
    Fault("SIGKILL to all local workers", "at a random moment", _LOCAL, all_workers_killed, 3),
)
