"""`process`: image bytes → pixels → boxes → rois → crops → parameters → landmarks and meshes → tables.

A shard of images goes through four stages, each a task of the graph:

    find_faces    decode, detect, crop, regress, refine, or follow faces through a video's frames; holds pixels, one
                  image at a time
    reconstruct   parameters → landmarks, pose, visibility
    write         tables and meshes, under staged names
    commit        flush to disk, rename, receipt

When all shards are done the tracks of videos are joined (`pipeline.tracks`): a shard knows its stretch of them only.
"""

from __future__ import annotations

from ddfa_batch.pipeline import graph
from ddfa_batch.pipeline.engine import execute_run
from ddfa_batch.pipeline.faces import find_faces, reconstruct, write
from ddfa_batch.pipeline.plan import Run, RunRequest
from ddfa_batch.pipeline.progress import Report, Totals, unheard
from ddfa_batch.pipeline.receipts import receipts
from ddfa_batch.pipeline.retry import retry_faces
from ddfa_batch.pipeline.seal import is_sealed
from ddfa_batch.pipeline.staging import commit
from ddfa_batch.pipeline.tracks import join_videos
from ddfa_batch.schemas.config import FEW_IMAGES, Execution
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.mesh_files import MAX_VIRTUAL_SOURCES, put_virtual

#: The stages of a shard, by the names Dask's dashboard shows.
STAGES: graph.Stages = {"find-faces": find_faces, "reconstruct": reconstruct, "write": write, "commit": commit}


def process(
    request: RunRequest,
    execution: Execution,
    overwrite: bool = False,
    report: Report = unheard,
    verify: bool = False,
    extend: bool = False,
    retry_failed: frozenset[str] = frozenset(),
) -> tuple[Run, Totals]:
    """Do all of a run that is not done yet, and join what it wrote; see `engine.execute_run`.

    retry_failed: kinds of error rows (`errors.ERROR_KINDS`) that are done again.
    """
    return execute_run(
        request,
        execution,
        STAGES,
        few=FEW_IMAGES,
        overwrite=overwrite,
        verify=verify,
        extend=extend,
        retry=retry_faces(retry_failed),
        report=report,
        finish=_finish,
    )


def _finish(run: Run) -> None:
    join_vertices(run)
    join_videos(run)


def join_vertices(run: Run) -> None:
    """Join the vertex files of a run that has not too many of them in vertices.h5, unless that is done already.

    A file that is not as it was sealed is not even opened: HDF5 looks for ever at some that are damaged.
    """
    done = receipts(run)
    files = {f: r.rows[store.FACES] for r in done for f in r.files if f.startswith(store.VERTICES)}
    if not 0 < len(files) <= MAX_VIRTUAL_SOURCES:
        return
    folder, name = run.folder, store.ALL_VERTICES
    if not is_sealed(run, name):
        with folder.writing(name) as work:
            put_virtual(work, files, run.model.n_vertices, run.options["vertices"])
