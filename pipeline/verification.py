"""Whether everything in an output folder is as it was written: files against receipts, tables against each other."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.pipeline import plan, receipts
from ddfa_batch.pipeline.mending import broken_record, put_back_record
from ddfa_batch.pipeline.plan import Run
from ddfa_batch.pipeline.seal import SEALED, broken_seal
from ddfa_batch.pipeline.tracks import TRACKS_FILE, VIDEOS_FILE, joined
from ddfa_batch.pipeline.video_accounts import video_account
from ddfa_batch.pipeline.video_tables import planned_videos
from ddfa_batch.schemas.config import FACES_PER_IMAGE
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.schemas.run import Receipt
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.mesh_files import MeshFile
from ddfa_batch.tasks.files.run_folders import Named


@dataclass(frozen=True)
class Verification:
    """What was found in an output folder."""

    #: What does not add up, in sentences, by shard.
    shards: dict[int, list[str]]
    #: The same of files that belong to the whole run.
    whole: list[str]
    #: Shards that are not done yet.
    pending: list[int]
    #: Whether a seal stands there, which run.json, the plan and other files of the whole run are compared with.
    sealed: bool

    @property
    def faults(self) -> list[str]:
        """Everything that does not add up."""
        return [*self.whole, *(fault for faults in self.shards.values() for fault in faults)]

    @property
    def mendable(self) -> bool:
        """Whether the command that made the run mends all of it."""
        return not self.whole


def verify_run(run: Run) -> Verification:
    """Read everything of a run once, and compare it with what was written down of it."""
    found = receipts.damaged_shards(run)
    for receipt in receipts.good_receipts(run):
        if receipt.shard not in found and (faults := _disagreements(run, receipt)):
            found[receipt.shard] = faults
    pending = [shard for shard in receipts.pending_shards(run) if shard not in found]
    whole, sealed = broken_seal(run)
    if not sealed and broken_record(run.folder):
        whole.append(f"{store.RUN} is not as {store.PLAN} keeps it: --mend puts it back")
    if not found and not whole:
        whole += _unjoined(run, sealed)
    if not found and not whole:
        whole += video_account(run, complete=not pending).faults
    return Verification(found, whole, pending, sealed)


def _unjoined(run: Run, sealed: bool) -> list[str]:
    """The tables of tracks and videos of a complete run, where they are not as they were joined."""
    if not sealed or run.kind != "process" or joined(run) or not planned_videos(run):
        return []
    return [f"{TRACKS_FILE} and {VIDEOS_FILE} are not as they were joined: the same command joins them again"]


def mend(run: Run, found: Verification) -> None:
    """Let the command that made the run do its damaged shards, plan, topology and joined files again.

    run.json is put back as the seal or the plan keeps it.
    """
    put_back_record(run.folder)
    receipts.withdraw(run, found.shards)
    for name in (*SEALED, store.SEAL):
        if name != store.RUN and any(fault.startswith(name) for fault in found.whole):
            run.folder.remove([name])


# ------------------------------------------------------------------------------- the tables of one shard agree


def _disagreements(run: Run, receipt: Receipt) -> list[str]:
    """What the tables of a shard and its receipt say differently; the files themselves are as the receipt says."""
    stem = store.shard_name(receipt.shard)
    names = {table: f"{table}/{stem}.parquet" for table in (store.IMAGES, store.FACES)}
    if names[store.IMAGES] not in receipt.files:
        return []
    try:
        columns = ["image_id", "status", "error_kind", "n_faces"]
        images = pq.read_table(run.folder.source(names[store.IMAGES]), columns=columns).to_pydict()
        faults = _wrong_images(run, receipt, images)
        if names[store.FACES] in receipt.files:
            columns = ["face_id", "image_id", "face_index"]
            faces = pq.read_table(run.folder.source(names[store.FACES]), columns=columns)
            faults += _wrong_faces(stem, images, {n: faces[n].to_numpy() for n in faces.column_names})
            faults += _wrong_meshes(run, receipt, stem, faces["face_id"].to_numpy())
    except (OSError, KeyError, pa.ArrowException) as fault:
        return [f"the tables of shard {receipt.shard} cannot be read ({fault})"]
    return faults


def _wrong_images(run: Run, receipt: Receipt, images: dict[str, list[Any]]) -> list[str]:
    name, faults = f"{store.IMAGES}/{store.shard_name(receipt.shard)}.parquet", []
    if images["image_id"] != list(run.inputs_of(receipt.shard)):
        faults.append(f"{name} has not the planned images, one row each")
    if images["status"].count("no_face") != receipt.no_face:
        faults.append(f"{name} has not as many images without a face as its receipt says")
    if dict(Counter(kind for kind in images["error_kind"] if kind is not None)) != receipt.errors:
        faults.append(f"{name} has other errors than its receipt says")
    return faults


def _wrong_faces(stem: str, images: dict[str, list[Any]], faces: dict[str, Any]) -> list[str]:
    name, faults = f"{store.FACES}/{stem}.parquet", []
    if len(np.unique(faces["face_id"])) != len(faces["face_id"]):
        faults.append(f"{name} has a face_id twice")
    if not np.array_equal(faces["face_id"], faces["image_id"] * FACES_PER_IMAGE + faces["face_index"]):
        faults.append(f"{name} has face_ids that are not those of their images")
    counted = Counter(faces["image_id"].tolist())
    told = zip(images["image_id"], images["n_faces"], strict=True)
    if any(counted.pop(image, 0) != n for image, n in told) or counted:
        faults.append(f"{name} has not as many faces of each image as {store.IMAGES}/{stem}.parquet says")
    return faults


def _wrong_meshes(run: Run, receipt: Receipt, stem: str, face_ids: Any) -> list[str]:
    name = f"{store.VERTICES}/{stem}.h5"
    if name not in receipt.files:
        return []
    try:
        with h5py.File(run.folder.source(name), "r") as file:
            ids, shape = file["face_id"][:], MeshFile(file).shape
    except (OSError, KeyError) as fault:
        return [f"{name} cannot be read ({fault})"]
    if np.array_equal(ids, face_ids) and shape == (len(ids), run.model.n_vertices, 3):
        return []
    return [f"{name} has not the meshes of the faces in {store.FACES}/{stem}.parquet"]


def planned_run(out: Named) -> Run:
    """The run in `out`, its plan readable; raises `RunFolderError`."""
    run = plan.read_run(out)
    if (n := receipts.planned_rows(run)) != run.n_inputs:
        raise RunFolderError(f"{run.folder.where(store.PLAN)} has {n} rows for {run.n_inputs} inputs; {_ANEW}.")
    return run


_ANEW = "the same command with --overwrite makes the run anew"
