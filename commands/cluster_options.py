"""`--cluster` and `--cluster-config`: workers that a run asks for itself."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddfa_batch.schemas.errors import OptionError
from ddfa_batch.schemas.job_clusters import CLUSTER_KINDS, decode_cluster

if TYPE_CHECKING:
    from ddfa_batch.schemas.job_clusters import BatchCluster, KubernetesCluster

#: Where the [cluster] table of --config is kept while a command runs.
CLUSTER_TABLE = "ddfa_batch.cluster"
#: Bytes above which a file is no description of a cluster.
_MAX_BYTES = 1 << 20

cluster_options = (
    click.option(
        "--cluster",
        type=click.Choice(CLUSTER_KINDS),
        help="Have workers started as jobs of a batch system, or pods, and ended with the run; see --cluster-config.",
    ),
    click.option(
        "--cluster-config",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        metavar="FILE",
        help="What to ask a cluster for, in TOML: workers, cores, memory, walltime, queue, …",
    ),
)


def chosen_cluster(kind: str | None, file: Path | None, scheduler: str) -> BatchCluster | KubernetesCluster | None:
    """The cluster that is asked for, by options or by the [cluster] table of --config; None where there is none.

    Raises `click.UsageError` beside another `scheduler`, `OptionError` for what no cluster can have.
    """
    table = click.get_current_context().meta.get(CLUSTER_TABLE)
    if kind is None and file is None and table is None:
        return None
    if scheduler != "auto":
        raise click.UsageError("--cluster starts a scheduler of its own; leave out --scheduler.")
    if file is None:
        return decode_cluster(table or {}, kind, "[cluster]" if table else "--cluster")
    return decode_cluster(_written(file), kind, str(file))


def _written(file: Path) -> dict[str, Any]:
    """What a TOML file holds, or its [cluster] table."""
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise OptionError(f"{file} is too large for a description of a cluster.")
        content = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise OptionError(f"{file} is no valid TOML ({fault}).") from None
    table = content.get("cluster")
    return table if isinstance(table, dict) else content
