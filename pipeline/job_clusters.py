"""Workers that a run asks for: jobs submitted to a batch system, pods made by Kubernetes; gone with the run."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from ddfa_batch.schemas.errors import ClusterError
from ddfa_batch.schemas.extras import from_extra
from ddfa_batch.schemas.job_clusters import BatchCluster, KubernetesCluster

_log = logging.getLogger(__name__)

#: Of dask-jobqueue: the class of each batch system, and what it calls who pays.
_CLASSES = {
    "slurm": ("SLURMCluster", "account"),
    "pbs": ("PBSCluster", "account"),
    "lsf": ("LSFCluster", "project"),
    "sge": ("SGECluster", "project"),
    "htcondor": ("HTCondorCluster", ""),
}
#: Seconds between two looks for jobs that ended before their time, and seconds after which one is taken to have ended.
_LOOK_SECONDS, _LOST_SECONDS = 15.0, 120.0
#: A job that lived for fewer seconds is told of, once: the next will hardly live longer.
_BRIEF_SECONDS = 60.0
_BRIEF = (
    "Job %s ended within %.0f s of its start, and another is submitted in its place: look at the logs of the jobs "
    "(log-directory) before all end so."
)
#: How Kubernetes calls the cluster of a run, with a number besides.
_POD_NAME = "ddfa-batch"


@contextlib.contextmanager
def submitted(asked: BatchCluster | KubernetesCluster, environment: dict[str, str]) -> Iterator[Any]:
    """A Dask cluster whose workers are asked for, with variables of `environment` besides their own.

    Raises `ClusterError` where what it needs is not installed, or refuses.
    """
    try:
        made = _pods(asked, environment) if isinstance(asked, KubernetesCluster) else batch_jobs(asked, environment)
    except (OSError, RuntimeError, ValueError) as fault:
        raise ClusterError(f"The {asked.kind} cluster could not be started ({_first_line(fault)}).") from None
    try:
        if isinstance(asked, KubernetesCluster):
            yield made
        else:
            made.scale(jobs=asked.jobs)
            with _renewed(made, asked.jobs):
                yield made
    finally:
        made.close()


def script(asked: BatchCluster | KubernetesCluster, environment: dict[str, str]) -> str:
    """What is handed to the batch system for each job, or to Kubernetes, as text."""
    if isinstance(asked, KubernetesCluster):
        return json.dumps(pod_specification(asked, environment), indent=2)
    _, job = _classes(asked)
    text: str = job(scheduler="tcp://SCHEDULER:PORT", name="WORKER", **job_arguments(asked, environment)).job_script()
    return text


def job_arguments(asked: BatchCluster, environment: dict[str, str]) -> dict[str, Any]:
    """What dask-jobqueue's class of job is told."""
    exports = [f"export {name}={shlex.quote(value)}" for name, value in (environment | asked.environment).items()]
    directives: Any = asked.directives
    told: dict[str, Any] = {"queue": asked.queue, "walltime": asked.walltime}
    if asked.kind == "htcondor":
        pairs = (line.split("=", 1) for line in asked.directives)
        directives = {name.strip(): value.strip() for name, value in pairs}
        told = {"disk": asked.disk}
    elif asked.account is not None:
        told[_CLASSES[asked.kind][1]] = asked.account
    return told | {
        "cores": asked.cores,
        "processes": asked.cores,
        "memory": asked.memory,
        "job_extra_directives": directives,
        "job_script_prologue": [*exports, *asked.prologue],
        "python": asked.python,
        "interface": asked.interface,
        "local_directory": asked.local_directory,
        "log_directory": asked.log_directory,
        "job_name": "ddfa-batch",
    }


def batch_jobs(asked: BatchCluster, environment: dict[str, str]) -> Any:
    """The cluster of dask-jobqueue, which has no jobs yet. Its dashboard is for this machine only."""
    where = {} if asked.host is None else {"host": asked.host}
    options = {"dashboard_address": "127.0.0.1:0", **where}
    cluster, _ = _classes(asked)
    return cluster(scheduler_options=options, **job_arguments(asked, environment))


def _classes(asked: BatchCluster) -> tuple[Any, Any]:
    cluster = getattr(from_extra("dask_jobqueue"), _CLASSES[asked.kind][0])
    return cluster, cluster.job_cls


# -------------------------------------------------------------------------------------- jobs that ended


@contextlib.contextmanager
def _renewed(cluster: Any, jobs: int) -> Iterator[None]:
    """Meanwhile submit another job for every one that ended before its time: at its walltime, or with its node."""
    done = threading.Event()
    arrived = _arrivals(cluster.scheduler)

    def look() -> None:
        absent: dict[str, float] = {}
        told = False
        while not done.wait(_LOOK_SECONDS):
            names = [str(worker["name"]) for worker in cluster.scheduler_info["workers"].values()]
            # Also those that came and went since the last look.
            absent = dict.fromkeys(list(arrived), float("inf")) | absent
            now = time.monotonic()
            if ended := _ended(absent, list(cluster.workers), names, now):
                brief = [job for job in ended if now - arrived.pop(job, 0) < _LOST_SECONDS + _BRIEF_SECONDS]
                if brief and not told:
                    told = True
                    _log.warning(_BRIEF, brief[0], _BRIEF_SECONDS)
                cluster.sync(cluster.scale_down, ended)
                cluster.scale(jobs=jobs)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _arrivals(scheduler: Any) -> dict[str, float]:
    """When the first worker of each job came: kept up to date by the scheduler, as long as it lives."""
    from distributed import SchedulerPlugin

    arrived: dict[str, float] = {}

    class Arrivals(SchedulerPlugin):
        def add_worker(self, scheduler: Any, worker: str) -> None:
            for job in _jobs_of(str(scheduler.workers[worker].name)):
                arrived.setdefault(job, time.monotonic())

    scheduler.add_plugin(Arrivals())
    return arrived


def _jobs_of(worker: str) -> tuple[str, str]:
    """What the job of a worker may be called: as the worker, or without the number at its end (job-3)."""
    return worker, worker.rpartition("-")[0]


def _ended(absent: dict[str, float], jobs: Iterable[str], workers: Iterable[str], now: float) -> list[str]:
    """Jobs that had workers and have had none for `_LOST_SECONDS`.

    absent: of every job that ever had workers, since when it has none; infinity while it has some. It is kept up to
    date here.
    """
    alive = {name for worker in workers for name in _jobs_of(worker)}
    ended = []
    for job in map(str, jobs):
        if job in alive:
            absent[job] = float("inf")
        elif job in absent:
            absent[job] = min(absent[job], now)
            if now - absent[job] >= _LOST_SECONDS:
                ended.append(job)
                del absent[job]
    return ended


# -------------------------------------------------------------------------------------------- Kubernetes


def _pods(asked: KubernetesCluster, environment: dict[str, str]) -> Any:
    module = from_extra("dask_kubernetes.operator")
    specification = pod_specification(asked, environment, f"{_POD_NAME}-{uuid.uuid4().hex[:8]}")
    return module.KubeCluster(namespace=asked.namespace, custom_cluster_spec=specification)


def pod_specification(asked: KubernetesCluster, environment: dict[str, str], name: str = _POD_NAME) -> dict[str, Any]:
    """The `DaskCluster` that Dask's operator makes pods of: one worker each, with its volumes, and a scheduler."""
    module = from_extra("dask_kubernetes.operator")
    amount = {"cpu": str(asked.cores), "memory": asked.memory.removesuffix("B").replace(" ", "")}
    specification: dict[str, Any] = module.make_cluster_spec(
        name=name,
        image=asked.image,
        n_workers=asked.workers,
        resources={"requests": amount, "limits": amount},
        env=environment | asked.environment,
        worker_command="dask worker --nthreads 1",
    )
    pod = specification["spec"]["worker"]["spec"]
    names = [f"volume-{i}" for i in range(len(asked.volumes))]
    pod["volumes"] = [
        {"name": name, "persistentVolumeClaim": {"claimName": volume.claim}}
        for name, volume in zip(names, asked.volumes, strict=True)
    ]
    pod["containers"][0]["volumeMounts"] = [
        {"name": name, "mountPath": volume.path} for name, volume in zip(names, asked.volumes, strict=True)
    ]
    return specification


def _first_line(fault: BaseException) -> str:
    return next(iter(str(fault).strip().splitlines()), type(fault).__name__).rstrip(".")
