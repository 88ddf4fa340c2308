"""Dask clusters: workers are verified and left as they were, deaths cost nothing but time, faults are a sentence."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.config
import pytest
import small_model
from compared_runs import same_tables
from conftest import wanted
from dask_clusters import Cluster, cluster, local_workers

from ddfa_batch.commands.execution import expect_workers
from ddfa_batch.commands.options import RunSettings
from ddfa_batch.pipeline import cluster as clusters
from ddfa_batch.pipeline import dask_settings, graph, outstanding, plan, worker_template
from ddfa_batch.pipeline import process as steps
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.progress import Progress
from ddfa_batch.pipeline.requirements import Requirements, requirements, worker_fault
from ddfa_batch.schemas.config import FEW_IMAGES, Execution
from ddfa_batch.schemas.errors import ClusterError
from ddfa_batch.tasks.bundles.model_bundle import Bundle

pytestmark = pytest.mark.filterwarnings("default")


def test_a_worker_killed_in_the_middle_costs_nothing_but_time(
    many: Path, bundle: Bundle, expected: Path, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill_one(progress: Progress) -> None:
        if progress.totals.shards_done >= 3 and not killed:
            workers = local_workers()
            killed.append(workers[-1].pid)
            workers[-1].kill()

    request = wanted(many, tmp_path / "out", bundle, shard_size=3)
    _, totals = process(request, Execution("local", 2), report=kill_one)
    assert killed
    assert totals.images == len(list(many.iterdir()))
    assert totals.n_errors == 0
    same_tables(tmp_path / "out", expected)


def _its_environment(out: str, shard: int) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in ("MALLOC_ARENA_MAX", "DDFA_TEST_SET_LATE")}


def test_workers_have_the_environment_of_now_whenever_their_template_was_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def seen() -> list[Any]:
        one = replace(job(str(tmp_path), {"only": _its_environment}), execution=Execution("local", 1))
        return list(graph.run_shards(one, [0], lambda progress: None))

    monkeypatch.delenv("DDFA_TEST_SET_LATE", raising=False)
    assert seen() == [{"MALLOC_ARENA_MAX": "1", "DDFA_TEST_SET_LATE": None}]
    monkeypatch.setenv("DDFA_TEST_SET_LATE", "late")
    assert seen() == [{"MALLOC_ARENA_MAX": "1", "DDFA_TEST_SET_LATE": "late"}]


@pytest.mark.parametrize(
    ("settings", "begun"),
    [
        (RunSettings(workers=2), True),
        (RunSettings(scheduler="local"), True),
        (RunSettings(), False),  # how much there is to do has to be counted first
        (RunSettings(scheduler="in-process"), False),
        (RunSettings(workers=2, dry_run=True), False),
        (RunSettings(workers=2, cluster="slurm"), False),
    ],
)
def test_workers_asked_for_in_so_many_words_are_expected_at_once(
    settings: RunSettings, begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.setattr(worker_template, "start", started.append)
    expect_workers(settings)
    assert started == ([dask_settings.TEMPLATE_ENVIRONMENT] if begun else [])


@pytest.mark.parametrize(("n", "begun"), [(FEW_IMAGES - 1, 0), (FEW_IMAGES, 1)])
def test_workers_are_expected_for_a_folder_with_more_than_one_process_does(
    n: int, begun: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for i in range(n):
        (tmp_path / str(i)).touch()
    started: list[object] = []
    monkeypatch.setattr(worker_template, "start", started.append)
    expect_workers(RunSettings(), [str(tmp_path / "0"), str(tmp_path)])
    assert len(started) == begun


def test_what_workers_are_forked_from_imports_beside_the_command() -> None:
    """It takes as long as the command itself, which therefore imports nothing large before."""
    command = [sys.executable, "-c", _TELLS_THE_START, "process", "/nowhere", "/nowhere/out", "--workers", "2"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.stdout.splitlines()[0] == "begun without numpy"


#: Runs a command and tells when what its workers would be forked from is to start, which it does not.
_TELLS_THE_START = """
import sys
from ddfa_batch.cli import main
from ddfa_batch.pipeline import worker_template
worker_template.start = lambda _: print("begun with numpy" if "numpy" in sys.modules else "begun without numpy")
main()
"""


def test_workers_start_anew_where_the_fork_servers_socket_has_no_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A socket's path holds some hundred bytes, and the fork server's lies in the temporary folder."""
    usual = worker_template.method()
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    assert worker_template.method() == worker_template.SPAWNED
    monkeypatch.undo()
    assert worker_template.method() == usual


@pytest.mark.filterwarnings("error:Port")
def test_a_local_cluster_does_not_mind_who_has_dasks_usual_port() -> None:
    with socket.socket() as taken:
        with contextlib.suppress(OSError):
            # if that fails somebody else has it, as well
            taken.bind(("127.0.0.1", 8787))
            taken.listen()
        with clusters.connected(Execution("local", 1)) as client:
            assert "8787" not in client.dashboard_link


@pytest.mark.parametrize(("named", "preloads"), [(None, []), ("a.py", ["a.py"]), (["a.py", "b"], ["a.py", "b"])])
def test_a_preload_of_the_users_is_one_name_or_several(named: object, preloads: list[str]) -> None:
    with dask.config.set({"distributed.worker.preload": named}):
        assert dask_settings.preloads() == preloads


def test_a_run_in_this_process_does_not_import_dask() -> None:
    words = "import sys, ddfa_batch.pipeline.process; print(sorted({'dask', 'distributed', 'av'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_stages_have_names_a_dashboard_shows() -> None:
    from dask.utils import key_split

    keys = graph.shard_graph(job("/nowhere", steps.STAGES), 7, 1.0).dask.keys()
    assert {key_split(key) for key in keys} == {"find-faces", "reconstruct", "write", "commit"}


def job(out: str, stages: graph.Stages, fault: Any = lambda: None) -> graph.Job:
    return graph.Job(out, stages, fault, Execution("local"), few=False)


def test_only_a_window_of_shards_is_in_flight() -> None:
    """The client holds a bounded number of futures however many shards there are."""
    from distributed import Client, LocalCluster

    most = 0
    stages = {"a": lambda out, shard: shard, "b": lambda out, shard, found: found}
    seen: list[Any] = []
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as local,
        Client(local) as client,
    ):
        for receipt in graph._windowed(client, job("out", stages), list(range(100)), lambda progress: None):
            most = max(most, len(client.futures))
            seen.append(receipt)
    assert sorted(seen) == list(range(100))
    assert most <= 3 * (2 * 2 + 2)


@pytest.mark.parametrize("scheduler", ["nonsense", "/no/such/file.json", "tcp://127.0.0.1:1"])
def test_a_scheduler_that_is_none_is_named(
    many: Path, bundle: Bundle, tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "_CONNECT_SECONDS", 1)
    with pytest.raises(ClusterError, match=scheduler):
        process(wanted(many, tmp_path / "out", bundle), Execution(scheduler))


def test_a_scheduler_without_workers_is_said(
    many: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "_WORKER_SECONDS", 1)
    with cluster(tmp_path, n_workers=0) as idle, pytest.raises(ClusterError, match="has had no worker for 1 s"):
        process(wanted(many, tmp_path / "out", bundle), Execution(str(idle.file)))


def test_a_scheduler_lost_in_mid_run_is_a_sentence_and_the_same_command_resumes(
    many: Path, bundle: Bundle, expected: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [
        str(Path(sys.executable).with_name("ddfa-batch")),
        "process",
        str(many),
        str(out),
        "--quiet",
        "--model",
        str(bundle.folder),
        "--shard-size",
        "3",
        "--scheduler",
    ]
    with cluster(tmp_path, n_workers=1) as doomed:
        running = subprocess.Popen([*command, str(doomed.file)], stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(list(out.glob("shards/[0-9]*.json"))) < 2:
            time.sleep(0.002)
        os.killpg(doomed.scheduler.pid, signal.SIGKILL)
        _, told = running.communicate(timeout=60)
    assert running.returncode == 1
    assert told.startswith("Error: The connection to Dask's scheduler was lost in mid-run.")
    assert len(told.splitlines()) == 1
    process(wanted(many, out, bundle, shard_size=3), Execution("in-process"))
    same_tables(out, expected)


def test_a_scheduler_that_is_connected_to_in_vain_is_lost(two_workers: Cluster) -> None:
    in_vain = OSError("Timed out trying to connect to tcp://127.0.0.1:1 after 30 s")
    with (
        pytest.raises(ClusterError, match="lost in mid-run"),
        clusters.connected(Execution(str(two_workers.file))) as client,
    ):
        client.close()
        raise in_vain


def test_another_fault_of_the_system_is_no_lost_scheduler(two_workers: Cluster) -> None:
    with pytest.raises(BrokenPipeError), clusters.connected(Execution(str(two_workers.file))):
        raise BrokenPipeError


# ------------------------------------------------------------------------------------------- the workers


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "0.0.1"}, "has ddfa-batch .*, and the command 0.0.1: install the same"),
        ({"out": "/nowhere"}, "cannot see /nowhere: the run folder"),
        ({"model": "/nowhere"}, r"cannot read the model in /nowhere \(No such file or directory\)"),
        ({"digest": "0" * 64}, "has another model in .*small than the run was planned with"),
        ({"probe": "/nowhere/1.png"}, r"cannot read the first input, /nowhere/1.png \(No such file or directory\)"),
    ],
)
def test_a_worker_that_cannot_do_the_work_is_refused_in_a_sentence(
    two_workers: Cluster,
    many: Path,
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    reason: str,
) -> None:
    """Before any work is done; an input that no worker reads is no longer a run of `missing` rows."""

    def changed(run: plan.Run) -> Any:
        return functools.partial(worker_fault, replace(requirements(run).args[0], **change))  # type: ignore[attr-defined]

    monkeypatch.setattr(outstanding, "requirements", changed)
    with pytest.raises(ClusterError, match=f"The worker at tcp://.* {reason}"):
        process(wanted(many, tmp_path / "out", bundle), Execution(str(two_workers.file)))
    assert not list(tmp_path.glob("out/shards/[0-9]*"))


def found_nowhere_else() -> None:
    """A function that workers cannot import, for they do not have this module."""


def test_a_worker_without_ddfa_batch_is_named(
    two_workers: Cluster, many: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outstanding, "requirements", lambda run: found_nowhere_else)
    with pytest.raises(ClusterError, match=r"The worker at tcp://.* cannot run ddfa-batch \(.*ModuleNotFoundError"):
        process(wanted(many, tmp_path / "out", bundle), Execution(str(two_workers.file)))


def test_a_worker_that_joins_later_is_asked_before_its_first_stage(two_workers: Cluster) -> None:
    from distributed import Client

    needed = Requirements("/nowhere", "0", "/nowhere", "0", None)
    asked = job("/nowhere", {"a": lambda out, shard: shard}, functools.partial(worker_fault, needed))
    with Client(scheduler_file=str(two_workers.file)) as client, pytest.raises(ClusterError, match="The worker at tcp"):
        list(graph._windowed(client, asked, [1], lambda progress: None))


def test_the_first_input_that_can_be_read_here_is_asked_for(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{tmp_path}/gone.png\n{tmp_path}/in/000.png\n")
    small_model.pictures(tmp_path / "in", [1])
    run = plan.prepare(wanted(tmp_path / "list.txt", tmp_path / "out", bundle))
    assert requirements(run).args[0].probe == str(tmp_path / "in/000.png")  # type: ignore[attr-defined]


def settings(dask_worker: Any) -> dict[str, Any]:
    """What of a worker the project changes while it works there."""
    import cv2
    import pyarrow as pa
    from threadpoolctl import threadpool_info

    return {
        "opencv": cv2.getNumThreads(),
        "arrow": (pa.cpu_count(), pa.io_thread_count()),
        "blas": sorted(pool["num_threads"] for pool in threadpool_info()),
        "plugins": sorted(dask_worker.plugins),
    }


def several_threads() -> None:
    import cv2

    cv2.setNumThreads(3)


def test_workers_and_client_are_left_as_they_were(
    two_workers: Cluster, many: Path, bundle: Bundle, tmp_path: Path
) -> None:
    import cloudpickle
    from distributed import Client

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    log = logging.getLogger("distributed.client")
    level = log.level
    with Client(scheduler_file=str(two_workers.file)) as client:
        client.wait_for_workers(2, timeout=60)
        client.run(several_threads)
        before = client.run(settings)
        during: list[dict[str, Any]] = []

        def look(progress: Progress) -> None:
            if progress.totals.shards_done == 1 and not during:
                during.extend(client.run(settings).values())

        process(wanted(many, tmp_path / "out", bundle, shard_size=3), Execution(str(two_workers.file)), report=look)
        assert all(each["opencv"] == 1 and set(each["blas"]) == {1} and each["arrow"] == (1, 2) for each in during)
        assert client.run(settings) == before
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert log.level == level
    assert [each["opencv"] for each in before.values()] == [3, 3]


def test_what_a_command_that_died_made_of_workers_is_undone_by_the_next(two_workers: Cluster) -> None:
    from distributed import Client

    def prepared(dask_worker: Any) -> int:
        return sum(name.startswith("ddfa-batch") for name in dask_worker.plugins)

    with Client(scheduler_file=str(two_workers.file)) as dies:
        dies.wait_for_workers(2, timeout=60)
        with clusters.prepared(dies, lambda: None):
            dies.close()
    with Client(scheduler_file=str(two_workers.file)) as client:
        assert set(client.run(prepared).values()) == {1}
        with clusters.prepared(client, lambda: None):
            assert set(client.run(prepared).values()) == {1}
        assert set(client.run(prepared).values()) == {0}


def test_one_thread_is_kept_until_the_last_has_left() -> None:
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    with clusters.one_thread_each():
        with clusters.one_thread_each():
            assert cv2.getNumThreads() == 1
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == 2
    cv2.setNumThreads(before)
