"""The stages of every run that makes faces: find_faces → reconstruct → write.

image bytes → pixels → boxes → rois → crops → parameters → landmarks and meshes → tables. `find_faces` holds pixels, one
image at a time; `reconstruct` and `write` see small arrays only. A stage needs nothing but the run folder and a number.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ddfa_batch.pipeline import engine, freed_memory, plan
from ddfa_batch.pipeline.context import ModelContext, RunContext, run_context
from ddfa_batch.pipeline.plan import PlanRow
from ddfa_batch.pipeline.run_tables import face_ids, faces_table, images_table
from ddfa_batch.pipeline.staging import StagedShard, staging
from ddfa_batch.pipeline.track_seams import FollowedSegment, seam_arrays, seams_name
from ddfa_batch.pipeline.video_segments import Follower, FrameReader, by_frame, frame_record, seam_rows, segments_of
from ddfa_batch.schemas.arrays import F32, F64, U8
from ddfa_batch.schemas.config import FACES_PER_IMAGE, NO_SMOOTHING, SCALED
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.schemas.faces import NO_TRACK, Detections, Faces, Geometry, ImageRecord
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.tasks.files import guarded_images, input_reader, store
from ddfa_batch.tasks.files.mesh_files import put_vertices
from ddfa_batch.tasks.geometry import crop, pose, quality
from ddfa_batch.tasks.geometry.picture import Picture
from ddfa_batch.tasks.geometry.reconstruct import BLOCK, image_pose, points
from ddfa_batch.tasks.geometry.visibility import visible
from ddfa_batch.tasks.inference.face_finder import FaceCandidates
from ddfa_batch.tasks.inference.face_observer import NetworkObserver
from ddfa_batch.tasks.inference.refinement import distinct_faces, refine, regress_faces

#: Roi of a box the user brings: as upstream's, which fits boxes of the face from brow to chin.
_GIVEN_ROI = (1.58, 0.14)


@dataclass(frozen=True)
class ShardFaces:
    """What `find_faces` hands on."""

    #: A record per image of the shard, in the plan's order.
    records: list[ImageRecord]
    #: The regressed faces of all of them, in the same order.
    faces: Faces
    #: What is known of each video whose faces were followed.
    segments: tuple[FollowedSegment, ...] = ()


def find_faces(out: str, shard: int, announced: bool = True) -> ShardFaces:
    """Decode, detect, crop and regress every image of a shard. One image's failure is its own row.

    Faces are followed through the frames of a video, where that is asked for.
    """
    found = find_faces_of(out, shard, plan.read_shard(out, shard), announced)
    if any(record.video is not None for record in found.records):
        freed_memory.give_back()
    return found


def find_faces_of(out: str, shard: int, rows: Sequence[PlanRow], announced: bool = True) -> ShardFaces:
    """The same of some images of a shard; where faces are followed, of all."""
    context = run_context(out)
    follows = follows_faces(context, rows)
    beyond = seam_rows(rows, plan.read_after(context.run, shard)) if follows else []
    followers = _followers(context, [*rows, *beyond]) if follows else {}
    readers = {} if follows else {video: FrameReader(context, frames) for video, frames in segments_of(rows).items()}

    def work(row: PlanRow) -> tuple[ImageRecord, Faces | None]:
        if row.video is None:
            return _faces_of(context, row)
        return followers[row.video].look(row) if follows else _faces_of_frame(context, row, readers[row.video])

    done = engine.each_item(out, shard, [*rows, *beyond], work, announced=announced, counted=len(rows))
    parts = [faces for _, faces in done if faces is not None]
    found = Faces.concatenate(parts, context.n_params)
    records = [record for record, _ in done[: len(rows)]]
    if context.options.sample_json:
        samples = [input_reader.read_sample(row.item) for row in rows]
        records = [replace(record, meta_json=text) for record, text in zip(records, samples, strict=True)]
    if not follows:
        return ShardFaces(records, found)
    counted, ordered = by_frame(records, found, context.options.max_faces or FACES_PER_IMAGE)
    return ShardFaces(counted, ordered, tuple(follower.segment() for follower in followers.values()))


def follows_faces(context: RunContext, rows: Sequence[PlanRow]) -> bool:
    """Whether the faces of a shard with these rows are followed: it has frames, and no boxes are given for them."""
    return context.find is not None and context.options.track and any(row.video is not None for row in rows)


def _followers(context: RunContext, rows: Sequence[PlanRow]) -> dict[int, Follower]:
    """What follows the faces of each video among the rows of a shard, by video."""
    assert context.find is not None
    see = NetworkObserver(context.find, context.regressor, context.landmarks, context.options.refine, context.mirror)
    return {video: Follower(context, see, frames) for video, frames in segments_of(rows).items()}


def _faces_of(context: RunContext, row: PlanRow) -> tuple[ImageRecord, Faces | None]:
    if not row.item.key and row.item.path is None:
        raise ImageError("missing", "The list names no path in this row.")
    began = time.perf_counter()
    data = input_reader.read_input(context.run.root, row.item)
    decode = guarded_images.picture if context.options.decode == SCALED else guarded_images.decode
    picture = Picture.of(decode(data, context.options.max_pixels, context.options.formats))
    if context.find:
        picture.at_least(context.find.first_scale(picture))
    record, found = _faces_in(context, row, picture, began)
    return replace(record, n_bytes=len(data)), found


def _faces_of_frame(context: RunContext, row: PlanRow, reader: FrameReader) -> tuple[ImageRecord, Faces | None]:
    began = time.perf_counter()
    return _faces_in(context, row, Picture.of(reader.picture(row)), began)


def _faces_in(context: RunContext, row: PlanRow, picture: Picture, began: float) -> tuple[ImageRecord, Faces | None]:
    """The faces of a picture that took since `began` to decode, as far as it was."""
    clock, decoded = [began, time.perf_counter()], picture.decode_seconds
    found = found_faces(context, picture) if context.find else _given_faces(context, picture, row)
    n, detect_ms, further = len(found), found.seconds * 1e3, picture.decode_seconds - decoded
    decode_ms = (clock[1] - clock[0] + further) * 1e3
    regress_ms = (time.perf_counter() - clock[1] - further) * 1e3 - detect_ms
    record = frame_record(row, (picture.height, picture.width), n, (decode_ms, detect_ms, regress_ms))
    return record, image_faces(found, picture, row.image_id) if n else None


def image_faces(found: FaceCandidates, picture: Picture, image_id: int) -> Faces:
    """The faces found in one picture, as rows."""
    height, width = picture.height, picture.width
    return Faces(
        image_id=np.full(len(found), image_id, np.int64),
        index=np.arange(len(found), dtype=np.int32),
        box=found.detections.boxes,
        score=found.detections.scores,
        roi=found.rois,
        params=found.params,
        sharpness=np.array([quality.sharpness(c) for c in found.crops], np.float32),
        roi_outside=crop.outside_share(found.rois, width, height),
        track=np.full(len(found), NO_TRACK, np.int64),
    )


def found_faces(context: ModelContext, image: U8 | Picture) -> FaceCandidates:
    """The faces that the detector finds; twins are merged first, so that none costs another face its place."""
    assert context.find is not None
    most, times = context.options.max_faces or FACES_PER_IMAGE, context.options.refine
    merging = times > 0 and most > 1
    found = context.find(image, FACES_PER_IMAGE if merging else most)
    found = refine(image, found, context.regressor, context.landmarks, times, context.mirror)
    if merging:
        found = distinct_faces(found, context.regressor, context.landmarks)
    return found if len(found) <= most else found.take(np.arange(most))


def _given_faces(context: RunContext, image: Picture, row: PlanRow) -> FaceCandidates:
    """The faces in the boxes that the user gave; each is kept."""
    given = _given(row).best(context.options.max_faces or FACES_PER_IMAGE)
    found = regress_faces(image, given, crop.roi_from_boxes(given.boxes, *_GIVEN_ROI), context.regressor)
    return refine(image, found, context.regressor, context.landmarks, context.options.refine, context.mirror)


def _given(row: PlanRow) -> Detections:
    rows = np.array(row.boxes or [], np.float32).reshape(-1, 5)
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    return Detections(np.ascontiguousarray(rows[:, :4]), np.ascontiguousarray(rows[:, 4]))


def reconstruct(out: str, _: int, found: ShardFaces) -> tuple[ShardFaces, Geometry]:
    """Landmarks, pose, visibility and distances of all faces of a shard, from their parameters alone."""
    return found, geometry(run_context(out), found.faces.params, found.faces.roi)


def geometry(context: ModelContext, params: F32, rois: F64) -> Geometry:
    """What parameters (N, P) in crops of rois (N, 4) mean in the image; equations (1) to (5)."""
    manifest = context.model.bundle.manifest
    in_image = image_pose(context.model.morphable.layout.pose(params), rois, context.size)
    rotation, scale = pose.rotation_and_scale(pose.upright(in_image))
    landmarks = points(context.landmarks, params, rois, context.size)
    seen = np.ones((len(params), N_LANDMARKS), np.bool_)
    for start in range(0, len(params), BLOCK):
        block = slice(start, start + BLOCK)
        around = points(context.occluding, params[block], rois[block], context.size)
        seen[block] = visible(context.occlusion, around, landmarks[block], scale[block].astype(np.float32))
    return Geometry(
        rotation=rotation.astype(np.float32),
        angles=pose.angles(rotation).astype(np.float32),
        scale=scale.astype(np.float32),
        translation=in_image[:, :, 3].astype(np.float32),
        landmarks=landmarks,
        visible=seen,
        param_distance=quality.param_distance(params, manifest),
    )


def write(out: str, shard: int, reconstructed: tuple[ShardFaces, Geometry]) -> StagedShard:
    """Write a shard's tables and meshes, all under staged names."""
    context = run_context(out)
    found, meaning = reconstructed
    stem, n = store.shard_name(shard), len(found.faces)
    with staging(out) as staged:
        meshes = None
        if context.options.vertices != "none" and n:
            meshes = f"{store.VERTICES}/{stem}.h5"
            topology, dense = context.model.morphable.topology, dense_blocks(context, found.faces)
            ids, form = face_ids(found.faces), context.options.vertices
            put_vertices(staged.path(meshes), ids, dense, context.dense.n_points, topology, form)
        if found.segments:
            store.put_arrays(staged.path(seams_name(shard)), seam_arrays(found.faces.track, found.segments))
        smooth = context.options.smooth != NO_SMOOTHING
        names = context.model.bundle.manifest.expression_names
        faces = faces_table(found.records, found.faces, meaning, meshes, context.run.model, smooth, names)
        store.put_table(staged.path(f"{store.FACES}/{stem}.parquet"), faces)
        inputs = images_table(found.records, context.options.sample_json)
        store.put_table(staged.path(f"{store.IMAGES}/{stem}.parquet"), inputs)
        return staged.shard(found.records, {store.FACES: n})


def dense_blocks(context: ModelContext, faces: Faces) -> Iterator[F32]:
    """Meshes (n, V, 3) of faces, block by block."""
    for start in range(0, len(faces), BLOCK):
        block = slice(start, start + BLOCK)
        yield points(context.dense, faces.params[block], faces.roi[block], context.size)
