"""`process`: image bytes → pixels → boxes → rois → crops → parameters → landmarks and meshes → tables.

A shard of images goes through three stages, each a task of the graph: `find_faces` holds pixels, one image at a
time; `reconstruct` and `write` see small arrays only. A stage needs nothing but the run folder and a number.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ddfa_batch.pipeline import graph, plan
from ddfa_batch.pipeline.plan import PlanRow, Run, Totals, Wanted
from ddfa_batch.schemas import tables
from ddfa_batch.schemas.arrays import F32, F64, I64
from ddfa_batch.schemas.config import FACES_PER_IMAGE, GIVEN_BOXES, Execution, ProcessOptions, SynthOptions
from ddfa_batch.schemas.errors import DdfaError, ImageError
from ddfa_batch.schemas.faces import Detections, Faces, Geometry, ImageRecord
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.tasks.bundles.model_bundle import LoadedModel, loaded_model
from ddfa_batch.tasks.files import images, store
from ddfa_batch.tasks.files.inputs import resolve_path
from ddfa_batch.tasks.geometry import crop, pose, quality
from ddfa_batch.tasks.geometry.reconstruct import BLOCK, PointBasis, image_pose, points
from ddfa_batch.tasks.geometry.visibility import Occlusion, visible
from ddfa_batch.tasks.inference.face_finder import Finder, look, look_again
from ddfa_batch.tasks.inference.regressor import Regressor

#: Roi of a box the user brings: as upstream's, which fits boxes of the face from brow to chin.
_GIVEN_ROI = (1.58, 0.14)
#: Attempts that may die on an image before it is given up as crashed.
DEATHS = 2


@dataclass(frozen=True)
class Found:
    """What `find_faces` hands on: a record per image, and the regressed faces of all of them."""

    records: list[ImageRecord]
    faces: Faces


@dataclass(frozen=True)
class Worker:
    """All one process needs for a run, loaded once: the model, its parts, and the run's options."""

    run: Run
    options: ProcessOptions
    model: LoadedModel
    find: Finder | None
    regressor: Regressor
    landmarks: PointBasis
    dense: PointBasis
    occlusion: Occlusion
    occluding: PointBasis

    @property
    def size(self) -> int:
        """Side of the regressor's crops."""
        return self.regressor.size


def worker(out: str) -> Worker:
    """This process's `Worker` for the run in `out`."""
    return _worker(out, (Path(out) / store.RUN).stat().st_mtime_ns)


def run_options(run: Run) -> ProcessOptions:
    """How a run finds and regresses faces."""
    if run.kind == "synth-videos":
        return SynthOptions.from_dict(run.identity["options"]).regression()
    return ProcessOptions(**run.identity["options"])


@lru_cache(maxsize=2)
def _worker(out: str, _: int) -> Worker:
    run = plan.read_run(Path(out))
    options = run_options(run)
    model = loaded_model(run.model["folder"], run.model["digest"])
    regressor = Regressor(model.regressor, model.bundle.manifest)
    find = None
    if options.detector != GIVEN_BOXES:
        spec = model.bundle.manifest.detectors[options.detector]
        find = Finder(spec, model.detector_session(spec), regressor, options.min_score, options.detect_size)
    occlusion = Occlusion.of(model.morphable)
    return Worker(
        run, options, model, find, regressor,
        landmarks=PointBasis.of(model.morphable, model.morphable.landmarks),
        dense=PointBasis.of(model.morphable),
        occlusion=occlusion,
        occluding=PointBasis.of(model.morphable, occlusion.vertices),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- the stages


def find_faces(out: str, shard: int) -> Found:
    """Decode, detect, crop and regress every image of a shard. One image's failure is its own row."""
    w = worker(out)
    records: list[ImageRecord] = []
    parts: list[Faces] = []
    with store.InFlight(Path(out), shard) as in_flight, _no_garbage_collection():
        for row in plan.read_shard(Path(out), shard):
            in_flight.hold(row.image_id)
            if in_flight.deaths(row.image_id) >= DEATHS:
                record, faces = error_record(row, crashed()), None
            else:
                record, faces = _one_image(w, row)
            records.append(record)
            if faces is not None:
                parts.append(faces)
    return Found(records, Faces.concatenate(parts, w.model.bundle.manifest.layout.size))


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Spare the loop over images Python's search for reference cycles: it makes none, and scans a million objects."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _one_image(w: Worker, row: PlanRow) -> tuple[ImageRecord, Faces | None]:
    """The per-item boundary: whatever goes wrong with one image becomes its row."""
    try:
        return _faces_of(w, row)
    except ImageError as fault:
        return error_record(row, fault), None
    except Exception as fault:  # the one blanket except: an input is never lost
        return error_record(row, unexpected(fault)), None


def crashed() -> ImageError:
    """What is said of an image that keeps killing its worker."""
    return ImageError("crashed", f"The worker died {DEATHS} times while it held this image; it was left out.")


def unexpected(fault: Exception) -> ImageError:
    """What is said of a fault nobody thought of."""
    reason = f"{type(fault).__name__}: {fault}".splitlines()[0][:300]
    return ImageError("failed", f"Unexpected error, please report it: {reason}")


def error_record(row: PlanRow, fault: ImageError) -> ImageRecord:
    """The row of an input that could not be used."""
    return ImageRecord(row.image_id, row.item.key, "error", fault.kind, fault.message)


def _faces_of(w: Worker, row: PlanRow) -> tuple[ImageRecord, Faces | None]:
    if not row.item.key and row.item.path is None:
        raise ImageError("missing", "The list names no path in this row.")
    clock = [time.perf_counter()]
    data = images.read_bytes(resolve_path(Path(w.run.root), row.item))
    image = images.decode(data, w.options.max_pixels)
    clock.append(time.perf_counter())
    most = w.options.max_faces or FACES_PER_IMAGE
    if w.find:
        sighted = w.find(image, most)
    else:
        given = _given(row).best(most)
        sighted = look(image, given, crop.roi_from_boxes(given.boxes, *_GIVEN_ROI), w.regressor)
    n = len(sighted)
    for _ in range(w.options.refine if n else 0):
        _check_finite(sighted.params)
        sighted = look_again(image, sighted, w.regressor, w.landmarks)
    _check_finite(sighted.params)
    height, width = image.shape[:2]
    detect_ms = sighted.seconds * 1e3
    record = ImageRecord(
        row.image_id, row.item.key, "ok" if n else "no_face", width=width, height=height, n_bytes=len(data), n_faces=n,
        decode_ms=(clock[1] - clock[0]) * 1e3, detect_ms=detect_ms,
        regress_ms=(time.perf_counter() - clock[1]) * 1e3 - detect_ms,
    )  # fmt: skip
    if not n:
        return record, None
    faces = Faces(
        image_id=np.full(n, row.image_id, np.int64),
        index=np.arange(n, dtype=np.int32),
        box=sighted.found.boxes,
        score=sighted.found.scores,
        roi=sighted.rois,
        params=sighted.params,
        sharpness=np.array([quality.sharpness(c) for c in sighted.crops], np.float32),
        roi_outside=crop.outside_share(sighted.rois, width, height),
    )
    return record, faces


def _given(row: PlanRow) -> Detections:
    rows = np.array(row.boxes or [], np.float32).reshape(-1, 5)
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    return Detections(np.ascontiguousarray(rows[:, :4]), np.ascontiguousarray(rows[:, 4]))


def _check_finite(params: F32) -> None:
    if not np.isfinite(params).all():
        raise ImageError("failed", "The regressor gave numbers that are not finite.")


def reconstruct(out: str, _: int, found: Found) -> tuple[Found, Geometry]:
    """Landmarks, pose, visibility and distances of all faces of a shard, from their parameters alone."""
    w = worker(out)
    return found, geometry(w, found.faces.params, found.faces.roi)


def geometry(w: Worker, params: F32, rois: F64) -> Geometry:
    """What parameters (N, P) in crops of rois (N, 4) mean in the image; equations (1) to (5)."""
    manifest = w.model.bundle.manifest
    in_image = image_pose(w.model.morphable.layout.pose(params), rois, w.size)
    rotation, scale = pose.rotation_and_scale(pose.upright(in_image))
    landmarks = points(w.landmarks, params, rois, w.size)
    seen = np.ones((len(params), N_LANDMARKS), np.bool_)
    for start in range(0, len(params), BLOCK):
        block = slice(start, start + BLOCK)
        around = points(w.occluding, params[block], rois[block], w.size)
        seen[block] = visible(w.occlusion, around, landmarks[block], scale[block].astype(np.float32))
    return Geometry(
        rotation=rotation.astype(np.float32),
        angles=pose.angles(rotation).astype(np.float32),
        scale=scale.astype(np.float32),
        translation=in_image[:, :, 3].astype(np.float32),
        landmarks=landmarks,
        visible=seen,
        param_distance=quality.param_distance(params, np.array(manifest.param_mean), np.array(manifest.param_std)),
    )


@dataclass(frozen=True)
class Written:
    """A shard's files under their staged names, by the names they will have, and its counts."""

    staged: dict[str, str]
    rows: dict[str, int]
    no_face: int
    errors: dict[str, int]


def write(out: str, shard: int, reconstructed: tuple[Found, Geometry]) -> Written:
    """Write a shard's tables and meshes, all under staged names."""
    w, folder = worker(out), Path(out)
    found, meaning = reconstructed
    stem = store.shard_name(shard)
    names = {kind: f"{kind}/{stem}.parquet" for kind in (store.FACES, store.IMAGES)}
    vertices = f"{store.VERTICES}/{stem}.h5" if w.options.vertices != "none" and len(found.faces) else None
    staged = {name: store.staged(folder / name) for name in (*names.values(), *([vertices] if vertices else []))}
    try:
        if vertices:
            topology, dense = w.model.morphable.topology, _dense(w, found.faces)
            store.put_vertices(staged[vertices], _face_ids(found.faces), dense, w.dense.n_points, topology)
        store.put_table(staged[names[store.FACES]], faces_table(w, found, meaning, vertices))
        store.put_table(staged[names[store.IMAGES]], images_table(found.records))
    except BaseException:
        for work in staged.values():
            work.unlink(missing_ok=True)
        raise
    return Written(
        {name: str(work) for name, work in staged.items()},
        rows={store.IMAGES: len(found.records), store.FACES: len(found.faces)},
        no_face=sum(record.status == "no_face" for record in found.records),
        errors=dict(Counter(r.error_kind for r in found.records if r.error_kind is not None)),
    )


def commit(out: str, shard: int, written: Written) -> store.Receipt:
    """Flush a shard's files to disk, give them their names, and write its receipt, which is all the client sees.

    Nothing here computes: it waits for the disk, while the worker is at the next shard already.
    """
    folder = Path(out)
    for name, work in written.staged.items():
        store.publish(Path(work), folder / name)
    sizes = {name: store.size_of(folder / name) for name in written.staged}
    receipt = store.Receipt(shard, written.rows, written.no_face, written.errors, sizes)
    store.write_receipt(folder, receipt)
    store.InFlight.forget(folder, shard)
    return receipt


#: Fewer inputs than this are done in this process: starting a local cluster takes some seconds, which they
#: do not win back.
FEW = {"process": 200, "synth-videos": 20}
#: The stages of a shard, by the names Dask's dashboard shows.
STAGES: graph.Stages = {"find-faces": find_faces, "reconstruct": reconstruct, "write": write, "commit": commit}


def _face_ids(faces: Faces) -> I64:
    return faces.image_id * FACES_PER_IMAGE + faces.index


def _dense(w: Worker, faces: Faces) -> Iterator[F32]:
    for start in range(0, len(faces), BLOCK):
        block = slice(start, start + BLOCK)
        yield points(w.dense, faces.params[block], faces.roi[block], w.size)


# ---------------------------------------------------------------------------------------------- the tables


def images_table(records: list[ImageRecord]) -> pa.Table:
    """The rows of `images/`."""
    return pa.Table.from_pylist([asdict(record) for record in records], schema=tables.IMAGES)


def faces_table(w: Worker, found: Found, g: Geometry, vertices: str | None) -> pa.Table:
    """The rows of `faces/`."""
    faces, n = found.faces, len(found.faces)
    keys = {record.image_id: record.key for record in found.records}
    columns: dict[str, Any] = {
        "face_id": _face_ids(faces), "image_id": faces.image_id,
        "key": [keys[i] for i in faces.image_id.tolist()],
        "face_index": faces.index, "box": faces.box, "score": faces.score, "roi": faces.roi,
        "params": faces.params, **geometry_columns(g),
        "roi_outside": faces.roi_outside, "param_distance": g.param_distance, "sharpness": faces.sharpness,
        "vertices_file": None if vertices is None else [vertices] * n,
        "vertices_row": None if vertices is None else np.arange(n, dtype=np.int32),
    }  # fmt: skip
    model = w.run.model
    schema = tables.faces_schema(w.model.bundle.manifest.layout.size, {
        f"ddfa_batch.{key}": str(model[key]) for key in ("name", "digest", "licence", "topology")
    })  # fmt: skip
    return table_of(columns, schema)


def geometry_columns(g: Geometry) -> dict[str, Any]:
    """What the faces and the frames table share of a face's geometry."""
    n = len(g.scale)
    return {
        "rotation": g.rotation.reshape(n, 9), "yaw": g.angles[:, 0], "pitch": g.angles[:, 1], "roll": g.angles[:, 2],
        "scale": g.scale, "tx": g.translation[:, 0], "ty": g.translation[:, 1], "tz": g.translation[:, 2],
        "landmarks68": g.landmarks.reshape(n, 3 * N_LANDMARKS), "landmarks68_visible": g.visible,
        "face_size": quality.face_size(g.landmarks) if n else np.zeros(0, np.float32),
    }  # fmt: skip


def table_of(columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    """A table of columns given as arrays (n,) or (n, k), lists, or None for nothing but nulls."""
    n = len(columns[schema.names[0]])
    return pa.Table.from_arrays([_column(columns[f.name], f.type, n) for f in schema], schema=schema)


def _column(values: object, kind: pa.DataType, n: int) -> pa.Array:
    if values is None:
        return pa.nulls(n, kind)
    if isinstance(values, np.ndarray) and values.ndim == 2:
        flat = pa.array(np.ascontiguousarray(values).ravel()).cast(kind.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, type=kind)
    return pa.array(values).cast(kind) if isinstance(values, np.ndarray) else pa.array(values, kind)


# ------------------------------------------------------------------------------------------------- the run


def process(
    wanted: Wanted,
    execution: Execution,
    overwrite: bool = False,
    progress: Callable[[Run, Totals], None] = lambda run, totals: None,
) -> tuple[Run, Totals]:
    """Do all of a run that is not done yet, and join what it wrote.

    `progress` is called once before the first shard and after every shard. Raises `DdfaError` for what the
    whole run cannot survive; whatever is wrong with one image is a row of its images table.
    """
    run, totals = carry_out(wanted, execution, overwrite, progress, STAGES)
    join_vertices(run)
    return run, totals


def carry_out(
    wanted: Wanted,
    execution: Execution,
    overwrite: bool,
    progress: Callable[[Run, Totals], None],
    stages: graph.Stages,
) -> tuple[Run, Totals]:
    """Plan a run or find it planned, and do the shards that have no receipt; every kind of run goes this way."""
    run = plan.prepare(wanted, overwrite)
    totals = plan.total(run)
    progress(run, totals)
    todo = plan.remaining(run)
    for receipt in graph.run_shards(str(run.out.resolve()), todo, run.n_inputs < FEW[run.kind], execution, stages):
        totals = totals.plus(receipt)
        progress(run, totals)
    if missing := plan.remaining(run):
        raise DdfaError(f"{len(missing)} shards of {run.out} have no receipt; run the same command again.")
    plan.sweep(run)
    return run, totals


def join_vertices(run: Run) -> None:
    """Join the vertex files of a run that has not too many of them in vertices.h5."""
    if (run.out / store.ALL_VERTICES).exists():
        return
    files = [f for r in plan.receipts(run) for f in r.files if f.startswith(store.VERTICES)]
    if 0 < len(files) <= store.MAX_VIRTUAL_SOURCES:
        store.write_virtual(run.out, files)
