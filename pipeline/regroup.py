"""`compact`, `select`, `merge`: rows of finished runs → a run of its own, read, proven and drawn as any other.

A shard goes through two stages: `gather`, which takes the rows out of the runs and numbers them anew, and `commit`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ddfa_batch.pipeline import graph, plan
from ddfa_batch.pipeline.engine import execute_planned
from ddfa_batch.pipeline.plan import Run
from ddfa_batch.pipeline.progress import Report, Totals, unheard
from ddfa_batch.pipeline.regroup_plan import Made, Regrouping
from ddfa_batch.pipeline.results import Results
from ddfa_batch.pipeline.staging import StagedShard, commit, staging
from ddfa_batch.pipeline.tracks import FollowedFaces, angles_of, put_joined
from ddfa_batch.pipeline.video_tables import PlannedVideo, counted_videos, planned_videos
from ddfa_batch.schemas import tables
from ddfa_batch.schemas.arrays import I64
from ddfa_batch.schemas.config import FACES_PER_IMAGE, Execution
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.run_folders import run_folder_at

#: Rows of a row group of faces and of images.
_FACE_GROUP, _IMAGE_GROUP = 8_192, 65_536
#: Where the work is done: reading and writing is most of it.
IN_PROCESS = Execution("in-process")


@dataclass(frozen=True)
class _Context:
    """What one process needs to write a regrouped run."""

    #: The run, and how it was made.
    run: Run
    made: Made
    #: The runs it is made of; their first inputs in it, and what their track ids are moved by.
    sources: list[Results]
    first: I64
    tracks: list[int]


@dataclass(frozen=True)
class _Rows:
    """Inputs of a shard that come from one run."""

    #: Which run.
    source: int
    #: (N,) their image ids here and there, both increasing, and their videos here.
    here: I64
    there: I64
    video: pa.ChunkedArray
    #: Their keys here.
    key: pa.ChunkedArray
    #: Places of the faces that are taken; null for all.
    places: pa.ChunkedArray


@lru_cache(maxsize=2)
def _context(out: str, _: object) -> _Context:
    run = plan.read_run(out)
    made = Made.of_run(run)
    assert made is not None
    sources = [Results(name) for name in made.of]
    known = [0]
    for source in sources[:-1]:
        tracks = source.tracks()["track_id"]
        known.append(known[-1] + (pc.max(tracks).as_py() + 1 if len(tracks) else 0))
    return _Context(run, made, sources, np.cumsum([0, *made.inputs]), known)


def context(out: str) -> _Context:
    """This process's context for the run in `out`."""
    return _context(out, run_folder_at(out).stamp(store.RUN))


# ---------------------------------------------------------------------------------------------- the stages


def gather(out: str, shard: int) -> StagedShard:
    """Write a shard's tables, under staged names, of the rows that its plan names."""
    c, stem = context(out), store.shard_name(shard)
    parts = [_taken(c, rows) for rows in _rows(c, shard)]
    images, faces = (pa.concat_tables(tables) for tables in zip(*parts, strict=True))
    if c.made.sort is not None:
        faces = faces.sort_by([(c.made.sort, "ascending"), ("face_id", "ascending")])
    counted = pc.value_counts(images["error_kind"].drop_null()).to_pylist()
    with staging(out) as staged:
        store.put_table(staged.path(f"{store.IMAGES}/{stem}.parquet"), images, _IMAGE_GROUP, "image_id")
        store.put_table(staged.path(f"{store.FACES}/{stem}.parquet"), faces, _FACE_GROUP, c.made.sort or "face_id")
        return StagedShard(
            staged.files(),
            {store.IMAGES: len(images), store.FACES: len(faces)},
            int(pc.sum(pc.equal(images["status"], "no_face")).as_py() or 0),
            {row["values"]: row["counts"] for row in counted},
        )


def _rows(c: _Context, shard: int) -> Iterator[_Rows]:
    columns = ["image_id", "source", "video", "key", "face_index"]
    with c.run.folder.reading(store.PLAN), pq.ParquetFile(c.run.folder.source(store.PLAN)) as file:
        planned = file.read_row_group(shard, columns=columns)
    ids = planned["image_id"].to_numpy()
    for source in range(len(c.sources)):
        first, end = np.searchsorted(ids, c.first[source : source + 2])
        own = planned.slice(first, end - first)
        if len(own):
            there = own["source"].to_numpy()
            yield _Rows(source, ids[first:end], there, own["video"], own["key"], own["face_index"])


def _taken(c: _Context, rows: _Rows) -> tuple[pa.Table, pa.Table]:
    """The images and faces of inputs of one run, as they are here."""
    source = c.sources[rows.source]
    shards = np.unique(source.run.shards_of(rows.there))
    images, faces = (
        pa.concat_tables([_read(source, store.table_name(name, shard)) for shard in shards.tolist()])
        for name in (store.IMAGES, store.FACES)
    )
    images = images.take(pa.array(np.searchsorted(images["image_id"].to_numpy(), rows.there)))
    faces = faces.filter(pa.array(_wanted(faces, rows))).sort_by("face_id")
    place = np.searchsorted(rows.there, faces["image_id"].to_numpy())
    counts = np.bincount(place, minlength=len(rows.here))
    images = _with(
        images,
        image_id=rows.here,
        key=rows.key,
        video=rows.video,
        n_faces=counts,
        status=_status(images, counts),
    )
    owner, none = rows.here[place], [None] * len(faces)
    tracks = faces["track_id"] if "track_id" in faces.column_names else pa.nulls(len(faces), pa.int64())
    faces = _with(
        faces,
        face_id=owner * FACES_PER_IMAGE + faces["face_index"].to_numpy(),
        image_id=owner,
        key=rows.key.take(pa.array(place)),
        video=rows.video.take(pa.array(place)),
        track_id=pc.add(tracks, c.tracks[rows.source]),
        vertices_file=none,
        vertices_row=none,
    )
    return images, faces


def _read(source: Results, name: str) -> pa.Table:
    with source.run.folder.reading(name):
        return pq.read_table(source.run.folder.source(name))


def _wanted(faces: pa.Table, rows: _Rows) -> np.ndarray:
    """Which faces (N,) of the runs' shards are of the inputs, and among those that are taken of them."""
    image_id, index = faces["image_id"].to_numpy(), faces["face_index"].to_numpy()
    place = np.minimum(np.searchsorted(rows.there, image_id), len(rows.there) - 1)
    there = rows.there[place] == image_id
    some = rows.places.is_valid().to_numpy()
    named = rows.places.combine_chunks()
    owners = pc.list_parent_indices(named).to_numpy()
    ids = rows.there[owners] * FACES_PER_IMAGE + pc.list_flatten(named).to_numpy()
    return np.asarray(there & (~some[place] | np.isin(image_id * FACES_PER_IMAGE + index, ids)))


def _status(images: pa.Table, counts: I64) -> pa.ChunkedArray:
    """What inputs are where some of their faces are taken: of an `ok` one at least one is."""
    ok = pc.equal(images["status"], "ok")
    return pc.if_else(pc.and_(ok, pa.array(counts == 0)), "no_face", images["status"])


def _with(table: pa.Table, **columns: object) -> pa.Table:
    """The table with some columns replaced, those that it has: runs made before lack what was not known then."""
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        if place >= 0:
            field = table.schema.field(place)
            column = values if isinstance(values, pa.ChunkedArray | pa.Array) else pa.array(values)
            table = table.set_column(place, field, column.cast(field.type))
    return table


#: The stages of a shard.
STAGES: graph.Stages = {"gather": gather, "commit": commit}


# ------------------------------------------------------------------------------------------- tracks and videos


def _finish(run: Run) -> None:
    """Write the tables of tracks and videos of a run that has such: what is left of those of its sources."""
    videos = planned_videos(run)
    if not videos:
        return
    in_files = [_in_file(context(run.folder.address), video) for video in videos]
    put_joined(run, videos, _followed(run), lambda n_tracks: counted_videos(run, videos, in_files, n_tracks))


def _in_file(c: _Context, video: PlannedVideo) -> dict[str, object]:
    """What the source's table says of a video's file."""
    source = int(np.searchsorted(c.first, video.video, side="right")) - 1
    results = c.sources[source]
    shard = int(c.run.shards_of(np.array([video.video]))[0])
    (there,) = (
        int(rows.there[np.searchsorted(rows.here, video.video)]) for rows in _rows(c, shard) if rows.source == source
    )
    of = results.images(["video"], pc.field("image_id") == there)["video"][0].as_py()
    (row,) = results.videos().filter(pc.field("video") == of).to_pylist()
    return dict(row)


def _followed(run: Run) -> FollowedFaces:
    columns = ["video", "frame", "time_s", "score", "face_size", "track_id"]
    found = Results(run.folder).faces([*columns, *tables.ANGLES], pc.field("track_id").is_valid())
    found = found.sort_by([("video", "ascending"), ("frame", "ascending"), ("track_id", "ascending")])
    video, frame, time_s, score, size, track = (found[name].to_numpy() for name in columns)
    rows = np.arange(len(found))
    whole, real = np.int64, np.float64
    return FollowedFaces(
        shard=np.zeros(len(found), whole),
        row=rows,
        video=video.astype(whole),
        frame=frame.astype(whole),
        track=track.astype(whole),
        time_s=time_s.astype(real),
        score=score.astype(real),
        size=size.astype(real),
        angles=angles_of(found),
    )


# ------------------------------------------------------------------------------------------------- the run


def regroup(
    request: Regrouping,
    execution: Execution = IN_PROCESS,
    overwrite: bool = False,
    report: Report = unheard,
    verify: bool = False,
) -> tuple[Run, Totals]:
    """Write a run that is made of others, as far as it is not written yet; see `engine.execute_planned`."""
    return execute_planned(
        request.run,
        request.rows,
        request.bundle,
        execution,
        STAGES,
        few=0,
        overwrite=overwrite,
        verify=verify,
        report=report,
        finish=_finish,
    )
