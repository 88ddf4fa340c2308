"""Real clusters: the same tables on any of them, and nothing lost to a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import small_model
from compared_runs import same_tables
from conftest import wanted

from ddfa_batch.pipeline import cluster, engine, graph
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.progress import Progress
from ddfa_batch.schemas.config import Execution
from ddfa_batch.schemas.errors import ClusterError
from ddfa_batch.tasks.bundles.model_bundle import Bundle

pytestmark = pytest.mark.filterwarnings("default")

N_IMAGES = 60


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model.pictures(tmp_path_factory.mktemp("many"), [i % 4 for i in range(N_IMAGES)])


@pytest.fixture(scope="module")
def expected(many: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("expected") / "out"
    process(wanted(many, out, bundle, shard_size=3), Execution("in-process"))
    return out


def dask(*words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dask", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def stop(*running: subprocess.Popen[bytes]) -> None:
    for each in running:
        if each.poll() is None:
            os.killpg(each.pid, signal.SIGKILL)
        each.wait()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A scheduler and two workers on loopback, started as a site would start them; gives the scheduler file."""
    file = tmp_path_factory.mktemp("dask") / "scheduler.json"
    common = ("--scheduler-file", str(file))
    scheduler = dask("scheduler", *common, "--host", "127.0.0.1", "--port", "0", "--dashboard-address", ":0")
    workers = [
        dask("worker", *common, "--nthreads", "1", "--host", "127.0.0.1", "--no-dashboard", "--local-directory",
             str(file.parent))
        for _ in range(2)
    ]  # fmt: skip
    deadline = time.monotonic() + 60
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    yield file
    stop(*workers, scheduler)


def test_a_running_cluster_by_its_address_gives_the_same_tables(
    running: Path, many: Path, bundle: Bundle, expected: Path, tmp_path: Path
) -> None:
    import json

    address = json.loads(running.read_text())["address"]
    process(wanted(many, tmp_path / "out", bundle, shard_size=3), Execution(address))
    same_tables(tmp_path / "out", expected)


def test_a_running_cluster_by_its_scheduler_file_gives_the_same_tables(
    running: Path, many: Path, bundle: Bundle, expected: Path, tmp_path: Path
) -> None:
    process(wanted(many, tmp_path / "out", bundle, shard_size=3), Execution(str(running)))
    same_tables(tmp_path / "out", expected)


def test_a_local_cluster_gives_the_same_tables(many: Path, bundle: Bundle, expected: Path, tmp_path: Path) -> None:
    process(wanted(many, tmp_path / "out", bundle, shard_size=3), Execution("local", 2))
    same_tables(tmp_path / "out", expected)


def test_a_worker_killed_in_the_middle_costs_nothing_but_time(
    many: Path, bundle: Bundle, expected: Path, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill_one(progress: Progress) -> None:
        if progress.totals.shards_done >= 3 and not killed:
            workers = [p for p in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]
            killed.append(workers[-1].pid)
            workers[-1].kill()

    request = wanted(many, tmp_path / "out", bundle, shard_size=3)
    _, totals = process(request, Execution("local", 2), report=kill_one)
    assert killed
    assert totals.images == N_IMAGES
    assert totals.n_errors == 0
    same_tables(tmp_path / "out", expected)


@pytest.mark.parametrize("scheduler", ["local", "in-process"])
def test_a_run_killed_half_way_and_started_again_ends_the_same(
    many: Path, bundle: Bundle, expected: Path, tmp_path: Path, scheduler: str
) -> None:
    """SIGKILL to the command and all its workers, then the same command."""
    command = [
        str(Path(sys.executable).with_name("ddfa-batch")), "process", str(many), str(tmp_path / "out"),
        "--model", str(bundle.folder), "--shard-size", "3", "--scheduler", scheduler, "--quiet",
    ]  # fmt: skip
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    receipts = tmp_path / "out/shards"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(receipts.glob("[0-9]*.json"))) < 4:
        time.sleep(0.002)
    family = [p.pid for p in psutil.Process(first.pid).children(recursive=True)]
    stop(first)
    for pid in family:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)
    done = len(list(receipts.glob("[0-9]*.json")))
    assert 4 <= done < N_IMAGES // 3
    subprocess.run(command, check=True)
    same_tables(tmp_path / "out", expected)
    assert not list((tmp_path / "out").rglob(".*"))  # nothing half-written is left behind


def test_the_stages_have_names_a_dashboard_shows() -> None:
    from dask.utils import key_split

    from ddfa_batch.pipeline import process as steps

    job = graph.Job("/nowhere", steps.STAGES, lambda: None, Execution("local"), few=False)
    keys = graph.shard_graph(job, 7).dask.keys()
    assert {key_split(key) for key in keys} == {"find-faces", "reconstruct", "write", "commit"}


def test_only_a_window_of_shards_is_in_flight() -> None:
    """The client holds a bounded number of futures however many shards there are."""
    from distributed import Client, LocalCluster

    most = 0
    stages = {"a": lambda out, shard: shard, "b": lambda out, shard, found: found}
    seen = []
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as local,
        Client(local) as client,
    ):
        job = graph.Job("out", stages, lambda: None, Execution("local"), few=False)
        for receipt in graph._windowed(client, job, list(range(100)), lambda progress: None):
            most = max(most, len(client.futures))
            seen.append(receipt)
    assert sorted(seen) == list(range(100))
    assert most <= 3 * (2 * 2 + 2)


@pytest.mark.parametrize("scheduler", ["nonsense", "/no/such/file.json", "tcp://127.0.0.1:1"])
def test_a_scheduler_that_is_none_is_named(
    many: Path, bundle: Bundle, tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 1)
    with pytest.raises(ClusterError, match=scheduler):
        process(wanted(many, tmp_path / "out", bundle), Execution(scheduler))


def test_a_worker_that_cannot_see_the_run_is_named(
    running: Path, many: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "requirements", lambda run: lambda: "cannot see the run")
    with pytest.raises(ClusterError, match="cannot see"):
        process(wanted(many, tmp_path / "out", bundle), Execution(str(running)))
