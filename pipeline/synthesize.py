"""`synth-videos`: a still and its parameters → paths of a head → frames → degraded frames with exact labels.

The paper's short-video-synthesis (section 2.4): x_j = (T ∘ F)(x_{j−1}), x'_j = (M ∘ P)(x_j), together with x_0. A shard
goes through three stages: `find_faces` (or what the user gave), `render_clips`, which holds pixels and writes the
pictures, and `write`, which writes the labels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ddfa_batch.pipeline import engine, faces, graph, plan
from ddfa_batch.pipeline.context import RunContext, run_context
from ddfa_batch.pipeline.engine import execute_run
from ddfa_batch.pipeline.faces import ShardFaces
from ddfa_batch.pipeline.plan import PlanRow, Run, RunRequest
from ddfa_batch.pipeline.progress import Report, Totals, unheard
from ddfa_batch.pipeline.run_tables import geometry_columns, images_table, model_metadata, table_of
from ddfa_batch.pipeline.staging import StagedShard, commit, staging
from ddfa_batch.schemas import tables
from ddfa_batch.schemas.arrays import F32, F64, I64, U8
from ddfa_batch.schemas.config import CLIPS_PER_FACE, FACES_PER_IMAGE, ORIGINAL, Execution, SynthOptions
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.schemas.faces import Faces, Geometry, ImageRecord
from ddfa_batch.tasks.files import atomic, clip_files, images, store
from ddfa_batch.tasks.files.inputs import resolve_path
from ddfa_batch.tasks.geometry import crop, motion, pose
from ddfa_batch.tasks.geometry.motion import Motion, MotionLimits
from ddfa_batch.tasks.geometry.reconstruct import crop_pose, image_pose
from ddfa_batch.tasks.rendering import degradation, face_profiling, stills
from ddfa_batch.tasks.rendering.rasteriser import Viewport
from ddfa_batch.tasks.rendering.surface import Surface

#: A face whose landmarks span less than this many pixels either way is none.
_SMALLEST = 4.0
#: Most degrees, shares of scale and shares of the roi's side a frame may add, at `speed` 1.
_SPEEDS = MotionLimits()


@dataclass(frozen=True)
class ClipLabels:
    """What is known of a clip's frames, one row each: the columns of the frames table, less the ids."""

    clip: int
    face_index: int
    frame_keys: list[str]
    shapes: list[tuple[int, int]]
    source_rois: F64
    rois: F64
    params: F32
    geometry: Geometry
    motion: Motion
    noise: F32
    blur: F32
    note: str | None


@dataclass(frozen=True)
class RenderedClips:
    """What `render_clips` hands on: a record per image, its clips' labels by image, and where the clips are staged."""

    records: list[ImageRecord]
    labels: dict[int, list[ClipLabels]]
    clips: str


@dataclass(frozen=True)
class SynthesisContext:
    """All one process needs to make clips: what `process` needs, the face's surface, and the options."""

    base: RunContext
    options: SynthOptions
    limits: MotionLimits
    surface: Surface


def context(out: str) -> SynthesisContext:
    """This process's `SynthesisContext` for the run in `out`."""
    return _context(out, (Path(out) / store.RUN).stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _context(out: str, _: int) -> SynthesisContext:
    base = run_context(out)
    options = SynthOptions.from_dict(base.run.options)
    return SynthesisContext(base, options, limits(options), Surface.of(base.model.morphable))


def limits(options: SynthOptions) -> MotionLimits:
    """The motion the options allow; raises `DdfaError` for a range that is none."""
    fast = options.speed
    return MotionLimits(
        options.yaw, options.pitch, options.roll, options.scale, options.shift, _SPEEDS.yaw_speed * fast,
        _SPEEDS.pitch_speed * fast, _SPEEDS.roll_speed * fast, _SPEEDS.scale_speed * fast, _SPEEDS.shift_speed * fast,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- the stages


def find_faces(out: str, shard: int) -> ShardFaces:
    """The parameters of every still of a shard: those the user gave, or those that `process` would find."""
    base = run_context(out)
    if base.run.options["params_digest"] is None:
        return faces.find_faces(out, shard, announced=False)
    done = engine.each_item(
        out, shard, plan.read_shard(Path(out), shard), lambda row: _faces_given(row, base.n_params), announced=False
    )
    parts = [given for _, given in done if given is not None]
    return ShardFaces([record for record, _ in done], Faces.concatenate(parts, base.n_params))


def _faces_given(row: PlanRow, n_params: int) -> tuple[ImageRecord, Faces]:
    given = _given(row, n_params)
    if not len(given):
        raise ImageError("no_params", "The parameters given have no face of this image.")
    return ImageRecord(row.image_id, row.item.key, "ok", n_faces=len(given)), given


def _given(row: PlanRow, n_params: int) -> Faces:
    index = np.array(row.face_index or [], np.int32)
    n = len(index)
    nil = np.zeros(n, np.float32)
    return Faces(
        image_id=np.full(n, row.image_id, np.int64), index=index, box=np.zeros((n, 4), np.float32), score=nil,
        roi=np.array(row.rois or [], np.float64).reshape(n, 4),
        params=np.array(row.params or [], np.float32).reshape(n, n_params), sharpness=nil, roi_outside=nil,
    )  # fmt: skip


def render_clips(out: str, shard: int, found: ShardFaces) -> RenderedClips:
    """Draw and write the clips of every still of a shard. One still's failure is its own row."""
    s, folder = context(out), Path(out)
    found_of = {record.image_id: record for record in found.records}
    path = clip_files.clips_path(folder, shard, s.options.format)
    work = atomic.staged(path)

    def clips_of(row: PlanRow) -> tuple[ImageRecord, list[ClipLabels]]:
        record = found_of[row.image_id]
        if record.status != "ok":
            return record, []
        mine = found.faces.image_id == row.image_id
        record, labels = _clips_of_still(s, row, record, found.faces, np.flatnonzero(mine), writer)
        writer.keep()
        return record, labels

    try:
        with clip_files.open_clips(work, path.name, s.options.format) as writer:
            done = engine.each_item(out, shard, plan.read_shard(folder, shard), clips_of, failed=writer.discard)
    except BaseException:
        atomic.discard(work)
        raise
    records = [_with_size(record, found_of[record.image_id]) for record, _ in done]
    return RenderedClips(records, {record.image_id: labels for record, labels in done if labels}, str(work))


def _with_size(record: ImageRecord, found: ImageRecord) -> ImageRecord:
    """A still's row, with the size of the picture where only its finding tells it."""
    return replace(record, width=record.width or found.width, height=record.height or found.height)


def _clips_of_still(
    s: SynthesisContext, row: PlanRow, record: ImageRecord, found: Faces, which: I64, writer: clip_files.ClipWriter
) -> tuple[ImageRecord, list[ClipLabels]]:
    """The clips of the faces `which` of a still, and its row."""
    data = images.read_bytes(resolve_path(Path(s.base.run.root), row.item))
    image = images.decode(data, s.options.max_pixels)
    labels: list[ClipLabels] = []
    for i in which:
        labels += _clips_of_face(s, row, image, int(found.index[i]), found.params[i], found.roi[i], writer)
    return replace(record, width=image.shape[1], height=image.shape[0], n_bytes=len(data)), labels


def _clips_of_face(
    s: SynthesisContext, row: PlanRow, image: U8, face_index: int, params: F32, roi: F64, writer: clip_files.ClipWriter
) -> list[ClipLabels]:
    model, size = s.base.model.morphable, s.base.size
    T = image_pose(motion.true_depth(model.layout.pose(params[None])), roi[None], size)[0]
    shape = stills.face_shape(model, params)
    _refuse_no_face(motion.apply(T, shape[model.landmarks]), image)
    still = stills.prepare(s.surface, image, T, shape)
    made = []
    for clip in range(s.options.clips_per_image):
        rng = np.random.default_rng([s.options.seed, *_words(row.item.key), face_index, clip])
        labels, pictures = clip_of(s, still, shape, params, roi, rng)
        labels = replace(labels, clip=clip, face_index=face_index)
        clip_id = (row.image_id * FACES_PER_IMAGE + face_index) * CLIPS_PER_FACE + clip
        keys = writer.add(clip_id, pictures, _as_json(labels, row.item.key))
        made.append(replace(labels, frame_keys=keys))
    return made


def _refuse_no_face(landmarks: F64, image: U8) -> None:
    """Raise `ImageError` where the landmarks (68, 3) are those of no face in the image."""
    low, high = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
    inside = (high > 0).all() and (low < [image.shape[1], image.shape[0]]).all()
    if not np.isfinite(landmarks).all() or not inside or (high - low).min() < _SMALLEST:
        raise ImageError("no_params", "The parameters given put no face into this image.")


def clip_of(
    s: SynthesisContext, still: stills.Still, shape: F32, params: F32, roi: F64, rng: np.random.Generator
) -> tuple[ClipLabels, list[U8]]:
    """One clip of one face, drawn from `rng` alone: its labels, and its pictures (H, W, 3).

    Frame 0 is the still, or its crop, untouched; only the frames after it are degraded.
    """
    options, layout, n = s.options, s.base.model.morphable.layout, s.options.frames
    rotation, _ = pose.rotation_and_scale(pose.upright(still.pose[None]))
    angles = pose.angles(rotation)[0]
    path = motion.random_motion(rng, s.limits, n, angles, float(roi[2] - roi[0]))
    sigma, exposure = rng.uniform(*options.noise), rng.uniform(*options.blur)
    whole = options.size == ORIGINAL
    view = Viewport.of_image(still.image) if whole else Viewport.of_roi(roi, options.size)
    pictures = face_profiling.frames(s.surface, still, path, [view] * n)
    first = still.image if whole else crop.crop(still.image, roi, options.size)
    poses = motion.compose(view.affine, face_profiling.poses(still, path))
    landmarks = motion.apply(poses, shape[s.base.model.morphable.landmarks])
    square = np.tile([0.0, 0.0, options.size, options.size], (n, 1))
    rois = crop.roi_from_landmarks(landmarks) if whole else square
    labelled = motion.with_pose(layout, params, crop_pose(poses, rois, s.base.size))
    blur = degradation.motion_vectors(landmarks, exposure)
    noise = np.full(n, sigma, np.float32)
    noise[0] = 0
    pictures = [first, *(degradation.degrade(p, sigma, b, rng) for p, b in zip(pictures[1:], blur[1:], strict=True))]
    height, width = still.image.shape[:2]
    labels = ClipLabels(
        clip=0, face_index=0, frame_keys=[], shapes=[(p.shape[1], p.shape[0]) for p in pictures],
        source_rois=np.tile([0.0, 0.0, width, height] if whole else np.round(roi), (n, 1)), rois=rois, params=labelled,
        geometry=faces.geometry(s.base, labelled, rois), motion=path, noise=noise, blur=blur,
        note=motion.note(s.limits, angles),
    )  # fmt: skip
    return labels, pictures


def _words(key: str) -> list[int]:
    """A still's own random numbers: they follow its key, not its place among the inputs."""
    return np.frombuffer(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:16], "<u4").tolist()


def _as_json(labels: ClipLabels, key: str) -> list[dict[str, Any]]:
    """The labels a WebDataset sample carries beside its picture."""
    g = labels.geometry
    return [
        {
            "key": key, "face_index": labels.face_index, "clip": labels.clip, "frame": i,
            "roi": labels.rois[i].tolist(), "params": labels.params[i].tolist(),
            "landmarks68": g.landmarks[i].tolist(), "landmarks68_visible": g.visible[i].tolist(),
            "yaw": float(g.angles[i, 0]), "pitch": float(g.angles[i, 1]), "roll": float(g.angles[i, 2]),
        }
        for i in range(len(labels.params))
    ]  # fmt: skip


def write(out: str, shard: int, rendered: RenderedClips) -> StagedShard:
    """Write a shard's label tables, under staged names, beside its clips."""
    s, folder = context(out), Path(out)
    stem = store.shard_name(shard)
    with staging(out) as staged:
        clips = clip_files.clips_path(folder, shard, s.options.format).relative_to(folder)
        staged.add(clips.as_posix(), Path(rendered.clips))
        frames = frames_table(s, rendered)
        store.put_table(staged.path(f"{FRAMES}/{stem}.parquet"), frames)
        store.put_table(staged.path(f"{store.IMAGES}/{stem}.parquet"), images_table(rendered.records))
        rows = {
            FRAMES: len(frames),
            clip_files.CLIPS: len(frames) // s.options.frames,
            LIMITED: sum(labels.note is not None for clip in rendered.labels.values() for labels in clip),
        }
        return staged.shard(rendered.records, rows)


FRAMES = store.FRAMES
#: Among a shard's counts: clips that turn back less than was asked, as their `note` says.
LIMITED = "limited"
#: The stages of a shard, by the names Dask's dashboard shows.
STAGES: graph.Stages = {"find-faces": find_faces, "render-clips": render_clips, "write": write, "commit": commit}
#: Fewer stills than this are done in this process.
_FEW = 20


def frames_table(s: SynthesisContext, rendered: RenderedClips) -> pa.Table:
    """The rows of `frames/`."""
    keys = {record.image_id: record.key for record in rendered.records}
    parts = [_clip_rows(s, keys[image], image, labels) for image, clips in rendered.labels.items() for labels in clips]
    schema = tables.frames_schema(s.base.n_params, model_metadata(s.base.run.model))
    return pa.concat_tables([schema.empty_table(), *(table_of(columns, schema) for columns in parts)])


def _clip_rows(s: SynthesisContext, key: str, image_id: int, c: ClipLabels) -> dict[str, Any]:
    g, n, m = c.geometry, len(c.params), c.motion
    face_id = image_id * FACES_PER_IMAGE + c.face_index
    constant = {
        "clip_id": face_id * CLIPS_PER_FACE + c.clip, "face_id": face_id, "image_id": image_id, "key": key,
        "face_index": c.face_index, "seed": s.options.seed, "note": c.note,
    }  # fmt: skip
    return {
        **{name: [value] * n for name, value in constant.items()},
        "frame": np.arange(n, dtype=np.int32), "frame_key": c.frame_keys,
        "width": [w for w, _ in c.shapes], "height": [h for _, h in c.shapes],
        "source_roi": c.source_rois, "roi": c.rois, "params": c.params,
        **geometry_columns(g),
        "motion_yaw": m.yaw, "motion_pitch": m.pitch, "motion_roll": m.roll, "motion_scale": m.scale,
        "motion_shift_x": m.shift[:, 0], "motion_shift_y": m.shift[:, 1],
        "noise_sigma": c.noise, "blur_x": c.blur[:, 0], "blur_y": c.blur[:, 1],
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------- the run


def synthesize(
    request: RunRequest,
    execution: Execution,
    overwrite: bool = False,
    report: Report = unheard,
    verify: bool = False,
) -> tuple[Run, Totals]:
    """Make all clips of a run that are not made yet; see `engine.execute_run`."""
    if isinstance(request.options, SynthOptions):
        limits(request.options)
    return execute_run(request, execution, STAGES, few=_FEW, overwrite=overwrite, verify=verify, report=report)
