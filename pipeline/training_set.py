"""A run's faces and pictures as clips to train on: a fit, a process run, or the clips of synth-videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.pipeline.photographs import allowed_formats
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.schemas.arrays import F64, U8
from ddfa_batch.schemas.config import DEFAULT_MAX_PIXELS
from ddfa_batch.schemas.errors import DdfaError, InputError
from ddfa_batch.schemas.morphable import N_LANDMARKS, MorphableModel
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.schemas.tables import matrix
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files import guarded_images, images
from ddfa_batch.tasks.files.store import FITS
from ddfa_batch.tasks.fitting.prior import Prior
from ddfa_batch.tasks.geometry import motion
from ddfa_batch.tasks.geometry.reconstruct import image_pose
from ddfa_batch.tasks.geometry.similarity import similarity
from ddfa_batch.tasks.training.clips import Clips, TrainingLabels, clips_of

#: Side of what is kept of a picture, and of the face's roi in its middle, pixels: a crop that is shifted, turned or
#: made smaller shows what is really there.
CUT, ROI = 144, 120
#: Threads that decode.
_THREADS = 2


@dataclass(frozen=True)
class TrainingSet:
    """Clips to train on, and what could not be used."""

    #: All faces that could be used.
    clips: Clips
    #: A sentence for each kind of thing left out.
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Face:
    """One face and its pictures, F of them."""

    #: Of the photograph.
    key: str
    #: The run that holds params and rois.
    run: Results
    #: Of the run's clips; None for a photograph alone.
    clip_id: int | None
    #: (F, P), of each picture.
    params: F64
    #: (F, 4), of each picture.
    rois: F64
    #: (68, 2), labelled in the photograph, image pixels, NaN where missing.
    points: F64
    #: (68,), of the points.
    weights: F64
    #: Parameters (P,) and roi (4,) of the photograph, where another run than the clips' tells them.
    label: tuple[F64, F64] | None = None

    @property
    def photograph(self) -> tuple[F64, F64]:
        """Parameters (P,) and roi (4,) of the photograph."""
        return (self.params[0], self.rois[0]) if self.label is None else self.label

    def pictures(self, root: Path) -> list[U8]:
        """Decode them."""
        if self.clip_id is not None:
            return self.run.clip(self.clip_id)
        data = images.read_bytes(root / self.key)
        return [guarded_images.decode(data, DEFAULT_MAX_PIXELS, allowed_formats(self.run.run))]


def read(labels: Path, root: Path | None, clips: Path | None, bundle: Bundle) -> TrainingSet:
    """All faces of the run `labels`, with the frames that the synth-videos run `clips` made of them, if given.

    With clips, faces are those that have one. `labels` tell the photographs' parameters, `clips` how heads move.
    `root`: the folder the run's keys are relative to, if its pictures no longer lie where the run found them. A face
    whose picture cannot be read is left out and counted. Raises `InputError` where nothing is left, or where a run
    was made with another model.
    """
    run = _opened(labels, bundle)
    moving = run if run.run.kind == "synth-videos" else None if clips is None else _opened(clips, bundle)
    if moving is not None and moving.run.kind != "synth-videos":
        raise InputError(f"{clips} is no synth-videos run; --clips takes one.")
    faces = list(_still_faces(run) if moving is None else _clip_faces(moving, None if moving is run else run))
    if not faces:
        raise InputError(f"{labels} holds no faces to train on.")
    where = root if root is not None else Path(run.run.root)
    frames = len(faces[0].params)
    cut = np.empty((len(faces), frames, CUT, CUT, 3), np.uint8)
    poses = np.empty((len(faces), frames, 3, 4))
    size = bundle.manifest.input_size

    def prepare(i: int) -> str | None:
        try:
            pictures = faces[i].pictures(where)
            if len(pictures) != frames:
                return f"{faces[i].key}: a clip of {len(pictures)} frames, not {frames}"
            poses[i] = _cut(faces[i], pictures, size, cut[i])
        except DdfaError as fault:
            return f"{faces[i].key}: {fault}"
        return None

    with ThreadPoolExecutor(_THREADS) as pool:
        faults = list(pool.map(prepare, range(len(faces))))
    fine = [i for i, fault in enumerate(faults) if fault is None]
    why = next((fault for fault in faults if fault is not None), "")
    if not fine:
        raise InputError(f"None of the {len(faces):,} faces of {labels} can be trained on: {why}")
    _moved_together((cut, poses), fine)
    made = _assembled([faces[i] for i in fine], cut[: len(fine)], poses[: len(fine)], bundle)
    notes = []
    if lost := len(faces) - len(fine):
        notes.append(f"{lost:,} of {len(faces):,} faces are left out; the first: {why}")
    if lost := len(fine) - len(made):
        notes.append(f"{lost:,} faces are left out, for their mirror images cannot be fitted.")
    return TrainingSet(made, tuple(notes))


def _opened(path: Path, bundle: Bundle) -> Results:
    run = open_run(path, bundle.folder)
    if run.run.model.digest != bundle.digest:
        raise InputError(
            f"{path} was made with the model {run.run.model.name}, not with {bundle.manifest.name}; name that model "
            "with --model, or make the labels with this one."
        )
    return run


def _still_faces(run: Results) -> Iterator[_Face]:
    return (face for face, _ in _numbered(run))


def _numbered(run: Results) -> Iterator[tuple[_Face, int]]:
    """The faces of a run's photographs, each with its number in its picture."""
    points = _points_of(run)
    table = run.faces(columns=["key", "face_index", "params", "roi"])
    params, rois = (matrix(table[name]).astype(np.float64) for name in ("params", "roi"))
    names = zip(table["key"].to_pylist(), table["face_index"].to_pylist(), strict=True)
    for i, (key, index) in enumerate(names):
        xy, w = points.get((key, index), _UNLABELLED)
        yield _Face(key, run, None, params[i : i + 1], rois[i : i + 1], xy, w), index


def _clip_faces(run: Results, labels: Results | None) -> Iterator[_Face]:
    """A face for every clip, its frames in order; of another run's faces, those that it made clips of."""
    table = run.frames(columns=["clip_id", "frame", "key", "face_index", "params", "roi"])
    table = table.sort_by([("clip_id", "ascending"), ("frame", "ascending")])
    params, rois = (matrix(table[name]).astype(np.float64) for name in ("params", "roi"))
    clip_ids = np.asarray(table["clip_id"])
    keys, index = table["key"].to_pylist(), table["face_index"].to_pylist()
    known = None if labels is None else {(f.key, i): f for f, i in _numbered(labels)}
    starts = np.flatnonzero(np.diff(clip_ids, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(clip_ids)], strict=True):
        frames, clip = slice(start, stop), int(clip_ids[start])
        if known is None:
            yield _Face(keys[start], run, clip, params[frames], rois[frames], *_UNLABELLED)
        elif face := known.get((keys[start], index[start])):
            yield _Face(face.key, run, clip, params[frames], rois[frames], face.points, face.weights, face.photograph)


_UNLABELLED = (np.full((N_LANDMARKS, 2), np.nan), np.ones(N_LANDMARKS))


def _points_of(run: Results) -> dict[tuple[str, int], tuple[F64, F64]]:
    """The points that a fit was given, by key and face index; nothing for other runs, whose points are the model's."""
    path = run.path / FITS
    if run.run.kind != "fit" or not path.is_file():
        return {}
    table = pq.read_table(path, columns=["key", "face_index", "labels", "weights"])
    table = table.filter(pa.compute.is_valid(table["face_index"]))
    given, weights = (matrix(table[name]).astype(np.float64) for name in ("labels", "weights"))
    if given.shape[1] not in (2 * N_LANDMARKS, 3 * N_LANDMARKS):
        return {}
    xy = given.reshape(len(given), N_LANDMARKS, -1)[..., :2]
    names = zip(table["key"].to_pylist(), table["face_index"].to_pylist(), strict=True)
    return {name: (xy[i], weights[i]) for i, name in enumerate(names)}


def _cut(face: _Face, pictures: Sequence[U8], size: int, out: U8) -> F64:
    """Fill `out` (F, CUT, CUT, 3) from the pictures; the poses (F, 3, 4) in its pixels.

    Where another run labels the photograph, the clip says only how the head moves from there. A head turns about a
    point in space, and no picture shows where depth begins: the photograph's depth is the clip's.
    """
    poses = image_pose(face.params[:, :N_POSE].reshape(-1, 3, 4), face.rois, size)
    roi = face.rois[0]
    if face.label is not None:
        params, roi = face.label
        first = image_pose(params[None, :N_POSE].reshape(1, 3, 4), roi[None], size)[0]
        first[2, 3] = poses[0, 2, 3]
        poses = motion.compose(motion.compose(poses, motion.inverse(poses[:1])), first)
    map_ = similarity(roi, 0.0, 0.0, 0.0, 0.0, ROI)
    map_[:, 2] += (CUT - ROI) / 2
    scale = map_[0, 0]
    centred = map_.copy()
    centred[:, 2] += (scale - 1) / 2
    for target, picture in zip(out, pictures, strict=True):
        target[:] = cv2.warpAffine(picture, centred, (CUT, CUT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    solid = np.concatenate([np.column_stack([map_[:, :2], [0, 0], map_[:, 2]]), [[0, 0, scale, 0]]])
    return motion.compose(solid, poses)


def _assembled(faces: list[_Face], cut: U8, poses: F64, bundle: Bundle) -> Clips:
    """Clips of faces whose pictures cut (N, F, CUT, CUT, 3) and poses (N, F, 3, 4) in their pixels are made."""
    model, manifest = load_morphable(bundle), bundle.manifest
    coefficients = np.stack([face.photograph[0][N_POSE:] for face in faces])
    known = TrainingLabels(
        poses=poses,
        coefficients=coefficients,
        points=_points_in_cut(faces, _own_points(model, coefficients, poses[:, 0])),
        weights=np.stack([face.weights for face in faces]),
    )
    prior = Prior.of_params(np.array(manifest.param_mean), np.array(manifest.param_std))
    return clips_of([face.key for face in faces], cut, known, model, prior)


def _own_points(model: MorphableModel, coefficients: F64, poses: F64) -> F64:
    """The model's own 68 points (N, 68, 2) under coefficients (N, K) and poses (N, 3, 4)."""
    S = model.mean[model.landmarks] + np.einsum("nk,klc->nlc", coefficients, model.basis[:, model.landmarks])
    solid: F64 = S @ poses[:, :, :3].swapaxes(1, 2) + poses[:, None, :, 3]
    return solid[..., :2]


def _points_in_cut(faces: list[_Face], own: F64) -> F64:
    """Labelled points (N, 68, 2) in pixels of the cut, of the photograph; `own` of faces that have none."""
    rois = np.stack([face.photograph[1] for face in faces])
    scale = ROI / (rois[:, 2] - rois[:, 0])
    points = np.stack([face.points for face in faces])
    points = (points - rois[:, None, :2]) * scale[:, None, None] + (CUT - ROI) / 2
    unlabelled = ~np.isfinite(points).any(axis=(1, 2))
    points[unlabelled] = own[unlabelled]
    return points


def _moved_together(arrays: Sequence[U8 | F64], kept: list[int]) -> None:
    """The rows `kept` of each array to its beginning, in place: the pictures of a training set take gigabytes."""
    for target, row in enumerate(kept):
        if target != row:
            for array in arrays:
                array[target] = array[row]
