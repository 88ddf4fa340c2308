"""`to-webdataset`: a run's faces → samples in tar archives: crop, parameters, landmarks, and what else is known.

A shard of inputs goes through three stages: `samples`, which reads the photographs again and writes the archive;
`write`, the images table; `commit`. A crop is what the regressor saw in its first pass: the face's roi, not turned, so
that parameters and landmarks are of the crop's own frame.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ddfa_batch.pipeline import engine, graph, plan
from ddfa_batch.pipeline.derived_plan import DerivedRequest, derived_request, execute_derived, made_of
from ddfa_batch.pipeline.photographs import photograph
from ddfa_batch.pipeline.plan import PlanRow, Run
from ddfa_batch.pipeline.progress import Report, Totals, unheard
from ddfa_batch.pipeline.results import Results
from ddfa_batch.pipeline.run_faces import FaceRows, RunRows
from ddfa_batch.pipeline.run_tables import images_table
from ddfa_batch.pipeline.selected_faces import Selection
from ddfa_batch.pipeline.staging import StagedShard, commit, staged_work, staging
from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.config import Execution
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.schemas.faces import ImageRecord
from ddfa_batch.schemas.webdataset import WebDatasetOptions
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.picture_files import encoded, ending
from ddfa_batch.tasks.files.run_folders import Named, run_folder_at
from ddfa_batch.tasks.files.tar_writer import TarWriter
from ddfa_batch.tasks.geometry.crop import crop
from ddfa_batch.tasks.geometry.pose import angles

#: Fewer inputs than this are done in this process.
_FEW = 500


@dataclass(frozen=True)
class PackedShard:
    """What `samples` hands on."""

    #: One per input.
    records: list[ImageRecord]
    #: The staged archive.
    archive: str


@dataclass(frozen=True)
class _Context:
    """All that one process needs to pack a run."""

    #: Its options.
    options: WebDatasetOptions
    #: The run whose faces are packed.
    source: Run


def context(out: str) -> _Context:
    """This process's context for the run in `out`."""
    return _context(out, run_folder_at(out).stamp(store.RUN))


@lru_cache(maxsize=2)
def _context(out: str, _: object) -> _Context:
    cv2.setNumThreads(1)
    options = WebDatasetOptions(**plan.read_run(out).options)
    return _Context(options, plan.read_run(options.run))


# ---------------------------------------------------------------------------------------------- the stages


def samples(out: str, shard: int) -> PackedShard:
    """Write the samples of every input of a shard. One input's failure is its own row, and leaves no sample."""
    c, rows = context(out), plan.read_shard(out, shard)
    with staged_work(out, _archive(shard)) as path, path.open("wb") as file:
        archive = TarWriter(file)
        records = [record for record, _ in engine.each_item(out, shard, rows, _Packer(c, archive).pack)]
        archive.close()
    return PackedShard(records, str(path))


def _archive(shard: int) -> str:
    return f"{store.TARS}/{store.shard_name(shard)}.tar"


class _Packer:
    """Writes the samples of a shard's inputs into an archive."""

    def __init__(self, c: _Context, archive: TarWriter) -> None:
        self._c, self._archive, self._rows = c, archive, RunRows(c.source)

    def pack(self, row: PlanRow) -> tuple[ImageRecord, None]:
        """Write the samples of one input; raises `ImageError` where it had an error, or its photograph is gone."""
        assert row.source is not None
        had = self._rows.image(row.source)
        if had["status"] == "error":
            raise ImageError(had["error_kind"], had["error_message"])
        faces = self._rows.faces(row.source).of_image(row.source, row.face_index)
        if len(faces):
            image = photograph(self._c.source, row.item, row.frame, self._c.options.max_pixels)
            members = [self._members(row, image, faces.take(np.array([i]))) for i in range(len(faces))]
            for name, data in (member for sample in members for member in sample.items()):
                self._archive.member(name, data)
            self._archive.keep()
        return _record(row, had, len(faces)), None

    def _members(self, row: PlanRow, image: U8, face: FaceRows) -> dict[str, bytes]:
        """The files of one face's sample."""
        size, form = self._c.options.size, self._c.options.format
        stem = f"{row.source:08d}_{int(face.face_index[0]):04d}"
        return {
            f"{stem}{ending(form)}": encoded(crop(image, face.roi[0], size), form),
            f"{stem}.params.npy": _npy(face.params[0]),
            f"{stem}.landmarks.npy": _npy(in_crop(face, size)),
            f"{stem}.json": json.dumps(_told(row, face, size)).encode(),
        }


def in_crop(face: FaceRows, size: int) -> NDArray[np.float32]:
    """The landmarks (68, 3) of a face in pixels of its crop of so many pixels a side."""
    roi = face.roi[0]
    corner = np.array([roi[0], roi[1], 0.0])
    return np.asarray((face.landmarks[0] - corner) * (size / (roi[2] - roi[0])), np.float32)


def _told(row: PlanRow, face: FaceRows, size: int) -> dict[str, Any]:
    """What else is known of a face."""
    yaw, pitch, roll = (round(float(angle), 4) for angle in angles(face.rotation)[0])
    track = int(face.track[0])
    return {
        "key": row.item.key,
        "face_id": int(face.face_id[0]),
        "size": size,
        "roi": face.roi[0].tolist(),
        "yaw": yaw,
        "pitch": pitch,
        "roll": roll,
        "visible": face.visible[0].astype(int).tolist(),
        "track_id": None if track < 0 else track,
        "frame": row.frame,
        "time_s": row.time_s,
    }


def _npy(values: NDArray[Any]) -> bytes:
    """An array as NumPy's file."""
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


def _record(row: PlanRow, had: dict[str, Any], n_faces: int) -> ImageRecord:
    return ImageRecord(
        row.image_id,
        row.item.key,
        "ok" if n_faces else "no_face",
        width=had["width"],
        height=had["height"],
        n_faces=n_faces,
        video=row.video,
        frame=row.frame,
        time_s=row.time_s,
    )


def write(out: str, shard: int, packed: PackedShard) -> StagedShard:
    """Write a shard's images table, under a staged name, beside its archive."""
    with staging(out) as staged:
        staged.add(_archive(shard), Path(packed.archive))
        path = staged.path(store.table_name(store.IMAGES, shard))
        store.put_table(path, images_table(packed.records))
        n = sum(record.n_faces for record in packed.records)
        return staged.shard(packed.records, {store.FACES: n})


#: The stages of a shard, by the names Dask's dashboard shows.
STAGES: graph.Stages = {"samples": samples, "write": write, "commit": commit}


# ------------------------------------------------------------------------------------------------- the run


def webdataset_request(
    source: Results,
    tars: Named,
    size: int | None,
    form: str,
    selection: Selection,
    max_pixels: int,
    shard_size: int | None,
) -> DerivedRequest[WebDatasetOptions]:
    """What is asked for; size: pixels of a crop's side, None for what the model sees."""
    side = size or source.bundle.manifest.input_size
    options = WebDatasetOptions(side, form, *made_of(source, selection, max_pixels))
    return derived_request("to-webdataset", source, tars, options, selection, shard_size)


def to_webdataset(
    request: DerivedRequest[WebDatasetOptions],
    execution: Execution,
    overwrite: bool = False,
    report: Report = unheard,
    verify: bool = False,
    extend: bool = False,
) -> tuple[Run, Totals]:
    """Pack all of a run that is not packed yet; see `derived_plan.execute_derived`."""
    return execute_derived(
        request, execution, STAGES, few=_FEW, overwrite=overwrite, verify=verify, extend=extend, report=report
    )
