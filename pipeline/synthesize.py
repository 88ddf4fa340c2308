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

import numpy as np

from ddfa_batch.pipeline import engine, faces, graph, plan
from ddfa_batch.pipeline.clip_labels import ClipLabels, as_json, clip_id_of, frames_table
from ddfa_batch.pipeline.context import RunContext, run_context
from ddfa_batch.pipeline.engine import execute_run
from ddfa_batch.pipeline.faces import ShardFaces
from ddfa_batch.pipeline.plan import PlanRow, Run, RunRequest
from ddfa_batch.pipeline.progress import Report, Totals, unheard
from ddfa_batch.pipeline.run_tables import images_table, model_metadata
from ddfa_batch.pipeline.staging import StagedShard, commit, staged_work, staging
from ddfa_batch.schemas import tables
from ddfa_batch.schemas.arrays import F32, F64, I64, U8
from ddfa_batch.schemas.config import ORIGINAL, Execution, SynthOptions
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.schemas.faces import NO_TRACK, Faces, ImageRecord
from ddfa_batch.tasks.files import clip_files, guarded_images, store
from ddfa_batch.tasks.files.input_reader import read_input
from ddfa_batch.tasks.files.run_folders import run_folder_at
from ddfa_batch.tasks.geometry import crop, motion, pose
from ddfa_batch.tasks.geometry.motion import MotionLimits
from ddfa_batch.tasks.geometry.reconstruct import crop_pose, image_pose
from ddfa_batch.tasks.rendering import degradation, face_profiling, stills
from ddfa_batch.tasks.rendering.rasteriser import Viewport
from ddfa_batch.tasks.rendering.surface import Surface

#: A face whose landmarks span less than this many pixels either way is none.
_SMALLEST = 4.0
#: Most degrees, shares of scale and shares of the roi's side a frame may add, at `speed` 1.
_SPEEDS = MotionLimits()


@dataclass(frozen=True)
class RenderedClips:
    """What `render_clips` hands on."""

    #: One per image.
    records: list[ImageRecord]
    #: Of the clips, by image.
    labels: dict[int, list[ClipLabels]]
    #: The staged file or folder that holds them.
    clips: str


@dataclass(frozen=True)
class SynthesisContext:
    """All one process needs to make clips."""

    #: What every kind of run needs.
    base: RunContext
    #: The run's own.
    options: SynthOptions
    #: How far and fast a head may move by these options.
    limits: MotionLimits
    #: The face model's, as profiling needs it.
    surface: Surface


def context(out: str) -> SynthesisContext:
    """This process's `SynthesisContext` for the run in `out`."""
    return _context(out, run_folder_at(out).stamp(store.RUN))


@lru_cache(maxsize=2)
def _context(out: str, _: object) -> SynthesisContext:
    base = run_context(out)
    options = SynthOptions.from_dict(base.run.options)
    return SynthesisContext(base, options, limits(options), Surface.of(base.model.morphable))


def limits(options: SynthOptions) -> MotionLimits:
    """The motion the options allow; raises `DdfaError` for a range that is none."""
    fast = options.speed
    return MotionLimits(
        options.yaw,
        options.pitch,
        options.roll,
        options.scale,
        options.shift,
        yaw_speed=_SPEEDS.yaw_speed * fast,
        pitch_speed=_SPEEDS.pitch_speed * fast,
        roll_speed=_SPEEDS.roll_speed * fast,
        scale_speed=_SPEEDS.scale_speed * fast,
        shift_speed=_SPEEDS.shift_speed * fast,
    )


# ---------------------------------------------------------------------------------------------- the stages


def find_faces(out: str, shard: int) -> ShardFaces:
    """The parameters of every still of a shard: those the user gave, or those that `process` would find."""
    base = run_context(out)
    if base.run.options["params_digest"] is None:
        return faces.find_faces(out, shard, announced=False)
    done = engine.each_item(
        out, shard, plan.read_shard(out, shard), lambda row: _faces_given(row, base.n_params), announced=False
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
        image_id=np.full(n, row.image_id, np.int64),
        index=index,
        box=np.zeros((n, 4), np.float32),
        score=nil,
        roi=np.array(row.rois or [], np.float64).reshape(n, 4),
        params=np.array(row.params or [], np.float32).reshape(n, n_params),
        sharpness=nil,
        roi_outside=nil,
        track=np.full(n, NO_TRACK, np.int64),
    )


def render_clips(out: str, shard: int, found: ShardFaces) -> RenderedClips:
    """Draw and write the clips of every still of a shard. One still's failure is its own row."""
    s, folder = context(out), Path(out)
    found_of = {record.image_id: record for record in found.records}
    path = clip_files.clips_path(folder, shard, s.options.format)

    def clips_of(row: PlanRow) -> tuple[ImageRecord, list[ClipLabels]]:
        record = found_of[row.image_id]
        if record.status != "ok":
            return record, []
        mine = found.faces.image_id == row.image_id
        record, labels = _clips_of_still(s, row, record, found.faces, np.flatnonzero(mine), writer)
        writer.keep()
        return record, labels

    with (
        staged_work(out, path.relative_to(folder).as_posix()) as work,
        clip_files.open_clips(work, path.name, s.options.format) as writer,
    ):
        done = engine.each_item(out, shard, plan.read_shard(folder, shard), clips_of, failed=writer.discard)
    records = [_with_size(record, found_of[record.image_id]) for record, _ in done]
    return RenderedClips(records, {record.image_id: labels for record, labels in done if labels}, str(work))


def _with_size(record: ImageRecord, found: ImageRecord) -> ImageRecord:
    """A still's row, with the size of the picture where only its finding tells it."""
    return replace(record, width=record.width or found.width, height=record.height or found.height)


def _clips_of_still(
    s: SynthesisContext, row: PlanRow, record: ImageRecord, found: Faces, which: I64, writer: clip_files.ClipWriter
) -> tuple[ImageRecord, list[ClipLabels]]:
    """The clips of the faces `which` of a still, and its row."""
    data = read_input(s.base.run.root, row.item)
    image = guarded_images.decode(data, s.options.max_pixels, s.options.formats)
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
        clip_id = clip_id_of(row.image_id, face_index, clip)
        keys = writer.add(clip_id, pictures, as_json(labels, row.item.key))
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
    shown = _shown(still.image, roi, options.size)
    pictures = face_profiling.frames(s.surface, still, path, [shown.view] * n)
    poses = motion.compose(shown.view.affine, face_profiling.poses(still, path))
    landmarks = motion.apply(poses, shape[s.base.model.morphable.landmarks])
    square = np.tile([0.0, 0.0, options.size, options.size], (n, 1))
    rois = crop.roi_from_landmarks(landmarks) if options.size == ORIGINAL else square
    labelled = motion.with_pose(layout, params, crop_pose(poses, rois, s.base.size))
    blur = degradation.motion_vectors(landmarks, exposure)
    noise = np.full(n, sigma, np.float32)
    noise[0] = 0
    degraded = (degradation.degrade(p, sigma, b, rng) for p, b in zip(pictures[1:], blur[1:], strict=True))
    pictures = [shown.first, *degraded]
    labels = ClipLabels(
        clip=0,
        face_index=0,
        frame_keys=[],
        shapes=[(picture.shape[1], picture.shape[0]) for picture in pictures],
        source_rois=np.tile(shown.roi, (n, 1)),
        rois=rois,
        params=labelled,
        geometry=faces.geometry(s.base, labelled, rois),
        motion=path,
        noise=noise,
        blur=blur,
        note=motion.note(s.limits, angles),
    )
    return labels, pictures


@dataclass(frozen=True)
class _Shown:
    """What a clip's frames show of their still."""

    #: (4,) in the still's pixels.
    roi: F64
    #: The same as a viewport.
    view: Viewport
    #: (h, w, 3) the first frame: the still, or its crop, untouched.
    first: U8


def _shown(image: U8, roi: F64, size: int) -> _Shown:
    """All of an image (H, W, 3), or, of size × size pixels, the crop of its roi (4,)."""
    if size == ORIGINAL:
        height, width = image.shape[:2]
        return _Shown(np.array([0.0, 0.0, width, height]), Viewport.of_image(image), image)
    return _Shown(np.round(roi), Viewport.of_roi(roi, size), crop.crop(image, roi, size))


def _words(key: str) -> list[int]:
    """A still's own random numbers: they follow its key, not its place among the inputs."""
    return np.frombuffer(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:16], "<u4").tolist()


def write(out: str, shard: int, rendered: RenderedClips) -> StagedShard:
    """Write a shard's label tables, under staged names, beside its clips."""
    s, folder = context(out), Path(out)
    stem = store.shard_name(shard)
    with staging(out) as staged:
        clips = clip_files.clips_path(folder, shard, s.options.format).relative_to(folder)
        staged.add(clips.as_posix(), Path(rendered.clips))
        keys = {record.image_id: record.key for record in rendered.records}
        schema = tables.frames_schema(s.base.n_params, model_metadata(s.base.run.model))
        frames = frames_table(keys, rendered.labels, s.options.seed, schema)
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


# ------------------------------------------------------------------------------------------------- the run


def synthesize(
    request: RunRequest,
    execution: Execution,
    overwrite: bool = False,
    report: Report = unheard,
    verify: bool = False,
    extend: bool = False,
) -> tuple[Run, Totals]:
    """Make all clips of a run that are not made yet; see `engine.execute_run`."""
    if isinstance(request.options, SynthOptions):
        limits(request.options)
    return execute_run(
        request, execution, STAGES, few=_FEW, overwrite=overwrite, verify=verify, extend=extend, report=report
    )
