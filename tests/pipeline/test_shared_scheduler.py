"""One scheduler that several commands use at once, and workers that see other folders than the rest."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from compared_runs import same_tables
from conftest import wanted
from dask_clusters import Cluster, stop
from distributed import Client

from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.progress import Progress
from ddfa_batch.schemas.config import Execution
from ddfa_batch.schemas.errors import ClusterError, RunFolderError
from ddfa_batch.tasks.bundles.model_bundle import Bundle

pytestmark = pytest.mark.filterwarnings("default")


def begun(many: Path, out: Path, bundle: Bundle, running: Cluster) -> subprocess.Popen[str]:
    """A command on the cluster, whose first shard is done."""
    words = f"process {many} {out} --quiet --model {bundle.folder} --shard-size 3 --scheduler {running.file}"
    command = subprocess.Popen(
        [str(Path(sys.executable).with_name("ddfa-batch")), *shlex.split(words)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and command.poll() is None and not list(out.glob("shards/[0-9]*.json")):
        time.sleep(0.005)
    return command


def test_commands_with_folders_of_their_own_share_the_workers(
    two_workers: Cluster, many: Path, bundle: Bundle, expected: Path, tmp_path: Path
) -> None:
    other = begun(many, tmp_path / "other", bundle, two_workers)
    beside = not (tmp_path / "other/vertices.h5").exists()
    process(wanted(many, tmp_path / "out", bundle, shard_size=3), Execution(str(two_workers.file)))
    assert other.communicate(timeout=60)[1] == ""
    assert (beside, other.returncode) == (True, 0)
    same_tables(tmp_path / "out", expected)
    same_tables(tmp_path / "other", expected)


def test_the_second_command_in_a_folder_is_refused_and_the_first_goes_on(
    two_workers: Cluster, many: Path, bundle: Bundle, expected: Path, tmp_path: Path
) -> None:
    first = begun(many, tmp_path / "out", bundle, two_workers)
    with pytest.raises(RunFolderError, match=rf"out is being worked in by .*{first.pid}.*wait until it ends"):
        process(wanted(many, tmp_path / "out", bundle, shard_size=3), Execution(str(two_workers.file)))
    assert first.communicate(timeout=60)[1] == ""
    assert first.returncode == 0
    same_tables(tmp_path / "out", expected)


# ------------------------------------------------------------------------------------ another view of the folders


@contextmanager
def worker_that_does_not_see(folder: Path, running: Cluster) -> Iterator[None]:
    """A third worker, for which another, empty file system lies over a folder."""
    alone = ["unshare", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no file systems may be mounted here")
    where = f"--scheduler-file {running.file} --host 127.0.0.1 --local-directory {running.file.parent}"
    dask = f"{sys.executable} -m dask worker --nthreads 1 --no-dashboard {where}"
    words = f"mount -t tmpfs none {folder} && exec {dask}"
    started = subprocess.Popen(
        [*alone, "sh", "-c", words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    with Client(scheduler_file=str(running.file)) as client:
        try:
            client.wait_for_workers(3, timeout=60)
            yield
        finally:
            stop(started)
            deadline = time.monotonic() + 60
            while len(client.scheduler_info()["workers"]) > 2 and time.monotonic() < deadline:
                time.sleep(0.05)


def test_a_worker_that_does_not_see_the_inputs_is_told_of_before_anything_is_done(
    two_workers: Cluster, many: Path, bundle: Bundle, expected: Path, tmp_path: Path
) -> None:
    request = wanted(many, tmp_path / "out", bundle, shard_size=3)
    said = rf"^The worker at tcp://\S+ cannot read the first input, {many}/000.png \(No such file or directory\): "
    with worker_that_does_not_see(many, two_workers), pytest.raises(ClusterError, match=said):
        process(request, Execution(str(two_workers.file)))
    assert not list(tmp_path.glob("out/shards/[0-9]*"))
    process(request, Execution(str(two_workers.file)))
    same_tables(tmp_path / "out", expected)


def test_a_worker_that_joins_and_does_not_see_the_output_is_told_of_and_nothing_is_lost(
    two_workers: Cluster, many: Path, bundle: Bundle, expected: Path, tmp_path: Path
) -> None:
    request = wanted(many, tmp_path / "runs/out", bundle, shard_size=1)  # enough left when it has joined
    (tmp_path / "runs").mkdir()
    joined = worker_that_does_not_see(tmp_path / "runs", two_workers)

    def join(progress: Progress) -> None:
        if progress.totals.shards_done == 2 and not entered:
            entered.append(True)
            joined.__enter__()

    entered: list[bool] = []
    said = rf"^The worker at tcp://\S+ cannot see {tmp_path}/runs/out: the run folder, the images and the model "
    try:
        with pytest.raises(ClusterError, match=said):
            process(request, Execution(str(two_workers.file)), report=join)
    finally:
        joined.__exit__(None, None, None)
    process(request, Execution(str(two_workers.file)))
    process(wanted(many, tmp_path / "plain", bundle, shard_size=1), Execution("in-process"))
    same_tables(tmp_path / "runs/out", tmp_path / "plain")
