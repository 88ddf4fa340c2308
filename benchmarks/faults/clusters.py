"""Faults of a cluster as a site starts it: its scheduler, nannies and workers, and the network between."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
from cases import Case, Fault, WrongError
from started import Started, forked_call
from subjects import SITE

#: Seconds for which something is stopped, and in which a cluster has to stand.
_STOPPED_SECONDS, _START_SECONDS = 3.0, 60.0
_BYTES = 1 << 16
_WORKERS = 2
#: The processes of the cluster that stands, the scheduler first; and where it is.
_site: list[subprocess.Popen[bytes]] = []


def _dask(*words: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "dask", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, **(environment or {})},
    )


def _worker(base: Path, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    words = ["--nthreads", "1", "--host", "127.0.0.1", "--no-dashboard", "--local-directory", str(base / "dask")]
    return _dask("worker", "--scheduler-file", str(base / SITE), *words, environment=environment)


def _stand(case: Case) -> None:
    """See to it that a whole cluster stands, which the faults before may have taken down."""
    if len(_site) == 1 + _WORKERS and all(process.poll() is None for process in _site):
        return
    stop_site()
    file = case.base / SITE
    file.unlink(missing_ok=True)
    words = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    _site.append(_dask("scheduler", "--scheduler-file", str(file), *words))
    _site.extend(_worker(case.base) for _ in range(_WORKERS))
    end = time.monotonic() + _START_SECONDS
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.05)


def stop_site() -> None:
    """End the cluster that stands, if there is one."""
    for process in _site:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    _site.clear()


def _disturbed(case: Case, disturb: Callable[[Case], None], may_fail: bool) -> None:
    """A run on the cluster, disturbed at a random moment; then it is finished in one process."""
    _stand(case)
    started = case.under_way()
    disturb(case)
    if may_fail:
        case.ends_in_a_sentence(started)
    elif code := started.wait(2 * case.subject.limit):
        raise WrongError(f"ended with {code}: {started.words()[-300:]}")
    case.finishing = ["--scheduler", "in-process"]


def _hit(place: int, number: int, _: Case) -> None:
    """Send the scheduler (0) or a nanny a signal; one that is stopped goes on after a while."""
    os.kill(_site[place].pid, number)
    if number == signal.SIGSTOP:
        time.sleep(_STOPPED_SECONDS)
        os.kill(_site[place].pid, signal.SIGCONT)


def _hit_worker(number: int, _: Case) -> None:
    """The same to what works below a nanny."""
    for child in psutil.Process(_site[1].pid).children(recursive=True):
        try:
            if "spawn_main" in " ".join(child.cmdline()):
                child.send_signal(number)
                if number == signal.SIGSTOP:
                    time.sleep(_STOPPED_SECONDS)
                    child.send_signal(signal.SIGCONT)
                return
        except psutil.Error:
            continue


def _joins(case: Case) -> None:
    _site.append(_worker(case.base))


def _client(number: int, case: Case) -> None:
    """The command gets a signal; the next one uses the same cluster, where tasks of the first may be at work."""
    _stand(case)
    started = case.under_way()
    started.signal(number)
    started.wait(case.subject.limit)


def _another_version(case: Case) -> None:
    """One of the workers has another version of the package; the run is refused in a sentence that names it."""
    stop_site()
    _stand(case)
    elsewhere = case.folder / "elsewhere"
    (elsewhere / "ddfa_batch-0.0.1.dist-info").mkdir(parents=True)
    (elsewhere / "ddfa_batch-0.0.1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: ddfa-batch\nVersion: 0.0.1\n"
    )
    path = os.pathsep.join([str(elsewhere), os.environ.get("PYTHONPATH", "")])
    _site.append(_worker(case.base, {"PYTHONPATH": path}))
    time.sleep(_STOPPED_SECONDS)
    started = case.start()
    case.ends_in_a_sentence(started)
    if started.code == 1 and "0.0.1" not in started.words():
        raise WrongError(f"does not name the version: {started.words()[-300:]}")
    stop_site()
    case.finishing = ["--scheduler", "in-process"]


# ---------------------------------------------------------------------------------------------- the network


def _network(number: int, case: Case) -> None:
    """The command reaches the scheduler over a relay, which is killed (a cut) or stopped for a while (a stall)."""
    _stand(case)
    address = json.loads((case.base / SITE).read_text())["address"]
    host, port = address.removeprefix("tcp://").rsplit(":", 1)
    with socket.create_server(("127.0.0.1", 0)) as door:
        relay = forked_call(partial(_relayed, door, (host, int(port))), case.folder / "relay.told")
        here = f"tcp://127.0.0.1:{door.getsockname()[1]}"
    # now only the relay holds the door
    started, end = case.start("--scheduler", here), time.monotonic() + case.moment()
    while time.monotonic() < end and not started.ended():
        time.sleep(0.005)
    _cut(relay, number)
    case.ends_in_a_sentence(started)
    relay.end_all()
    case.finishing = ["--scheduler", "in-process"]


def _cut(relay: Started, number: int) -> None:
    relay.signal(number)
    if number == signal.SIGSTOP:
        time.sleep(_STOPPED_SECONDS)
        relay.signal(signal.SIGCONT)


def _relayed(door: socket.socket, target: tuple[str, int]) -> None:
    """Hand on whatever comes, both ways, for ever."""
    peers: dict[socket.socket, socket.socket] = {}
    while True:
        for ready in select.select([door, *peers], [], [])[0]:
            if ready is door:
                client, server = door.accept()[0], socket.create_connection(target)
                peers |= {client: server, server: client}
            elif ready in peers:
                _handed_on(ready, peers)


def _handed_on(ready: socket.socket, peers: dict[socket.socket, socket.socket]) -> None:
    try:
        data = ready.recv(_BYTES)
        peers[ready].sendall(data)
    except OSError:
        data = b""
    if not data:
        other = peers.pop(ready)
        peers.pop(other, None)
        ready.close()
        other.close()


_ON = ("process, a site's cluster",)


def _fault(name: str, disturb: Callable[[Case], None], may_fail: bool, times: int = 3) -> Fault:
    return Fault(name, "at a random moment", _ON, partial(_disturbed, disturb=disturb, may_fail=may_fail), times)


FAULTS = (
    _fault("SIGKILL to the scheduler", partial(_hit, 0, signal.SIGKILL), True, 4),
    _fault("SIGSTOP to the scheduler for 3 s", partial(_hit, 0, signal.SIGSTOP), False),
    _fault("SIGTERM to the scheduler", partial(_hit, 0, signal.SIGTERM), True),
    _fault("SIGKILL to a nanny", partial(_hit, 1, signal.SIGKILL), False),
    _fault("SIGKILL to a site's worker", partial(_hit_worker, signal.SIGKILL), False, 4),
    _fault("SIGSTOP to a site's worker for 3 s", partial(_hit_worker, signal.SIGSTOP), False),
    _fault("a worker joins", _joins, False),
    Fault("SIGKILL to the command on a cluster", "at a random moment", _ON, partial(_client, signal.SIGKILL), 5),
    Fault("Ctrl-C to the command on a cluster", "at a random moment", _ON, partial(_client, signal.SIGINT), 3),
    Fault("the scheduler's socket cut", "at a random moment", _ON, partial(_network, signal.SIGKILL), 4),
    Fault("the network stalls for 3 s", "at a random moment", _ON, partial(_network, signal.SIGSTOP), 3),
    Fault("a worker of another version", "from the beginning", _ON, _another_version, 2),
)
