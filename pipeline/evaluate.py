"""`evaluate`: labels and answers → errors by the paper's protocols (section 3.1) → a table, files and two pictures.

truth (what is labelled) → answers (of a run, or of a model shown the labels' own rois) → errors → OUT.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.schemas.arrays import F32, F64, I64, U8, Bools
from ddfa_batch.schemas.config import DEFAULT_MAX_PIXELS, PROTOCOLS
from ddfa_batch.schemas.errors import DdfaError, InputError
from ddfa_batch.schemas.faces import Detections
from ddfa_batch.schemas.morphable import N_LANDMARKS, MorphableModel
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.bundles.model_bundle import Bundle, loaded_model
from ddfa_batch.tasks.evaluation import landmark_errors, scan_alignment
from ddfa_batch.tasks.files import atomic, images, scan_files, store
from ddfa_batch.tasks.files.given_faces import read_faces
from ddfa_batch.tasks.files.inputs import without_suffix
from ddfa_batch.tasks.files.landmark_files import read_landmarks
from ddfa_batch.tasks.fitting.fit_basis import AFLW21, FitBasis, aflw21_weights, landmark_means
from ddfa_batch.tasks.fitting.fit_config import FitConfig
from ddfa_batch.tasks.fitting.landmark_fit import fit
from ddfa_batch.tasks.fitting.prior import Prior
from ddfa_batch.tasks.geometry import crop, pose
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, image_pose, points
from ddfa_batch.tasks.inference.face_finder import look, look_again
from ddfa_batch.tasks.inference.regressor import Regressor
from ddfa_batch.tasks.rendering import curves, overlay, sheets

#: The outer corners of the eyes and the tip of the nose among the 68 points.
_EYES, _NOSE = (36, 45), 30
#: Error in % at which the cumulative curve ends; faces in the picture of the worst, and in one of its rows.
_CURVE_END, _WORST, _ACROSS = 10.0, 25, 5
_BLOCK = 64


@dataclass(frozen=True)
class Wanted:
    """An evaluation as asked for: exactly one of run, and bundle with images, gives the answers.

    labels: files or folders as the protocol takes them; more than one for the 68 points, told apart by their names.
    refine: passes after the first, for a bundle's answers.
    """

    protocol: str
    labels: tuple[Path, ...]
    out: Path
    run: Path | None = None
    bundle: Bundle | None = None
    images: Path | None = None
    refine: int = 0


@dataclass(frozen=True)
class Truth:
    """Labelled faces, one row each: keys; sets of points (N, L, 2 or 3) by name, pixels, NaN where not labelled.

    yaw (N,) degrees; params (N, P) and rois (N, 4) where whole faces are labelled; clip and frame (N,) of videos, in
    order; scan (N,) files.
    """

    keys: tuple[str, ...]
    sets: dict[str, F64] = field(default_factory=dict)
    yaw: F64 | None = None
    params: F32 | None = None
    rois: F64 | None = None
    clip: I64 | None = None
    frame: I64 | None = None
    scan: tuple[Path, ...] = ()

    @property
    def first(self) -> F64 | None:
        """The first set: what chooses among the faces of a picture, and gives rois."""
        return next(iter(self.sets.values()), None)


@dataclass(frozen=True)
class Answers:
    """What was answered for each labelled face: found (N,); params (N, P), rois (N, 4), landmarks (N, 68, 3)."""

    found: Bools
    params: F32
    rois: F64
    landmarks: F64


@dataclass(frozen=True)
class Score:
    """Errors of one set of labels, %: by bin of |yaw| and their mean where yaws are known, over all faces, median.

    None for a bin without faces, and for what the protocol does not measure. stability: of videos, %.
    """

    labels: str
    mean: float
    median: float
    bins: tuple[float | None, ...] | None = None
    mean_of_bins: float | None = None
    stability: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """The outcome, as summary.json holds it."""

    protocol: str
    measured: str
    normaliser: str
    answers: str
    model: str
    n_labelled: int
    n_found: int
    scores: tuple[Score, ...]
    files: tuple[str, ...]


def evaluate(wanted: Wanted) -> Evaluation:
    """Measure, and write OUT: summary.json, faces.parquet, curve.png and worst.png.

    Faces that were not found are counted, left out of the means, and errors without end in the curve. Raises
    `InputError` for labels that do not suit the protocol, or have none of the answers' pictures.
    """
    if (wanted.out / store.RUN).exists():
        raise InputError(f"{wanted.out} holds a run; give the evaluation a folder of its own.")
    run = None if wanted.run is None else open_run(wanted.run)
    studio = _Studio.of(wanted, run)
    truth = _TRUTHS[wanted.protocol](wanted.labels, studio)
    answers = _of_run(run, truth, studio) if run is not None else _of_model(studio, truth, wanted)
    if not answers.found.any():
        raise InputError(
            f"None of the {len(truth.keys):,} labelled faces was found: are these labels of those pictures?"
        )
    errors, stability = _errors(wanted.protocol, truth, answers, studio)
    scores = tuple(_score(name, e, truth, stability) for name, e in errors.items())
    how = f"run {wanted.run}" if run is not None else f"rois of the labels, {wanted.refine} refinements"
    written = _write(wanted, truth, answers, errors, run)
    measured, normaliser = PROTOCOLS[wanted.protocol]
    outcome = Evaluation(wanted.protocol, measured, normaliser, how, studio.name, len(truth.keys),
                         int(answers.found.sum()), scores, written)  # fmt: skip
    atomic.write_json(wanted.out / "summary.json", asdict(outcome))
    return outcome


@dataclass(frozen=True)
class _Studio:
    """The model whose answers are measured."""

    bundle: Bundle
    model: MorphableModel
    landmarks: PointBasis
    size: int
    name: str

    @staticmethod
    def of(wanted: Wanted, run: Results | None) -> _Studio:
        if run is not None:
            folder, digest = str(run.run.model.folder), str(run.run.model.digest)
        elif wanted.bundle is not None and (wanted.images is not None or wanted.protocol == "video"):
            folder, digest = str(wanted.bundle.folder), wanted.bundle.digest
        else:
            raise InputError("An evaluation needs the folder of a run, or a model and the folder of its pictures.")
        loaded = loaded_model(folder, digest)
        manifest, model = loaded.bundle.manifest, loaded.morphable
        return _Studio(loaded.bundle, model, PointBasis.of(model, model.landmarks), manifest.input_size, manifest.name)

    def prior(self) -> Prior:
        """Of the model's coefficients."""
        return Prior.of_params(np.array(self.bundle.manifest.param_mean), np.array(self.bundle.manifest.param_std))


# ----------------------------------------------------------------------------------------------- truth


def _landmarks(labels: tuple[Path, ...], studio: _Studio, n_points: int) -> Truth:
    read = {path.stem or path.name: read_landmarks(path) for path in labels}
    if len(read) < len(labels):
        raise InputError(
            f"Two files of labels are called {labels[0].stem}; rename one, for they are told apart by name."
        )
    first = next(iter(read.values()))
    sets = {}
    for name, labelled in read.items():
        if labelled.landmarks.shape[1] != n_points:
            raise InputError(f"{name} has {labelled.landmarks.shape[1]} points a face; this protocol takes {n_points}.")
        row_of = {key: row for row, key in enumerate(labelled.keys)}
        missing = [key for key in first.keys if key not in row_of]
        if missing:
            raise InputError(f"{name} has no labels of '{missing[0]}' ({len(missing):,} are missing).")
        rows = [row_of[key] for key in first.keys]
        sets[name] = np.where((labelled.weights[rows] > 0)[..., None], labelled.landmarks[rows], np.nan)
    counts = [np.count_nonzero(np.isfinite(p).all(axis=2), axis=1) for p in sets.values()]
    kept: Bools = np.min(counts, axis=0) > 0
    keys = tuple(key for key, keep in zip(first.keys, kept, strict=True) if keep)
    sets = {name: p[kept] for name, p in sets.items()}
    yaw = first.yaw[kept] if first.yaw is not None else _fitted_yaw(next(iter(sets.values())), studio)
    return Truth(keys, sets, yaw)


def _fitted_yaw(labelled: F64, studio: _Studio) -> F64:
    """Yaw (N,) where none is labelled: of the model fitted to the points; NaN where that fails."""
    basis = FitBasis.aflw21(studio.model) if labelled.shape[1] == len(AFLW21) else None
    found = fit(labelled, studio.model, studio.prior(), basis=basis, config=FitConfig(size=studio.size))
    out = np.full(len(labelled), np.nan)
    rows = np.flatnonzero(found.converged)
    T = image_pose(found.params[rows, :N_POSE].reshape(-1, 3, 4).astype(np.float64), found.rois[rows], studio.size)
    out[rows] = pose.yaw_of(T)
    return out


def _whole_faces(labels: tuple[Path, ...], studio: _Studio) -> Truth:
    given = read_faces(_only(labels), studio.model.layout.size, studio.bundle.digest, 0)
    rows = [(key, params[i], rois[i]) for key, (_, params, rois) in given.by_key.items() for i in range(len(params))]
    keys = tuple(row[0] for row in rows)
    params, rois = np.stack([row[1] for row in rows]), np.stack([row[2] for row in rows])
    T = image_pose(studio.model.layout.pose(params), rois, studio.size)
    yaw = pose.yaw_of(T)
    landmarks = points(studio.landmarks, params, rois, studio.size).astype(np.float64)
    return Truth(keys, {_only(labels).stem: landmarks}, yaw, params, rois)


def _scans(labels: tuple[Path, ...], _: _Studio) -> Truth:
    folder = _only(labels)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; this protocol takes one of scans ({', '.join(scan_files.SUFFIXES)}).")
    files = tuple(sorted(file for file in folder.rglob("*") if file.suffix.lower() in scan_files.SUFFIXES))
    if not files:
        raise InputError(f"{folder} holds no scans ({', '.join(scan_files.SUFFIXES)}).")
    return Truth(tuple(file.relative_to(folder).as_posix() for file in files), scan=files)


def _videos(labels: tuple[Path, ...], studio: _Studio) -> Truth:
    run = open_run(_only(labels), studio.bundle.folder)
    if run.run.kind != "synth-videos":
        raise InputError(f"{labels[0]} is no synth-videos run, whose clips this protocol measures.")
    columns = ["clip_id", "frame", "frame_key", "landmarks68", "yaw"]
    table = run.frames(columns=columns).sort_by([("clip_id", "ascending"), ("frame", "ascending")])
    if not len(table):
        raise InputError(f"{labels[0]} holds no clips.")
    landmarks = np.stack(table["landmarks68"].to_numpy()).reshape(-1, N_LANDMARKS, 3).astype(np.float64)
    return Truth(tuple(table["frame_key"].to_pylist()), {"clips": landmarks}, np.asarray(table["yaw"], np.float64),
                 clip=np.asarray(table["clip_id"]), frame=np.asarray(table["frame"]).astype(np.int64))  # fmt: skip


def _only(labels: tuple[Path, ...]) -> Path:
    if len(labels) != 1:
        raise InputError("This protocol takes the labels of one file or folder.")
    return labels[0]


_TRUTHS = {
    "aflw2000-3d": lambda labels, studio: _landmarks(labels, studio, N_LANDMARKS),
    "aflw": lambda labels, studio: _landmarks(labels, studio, len(AFLW21)),
    "aflw2000-3d-dense": _whole_faces,
    "florence": _scans,
    "video": _videos,
}


# --------------------------------------------------------------------------------------------- answers


def _nothing(n: int, n_params: int) -> Answers:
    def nan(*shape: int) -> F64:
        return np.full(shape, np.nan)

    return Answers(np.zeros(n, np.bool_), nan(n, n_params).astype(np.float32), nan(n, 4), nan(n, N_LANDMARKS, 3))


def _of_run(run: Results, truth: Truth, studio: _Studio) -> Answers:
    """The run's face that holds the middle of the true points, the nearest one; without points, the best face."""
    table = run.faces(columns=["key", "score", "box", "roi", "params"])
    boxes, rois, params = (np.stack(table[name].to_numpy()) if len(table) else np.zeros((0, 4)) for name in
                           ("box", "roi", "params"))  # fmt: skip
    rows_of: dict[str, list[int]] = {}
    for row, key in enumerate(table["key"].to_pylist()):
        rows_of.setdefault(key, []).append(row)
    by_stem = {without_suffix(key): rows for key, rows in rows_of.items()}
    out = _nothing(len(truth.keys), studio.model.layout.size)
    scores = np.asarray(table["score"])
    for i, key in enumerate(truth.keys):
        rows = rows_of.get(key) or by_stem.get(without_suffix(key)) or []
        if not rows:
            continue
        chosen: int | None = int(np.argmax(scores[rows]))
        if truth.first is not None:
            chosen = landmark_errors.match_box(boxes[rows], np.nanmean(truth.first[i, :, :2], axis=0))
        if chosen is not None:
            out.found[i] = True
            out.params[i], out.rois[i] = params[rows[chosen]], rois[rows[chosen]]
    seen = out.found
    out.landmarks[seen] = points(studio.landmarks, out.params[seen], out.rois[seen], studio.size)
    return out


def _of_model(studio: _Studio, truth: Truth, wanted: Wanted) -> Answers:
    """The model's answer to the crop around the true points, then around its own."""
    if truth.first is None or truth.first.shape[1] != N_LANDMARKS:
        raise InputError("Rois of the labels need 68 points a face; process the pictures and give that run instead.")
    regress = Regressor(loaded_model(str(studio.bundle.folder), studio.bundle.digest).regressor, studio.bundle.manifest)
    out = _nothing(len(truth.keys), studio.model.layout.size)
    for i, picture in enumerate(_pictures(truth, wanted)):
        if picture is None or not np.isfinite(truth.first[i]).all():
            continue
        roi = crop.roi_from_landmarks(truth.first[i : i + 1])
        sighted = look(picture, Detections(roi.astype(np.float32), np.ones(1, np.float32)), roi, regress)
        for _ in range(wanted.refine):
            if np.isfinite(sighted.params).all():
                sighted = look_again(picture, sighted, regress, studio.landmarks)
        out.params[i], out.rois[i] = sighted.params[0], sighted.rois[0]
        out.landmarks[i] = points(studio.landmarks, sighted.params, sighted.rois, studio.size)[0]
        out.found[i] = bool(np.isfinite(out.landmarks[i]).all())
    return out


def _pictures(truth: Truth, wanted: Wanted) -> Iterator[U8 | None]:
    """The picture of each row, None where it cannot be read."""
    if truth.clip is not None and truth.frame is not None:
        clips, held, pictures = open_run(wanted.labels[0]), -1, []
        for clip, frame in zip(truth.clip.tolist(), truth.frame.tolist(), strict=True):
            if clip != held:
                held, pictures = clip, clips.clip(clip)
            yield pictures[frame]
        return
    assert wanted.images is not None
    for key in truth.keys:
        yield _picture(wanted.images, key)


def _picture(folder: Path, key: str) -> U8 | None:
    """The picture `key` names below `folder`, with or without its ending."""
    for path in (folder / key, *((folder / key).with_suffix(suffix) for suffix in sorted(images.SUFFIXES))):
        if path.is_file():
            try:
                return images.decode(images.read_bytes(path), DEFAULT_MAX_PIXELS)
            except DdfaError:
                return None
    return None


# ---------------------------------------------------------------------------------------------- errors


def _errors(protocol: str, truth: Truth, answers: Answers, studio: _Studio) -> tuple[dict[str, F64], float | None]:
    """Errors (N,) in % by set of labels, infinite where nothing was found; the stability of videos."""
    found = answers.found
    if protocol == "florence":
        return {"scans": _scan_errors(truth, answers, studio)}, None
    if protocol == "aflw2000-3d-dense":
        return {name: _dense_errors(truth, answers, studio) for name in truth.sets}, None
    landmarks = answers.landmarks
    if protocol == "aflw":
        landmarks = np.einsum("pl,nld->npd", landmark_means(AFLW21), landmarks)
    errors = {}
    for name, labelled in truth.sets.items():
        true = np.where(aflw21_weights(1)[..., None] > 0, labelled, np.nan) if protocol == "aflw" else labelled
        errors[name] = np.full(len(found), np.inf)
        errors[name][found] = landmark_errors.nme(landmarks[found], true[found])
    return errors, _stability(truth, answers) if protocol == "video" else None


def _dense_errors(truth: Truth, answers: Answers, studio: _Studio) -> F64:
    assert truth.params is not None
    assert truth.rois is not None
    basis, errors = PointBasis.of(studio.model), np.full(len(answers.found), np.inf)
    rows = np.flatnonzero(answers.found)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        found, true = (points(basis, p[block], r[block], studio.size) for p, r in
                       ((answers.params, answers.rois), (truth.params, truth.rois)))  # fmt: skip
        errors[block] = landmark_errors.nme_3d(found, true)
    return errors


def _scan_errors(truth: Truth, answers: Answers, studio: _Studio) -> F64:
    model, errors = studio.model, np.full(len(answers.found), np.inf)
    index = model.landmarks
    eyes, nose = (int(index[_EYES[0]]), int(index[_EYES[1]])), int(index[_NOSE])
    for i in np.flatnonzero(answers.found):
        shape = model.mean + np.tensordot(answers.params[i, N_POSE:], model.basis, axes=1)
        errors[i] = scan_alignment.scan_error(shape, eyes, nose, scan_files.read_scan(truth.scan[i])).nme
    return errors


def _stability(truth: Truth, answers: Answers) -> float | None:
    """Mean over all pairs of adjacent frames that were both found; None if there are none."""
    assert truth.clip is not None
    assert truth.first is not None
    moved = landmark_errors.stability(np.where(answers.found[:, None, None], answers.landmarks, 0.0), truth.first)
    pairs = (np.diff(truth.clip) == 0) & answers.found[1:] & answers.found[:-1]
    return float(moved[pairs].mean()) if pairs.any() else None


def _score(name: str, errors: F64, truth: Truth, stability: float | None) -> Score:
    fine = np.isfinite(errors)
    mean, median = float(errors[fine].mean()), float(np.median(errors[fine]))
    if truth.yaw is None or truth.clip is not None:
        return Score(name, mean, median, stability=stability)
    known = fine & np.isfinite(truth.yaw)
    bins = landmark_errors.mean_by_yaw(errors[known], truth.yaw[known])
    each = tuple(float(b) if np.isfinite(b) else None for b in bins)
    return Score(name, mean, median, each, float(np.nanmean(bins)) if known.any() else None)


# ---------------------------------------------------------------------------------------------- output


def _write(
    wanted: Wanted, truth: Truth, answers: Answers, errors: dict[str, F64], run: Results | None
) -> tuple[str, ...]:
    wanted.out.mkdir(parents=True, exist_ok=True)
    columns: dict[str, object] = {"key": list(truth.keys), "found": answers.found}
    columns |= {name: values for name in ("yaw", "clip", "frame") if (values := getattr(truth, name)) is not None}
    finite = {name: pa.array(e, mask=~np.isfinite(e)) for name, e in errors.items()}
    columns |= {f"nme_{name}": array for name, array in finite.items()}
    if truth.first is not None:
        columns["normaliser_px"] = landmark_errors.box_size(truth.first)
    store.write_table(wanted.out / "faces.parquet", pa.table(columns))
    lines = {name: curves.Curve(*landmark_errors.cumulative(e, _CURVE_END)) for name, e in errors.items()}
    curves.draw_curves(wanted.out / "curve.png", lines, f"{wanted.protocol}: cumulative error", "NME (%)",
                        "share of labelled faces", 1.0)  # fmt: skip
    written = ["summary.json", "faces.parquet", "curve.png"]
    return (*written, "worst.png") if _draw_worst(wanted, truth, answers, errors, run) else tuple(written)


def _draw_worst(wanted: Wanted, truth: Truth, answers: Answers, errors: dict[str, F64], run: Results | None) -> bool:
    """The faces with the greatest errors of the first set; False where their pictures are not at hand."""
    if truth.first is None:
        return False
    first = next(iter(errors.values()))
    order = np.argsort(np.where(np.isfinite(first), first, -1))[::-1][:_WORST]
    folder = wanted.images or (Path(run.run.root) if run is not None else None)
    clips = open_run(wanted.labels[0]) if truth.clip is not None else None
    faces = []
    for i in order:
        if clips is not None and truth.clip is not None and truth.frame is not None:
            picture: U8 | None = clips.clip(int(truth.clip[i]))[int(truth.frame[i])]
        else:
            picture = None if folder is None else _picture(folder, truth.keys[i])
        if picture is not None and np.isfinite(first[i]):
            text = f"{first[i]:.1f} %  {truth.keys[i]}"[:38]
            faces.append(overlay.compared(picture, truth.first[i], answers.landmarks[i], text))
    if faces:
        sheets.write_png(wanted.out / "worst.png", sheets.grid(faces, _ACROSS))
    return bool(faces)
