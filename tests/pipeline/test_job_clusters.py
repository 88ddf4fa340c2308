"""Workers that a run asks for: the scripts that are submitted, jobs of a batch system played by processes, pods."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import small_model
from command_line import call
from compared_runs import same_tables
from conftest import wanted

from ddfa_batch.pipeline import cluster as clusters
from ddfa_batch.pipeline import job_clusters
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.progress import Progress
from ddfa_batch.pipeline.shard_window import Room
from ddfa_batch.schemas.config import Execution
from ddfa_batch.schemas.errors import ClusterError, MissingPackageError, OptionError
from ddfa_batch.schemas.job_clusters import BATCH_SYSTEMS, BatchCluster, KubernetesCluster, Volume, decode_cluster
from ddfa_batch.tasks.bundles.model_bundle import Bundle

pytestmark = pytest.mark.filterwarnings("default")
GOLDEN = Path(__file__).parent / "golden"
N_IMAGES = 12
#: A batch system of one machine: it starts what is submitted in a session of its own, and ends it when told to.
SBATCH = '#!/bin/sh\ncp "$1" "{folder}/script.$$"\nsetsid sh "{folder}/script.$$" >/dev/null 2>&1 </dev/null &\n'
SUBMITTED = 'echo $! >>"{folder}/jobs"\necho "Submitted batch job $!"\n'
SCANCEL = '#!/bin/sh\necho "$1" >>"{folder}/cancelled"\nkill -TERM -- "-$1"\n'


def asked_of(kind: str) -> BatchCluster:
    common: dict[str, Any] = {
        "workers": 8,
        "cores": 4,
        "memory": "16GiB",
        "environment": {"WORDS": "it's two"},
        "python": "/opt/python/bin/python",
        "prologue": ["module load python"],
    }
    if kind == "htcondor":
        return BatchCluster(kind, **common, directives=['Requirements = OpSys == "LINUX"'])
    return BatchCluster(kind, **common, walltime="04:00", queue="cpu", account="faces", directives=["--example 1"])


@pytest.mark.parametrize("kind", BATCH_SYSTEMS)
def test_the_script_of_a_job_is_the_one_that_was_read_through(kind: str) -> None:
    assert clusters.submission(asked_of(kind)) == (GOLDEN / f"{kind}.txt").read_text()


def test_the_pods_are_those_that_were_read_through() -> None:
    asked = KubernetesCluster("registry/ddfa-batch:0.1", workers=3, volumes=[Volume("/data", "photos")])
    assert clusters.submission(asked) + "\n" == (GOLDEN / "kubernetes.json").read_text()


@pytest.mark.parametrize("kind", [kind for kind in BATCH_SYSTEMS if kind != "htcondor"])
def test_shellcheck_finds_nothing_in_the_scripts(kind: str, tmp_path: Path) -> None:
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    (tmp_path / "job.sh").write_text(clusters.submission(asked_of(kind)))
    found = subprocess.run(
        [shellcheck, "--shell=bash", tmp_path / "job.sh"], check=False, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which sbatch and scancel, first on the PATH, keep the process of each job."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH + SUBMITTED), ("scancel", SCANCEL)):
        (folder / name).write_text(text.format(folder=folder))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


def jobs(slurm: Path) -> list[int]:
    return [int(line) for line in (slurm / "jobs").read_text().split()]


def test_a_run_submits_jobs_replaces_one_that_ended_and_leaves_none(
    slurm: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The job ends between two looks at what is there, as a rule: that it was there is known all the same."""
    monkeypatch.setattr(job_clusters, "_LOOK_SECONDS", 1.0)
    monkeypatch.setattr(job_clusters, "_LOST_SECONDS", 0.5)
    many = small_model.pictures(tmp_path / "many", [i % 4 for i in range(N_IMAGES)])
    process(wanted(many, tmp_path / "expected", bundle, shard_size=2), Execution("in-process"))
    killed: list[int] = []

    def end_a_job(progress: Progress) -> None:
        if progress.totals.shards_done >= 1 and not killed:
            killed.append(jobs(slurm)[0])
            for process in [*psutil.Process(killed[0]).children(recursive=True), psutil.Process(killed[0])]:
                process.kill()

    asked = BatchCluster("slurm", workers=1, host="127.0.0.1", local_directory=str(tmp_path), interface="lo")
    execution = Execution(cluster=asked)
    _, totals = process(wanted(many, tmp_path / "out", bundle, shard_size=2), execution, report=end_a_job)
    assert "ended within 60 s of its start, and another is submitted" in caplog.text
    assert len(jobs(slurm)) == 2  # the only worker was gone: without another job the run would not have ended
    assert totals.images == N_IMAGES
    assert totals.n_errors == 0
    same_tables(tmp_path / "out", tmp_path / "expected")
    left = [psutil.Process(pid) for pid in jobs(slurm) if psutil.pid_exists(pid)]
    assert psutil.wait_procs(left, timeout=30)[1] == []
    assert set(map(str, jobs(slurm))) == set((slurm / "cancelled").read_text().split())


def test_jobs_that_never_start_are_said(slurm: Path, bundle: Bundle, photos: Path, tmp_path: Path) -> None:
    (slurm / "sbatch").write_text('#!/bin/sh\necho "Submitted batch job 4194304"\n')
    asked = BatchCluster("slurm", host="127.0.0.1", wait=0.5)
    with pytest.raises(ClusterError, match="slurm started no worker in"):
        process(wanted(photos, tmp_path / "out", bundle), Execution(cluster=asked))


def test_only_jobs_that_had_workers_and_have_none_for_long_are_ended() -> None:
    absent: dict[str, float] = {}
    both, one = ["run-0-0", "run-0-1", "run-1"], ["run-1"]
    assert job_clusters._ended(absent, ["run-0", "run-1", "run-2"], both, 0) == []
    assert job_clusters._ended(absent, ["run-0", "run-1", "run-2"], one, 100) == []
    assert job_clusters._ended(absent, ["run-0", "run-1", "run-2"], both, 150) == []  # it came back
    assert job_clusters._ended(absent, ["run-0", "run-1", "run-2"], one, 200) == []
    assert job_clusters._ended(absent, ["run-0", "run-1", "run-2"], one, 319) == []
    assert job_clusters._ended(absent, ["run-0", "run-1", "run-2"], one, 320) == ["run-0"]


def test_more_shards_are_in_flight_when_more_workers_have_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        threads = 1

        def nthreads(self) -> dict[str, int]:
            return {"worker": self.threads}

    client, now = Client(), [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    room = Room(client)
    assert room.shards() == 3
    client.threads, now[0] = 4, 100.0
    assert room.shards() == 9


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"kind": "slurm", "worker": 2}, "unknown"),
        ({"kind": "slurm", "workers": 0}, "workers of the cluster is at least 1"),
        ({"kind": "slurm", "memory": "much"}, "memory of the cluster is a size such as 32GiB, but is 'much'"),
        ({"kind": "slurm", "queue": "a\n#SBATCH -x"}, "queue of the cluster has a line break"),
        ({"kind": "slurm", "directives": ["a\nb"]}, "directives of the cluster has a line break"),
        ({"kind": "slurm", "environment": {"A B": "1"}}, "'A B', which is no variable's name"),
        ({"kind": "slurm", "environment": {"A": 1}}, "environment"),
        ({"kind": "htcondor", "queue": "a"}, "queue of the cluster means nothing to HTCondor"),
        ({"kind": "htcondor", "directives": ["a"]}, "NAME = VALUE"),
        ({"kind": "kubernetes"}, "image"),
        ({"kind": "cray"}, "kind of the cluster is one of slurm, pbs"),
        ({}, "kind of the cluster is one of"),
    ],
    ids=str,
)
def test_what_no_cluster_can_have_is_said_in_a_sentence(table: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError) as told:
        decode_cluster(table, None, "cluster.toml")
    assert said in str(told.value)
    assert "\n" not in str(told.value).replace("\\n", "")


def test_keys_may_have_dashes_and_the_option_outweighs_the_kind() -> None:
    asked = decode_cluster({"kind": "pbs", "log-directory": "/logs"}, "slurm", "cluster.toml")
    assert asked == BatchCluster("slurm", log_directory="/logs")


def test_a_cluster_needs_what_its_extra_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(MissingPackageError, match=r"not installed here: pip install 'ddfa-batch\[jobqueue\]'"):
        clusters.submission(BatchCluster("slurm"))


CONFIG = "images = '{images}'\nout = '{out}'\n[cluster]\nkind = 'slurm'\nworkers = 2\nqueue = 'long'\n"


def test_a_dry_run_shows_the_script_of_the_cluster_table(photos: Path, models: Path, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(CONFIG.format(images=photos, out=tmp_path / "out"))
    answer = call("process", "--config", tmp_path / "run.toml", "--dry-run", models=models)
    assert answer.code == 0, answer.stderr
    assert "Each job, for 2 workers on slurm:" in answer.stdout
    assert "#SBATCH -p long" in answer.stdout
    assert not (tmp_path / "out").exists()


def test_a_scheduler_and_a_cluster_exclude_each_other(photos: Path, models: Path, tmp_path: Path) -> None:
    answer = call("process", photos, tmp_path, "--cluster", "slurm", "--scheduler", "local", "--dry-run", models=models)
    assert answer.code == 2
    assert "leave out --scheduler" in answer.stderr
