"""What Dask is told of the workers of a run: their environment, and how long they are waited for."""

from __future__ import annotations

import copy
import logging

#: Dask's nanny lets malloc give memory back above 64 KiB, which doubles the time to decode a JPEG: every
#: picture's buffer is mapped and cleared anew. 256 MiB keeps them.
_MALLOC_BYTES = str(256 << 20)
_MALLOC = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
#: A stage that leaves its thread makes Dask start another, and glibc gives each thread an arena that keeps its memory.
#: With one for all, and freed memory given back besides, workers that follow faces through 1080p frames
#: peak at 550 to 610 MiB (3,600 frames, two rounds); with one of the two alone at 600 to 710.
_ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
#: What workers of other machines get: Dask's own settings give way to it.
JOB_ENVIRONMENT = {**dict.fromkeys(_MALLOC, _MALLOC_BYTES), **_ONE_ARENA, "OMP_NUM_THREADS": "1"}
#: What the process that local workers are forked from gets: as they have it, and libraries that start threads when they
#: are imported start none.
TEMPLATE_ENVIRONMENT = {**JOB_ENVIRONMENT, "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
#: How long Dask waits for a worker to come back before it gives up the nanny that starts it: never. On a busy machine a
#: worker takes longer to start than the usual 15 s, and after the last one was given up a run would stand still.
LOST_WORKER = "1000 days"
#: A level that no message reaches.
SILENT = logging.CRITICAL + 1


def local_environment() -> dict[str, str]:
    """What a nanny gives its worker on this machine: the user's settings of Dask, and ours."""
    import dask.config

    environment = copy.deepcopy(dask.config.get("distributed.nanny.pre-spawn-environ", {}))
    return {**environment, **dict.fromkeys(_MALLOC, _MALLOC_BYTES), **_ONE_ARENA}


def preloads() -> list[str]:
    """What the user's settings of Dask have workers load first: one name, or several."""
    import dask.config

    named = dask.config.get("distributed.worker.preload", [])
    return [named] if isinstance(named, str) else list(named or [])
