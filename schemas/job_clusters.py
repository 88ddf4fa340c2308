"""Clusters whose workers a run asks for itself: jobs of a batch system, or pods of Kubernetes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any

from ddfa_batch.schemas.decoding import Document, typed
from ddfa_batch.schemas.errors import OptionError

#: Batch systems that jobs are submitted to.
BATCH_SYSTEMS = ("slurm", "pbs", "lsf", "sge", "htcondor")
KUBERNETES = "kubernetes"
#: All kinds of clusters.
CLUSTER_KINDS = (*BATCH_SYSTEMS, KUBERNETES)
#: Seconds that the first worker is waited for, unless it is said otherwise: queues are long.
_WAIT_SECONDS = 3600.0
_SIZE = re.compile(r"\d+(\.\d+)? ?([KMGT]i?)?B")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: What HTCondor has no words for.
_NOT_HTCONDORS = ("queue", "account", "walltime")


def _check(cluster: BatchCluster | KubernetesCluster) -> None:
    """Raise `OptionError` for what no cluster can have."""
    for name in ("workers", "cores"):
        if getattr(cluster, name) < 1:
            raise OptionError(f"{name} of the cluster is at least 1, but is {getattr(cluster, name)}.")
    if not _SIZE.fullmatch(cluster.memory):
        raise OptionError(f"memory of the cluster is a size such as 32GiB, but is {cluster.memory!r}.")
    if cluster.wait <= 0:
        raise OptionError(f"wait of the cluster is above 0 seconds, but is {cluster.wait}.")
    for name in cluster.environment:
        if not _VARIABLE.fullmatch(name):
            raise OptionError(f"environment of the cluster has {name!r}, which is no variable's name.")
    for each in fields(cluster):
        _refuse_line_breaks(each.name, getattr(cluster, each.name))


def _refuse_line_breaks(name: str, value: Any) -> None:
    """A line break in a directive would begin another line of the job's script."""
    texts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    if any(isinstance(text, str) and ("\n" in text or "\r" in text) for text in texts):
        raise OptionError(f"{name} of the cluster has a line break in it; give one line each.")


@dataclass(frozen=True)
class BatchCluster:
    """Workers as jobs of a batch system; raises `OptionError` for what it cannot have."""

    #: One of `BATCH_SYSTEMS`.
    kind: str
    #: Workers in all, one core each.
    workers: int = 1
    #: Cores of a job, and with it its workers.
    cores: int = 1
    #: Memory of a job.
    memory: str = "4GiB"
    #: How long a job may take, in the words of the batch system; None for its default.
    walltime: str | None = None
    #: The queue or partition, and who pays.
    queue: str | None = None
    account: str | None = None
    #: Disk of a job; only HTCondor asks for it.
    disk: str = "4GiB"
    #: More directives, without their #SBATCH or the like; of HTCondor: name = value.
    directives: list[str] = field(default_factory=list)
    #: Variables that workers get.
    environment: dict[str, str] = field(default_factory=dict)
    #: Lines of the script before the worker starts: module load …
    prologue: list[str] = field(default_factory=list)
    #: Python on the nodes; None for the one that runs the command.
    python: str | None = None
    #: Network interface of scheduler and workers, such as ib0.
    interface: str | None = None
    #: Address that the scheduler listens at; None for that of `interface`, or of the machine.
    host: str | None = None
    #: Where workers keep what they spill, and where their logs go; None for the defaults of Dask and the batch system.
    local_directory: str | None = None
    log_directory: str | None = None
    #: Seconds that the first worker is waited for.
    wait: float = _WAIT_SECONDS

    def __post_init__(self) -> None:
        _check(self)
        given = [name for name in _NOT_HTCONDORS if getattr(self, name) is not None]
        if self.kind == "htcondor" and given:
            raise OptionError(f"{given[0]} of the cluster means nothing to HTCondor; say it in directives.")
        if self.kind == "htcondor" and not all("=" in line for line in self.directives):
            raise OptionError("directives of HTCondor are each NAME = VALUE.")

    @property
    def jobs(self) -> int:
        """How many jobs have so many workers."""
        return -(-self.workers // self.cores)


@dataclass(frozen=True)
class Volume:
    """A claim of Kubernetes that pods have at a path."""

    #: Where, absolute.
    path: str
    #: The persistent volume claim.
    claim: str


@dataclass(frozen=True)
class KubernetesCluster:
    """Workers as pods of Kubernetes; raises `OptionError` for what it cannot have."""

    #: The image, with this version of ddfa-batch in it.
    image: str
    #: `KUBERNETES`.
    kind: str = KUBERNETES
    #: Pods, one worker each.
    workers: int = 1
    #: Cores and memory of a pod.
    cores: int = 1
    memory: str = "4GiB"
    namespace: str = "default"
    #: Where inputs, models and OUT lie: the same paths as here.
    volumes: list[Volume] = field(default_factory=list)
    #: Variables that workers get.
    environment: dict[str, str] = field(default_factory=dict)
    #: Seconds that the first worker is waited for.
    wait: float = _WAIT_SECONDS

    def __post_init__(self) -> None:
        _check(self)


def decode_cluster(content: dict[str, Any], kind: str | None, source: str) -> BatchCluster | KubernetesCluster:
    """The cluster that a TOML table from `source` describes, of the `kind` asked for or told there.

    Raises `OptionError` for unknown keys, wrong types and values.
    """
    table = {name.replace("-", "_"): value for name, value in content.items()}
    told = kind or table.get("kind")
    if told not in CLUSTER_KINDS:
        raise OptionError(f"{source}: kind of the cluster is one of {', '.join(CLUSTER_KINDS)}, but is {told!r}.")
    document = Document(source, OptionError, "docs/clusters.md tells what a cluster may have")
    form: type[BatchCluster | KubernetesCluster] = KubernetesCluster if told == KUBERNETES else BatchCluster
    return typed({**table, "kind": told}, form, document)
