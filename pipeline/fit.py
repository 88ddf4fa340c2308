"""`fit`: landmark files → parameters → the tables of a run, so that whatever reads a run reads labels too."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.pipeline import own_files, plan
from ddfa_batch.pipeline.cluster import one_thread_each
from ddfa_batch.pipeline.engine import claimed
from ddfa_batch.pipeline.faces import ShardFaces, reconstruct, write
from ddfa_batch.pipeline.plan import Run
from ddfa_batch.pipeline.progress import Phase, Progress, Report, ShardProgress, unheard
from ddfa_batch.pipeline.receipts import pending_shards, remove_leftovers, total
from ddfa_batch.pipeline.seal import is_sealed, seal, sealed_names
from ddfa_batch.pipeline.staging import commit
from ddfa_batch.schemas.arrays import I32, I64, Floats
from ddfa_batch.schemas.config import DEFAULT_MAX_PIXELS, GIVEN_BOXES, ProcessOptions
from ddfa_batch.schemas.errors import InputError
from ddfa_batch.schemas.faces import NO_TRACK, Faces, ImageRecord
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.inputs import Ignored, list_inputs, resolve_source, without_suffix
from ddfa_batch.tasks.files.landmark_files import LabelledFaces, read_landmarks
from ddfa_batch.tasks.files.run_folders import run_folder_at
from ddfa_batch.tasks.fitting.fit_basis import FitBasis, aflw21_weights
from ddfa_batch.tasks.fitting.fit_config import FitConfig
from ddfa_batch.tasks.fitting.landmark_fit import Fitted, fit
from ddfa_batch.tasks.fitting.prior import Prior
from ddfa_batch.tasks.geometry.boxes import landmark_boxes

#: Beside the run's tables: one row per labelled face, fitted or not.
FITS = store.FITS
#: Faces that are fitted between two reports.
_PART = 1024
#: What a face that was labelled, not detected, has for a score.
_SCORE = 1.0


@dataclass(frozen=True)
class FitOutcome:
    """What a fit came to."""

    #: The run that holds the fitted faces.
    run: Run
    #: Labelled faces.
    n_faces: int
    #: Those of them whose fit converged.
    n_converged: int
    #: Mean residual of these, a share of the face's size.
    residual: float


def fit_landmarks(
    landmarks: Path,
    out: Path,
    bundle: Bundle,
    images: Path | None = None,
    prior: Prior | None = None,
    config: FitConfig | None = None,
    report: Report = unheard,
) -> FitOutcome:
    """Fit the bundle's face model to the landmarks in a file or folder, and write the run folder `out`.

    `images`: the folder that the landmarks' keys are relative to; a key may lack the picture's ending. A picture that
    is not there is an error row, and its face is not written. The prior is the bundle's own unless given. Faces whose
    fit converged are rows of faces/; every labelled face is a row of fits.parquet. The same command again does nothing
    where the fit is whole, and does it anew where it was interrupted. Raises `InputError` for landmarks that cannot be
    read, `RunFolderError` where another run lies.
    """
    own_files.refuse_strangers(run_folder_at(out))
    report(Progress(Phase.LISTING))
    manifest = bundle.manifest
    labelled = read_landmarks(landmarks)
    if images is not None:
        labelled = with_pictures(labelled, images)
    prior = prior or Prior.of_params(np.array(manifest.param_mean), np.array(manifest.param_std))
    config = config or FitConfig(size=manifest.input_size)
    keys = tuple(dict.fromkeys(labelled.keys))
    report(Progress(Phase.LISTING, listed=len(keys)))
    asked = _asked(landmarks, images, out, bundle, keys, labelled, prior, config)
    rows = [{"image_id": i, "key": key} for i, key in enumerate(keys)]
    with claimed(asked, lambda: rows, bundle, report=report) as run:
        fitted = None if _is_whole(run) else _fitted(run, labelled, bundle, prior, config, report)
        if fitted is not None and not fitted.converged.any():
            own_files.remove_run(run.folder)  # so that better labels can go there
            raise _nothing_converged(run, labelled)
        with own_files.rest_removed(run.folder):
            if fitted is not None:
                _write(run, labelled, keys, fitted)
            seal(run)
            report(Progress(Phase.DONE, run, total(run), run.n_inputs))
            return _outcome(run)


def _is_whole(run: Run) -> bool:
    """Whether nothing is to do: the shard has its receipt, and the fits are there, as they were sealed."""
    if pending_shards(run) or not run.folder.has(FITS):
        return False
    return FITS not in sealed_names(run) or is_sealed(run, FITS)


def _write(run: Run, labelled: LabelledFaces, keys: tuple[str, ...], fitted: Fitted) -> None:
    """Write the run's one shard and its fits."""
    index = _face_index(labelled, fitted)
    folder = run.folder.address
    with one_thread_each():
        staged = write(folder, 0, reconstruct(folder, 0, _found(labelled, fitted, keys, index)))
    store.write_table(run.out / FITS, _fits_table(labelled, fitted, index))
    commit(folder, 0, staged)
    remove_leftovers(run)


def _fitted(
    run: Run, labelled: LabelledFaces, bundle: Bundle, prior: Prior, config: FitConfig, report: Report
) -> Fitted:
    """All faces, in parts, which no face's fit depends on: between them it is told how far the fit is."""
    model, n = load_morphable(bundle), len(labelled.keys)
    basis, weights = None, labelled.weights
    if labelled.landmarks.shape[1] != len(model.landmarks):
        basis, weights = FitBasis.aflw21(model), labelled.weights * aflw21_weights(n)
    parts: list[Fitted] = []
    with one_thread_each():
        for start in range(0, n, _PART):
            done = ShardProgress(0, len(set(labelled.keys[:start])), start)
            report(Progress(Phase.WORKING, run, n_inputs=run.n_inputs, at_work=(done,)))
            part = slice(start, start + _PART)
            parts.append(fit(labelled.landmarks[part], model, prior, basis=basis, weights=weights[part], config=config))
    return Fitted(*(np.concatenate([getattr(p, name) for p in parts]) for name in Fitted.__annotations__))


def _nothing_converged(run: Run, labelled: LabelledFaces) -> InputError:
    if problem := next(iter(labelled.problems.values()), None):
        return InputError(f"None of the faces of {run.source} could be fitted; the first fault is: {problem}")
    n, n_points, n_axes = labelled.landmarks.shape
    what = f"{n:,} faces" if n > 1 else "face"
    return InputError(
        f"None of the {what} of {run.source}, {n_points} points of {', '.join('xyz'[:n_axes])} each, could be fitted; "
        "check that the points are in their markup's order (iBUG's 68, AFLW's 21), in pixels of the picture with y "
        "down, and which of them are missing."
    )


def _outcome(run: Run) -> FitOutcome:
    fits = pq.read_table(run.out / FITS, columns=["converged", "residual"])
    converged, residual = (fits[name].to_numpy() for name in ("converged", "residual"))
    mean = float(residual[converged].mean()) if converged.any() else float("nan")
    return FitOutcome(run, len(converged), int(converged.sum()), mean)


def _found(labelled: LabelledFaces, fitted: Fitted, keys: tuple[str, ...], index: I32) -> ShardFaces:
    """What `process` would have found: a record per picture, a row per face that was fitted."""
    image_of = {key: i for i, key in enumerate(keys)}
    image_id: I64 = np.array([image_of[key] for key in labelled.keys], np.int64)
    rows = np.flatnonzero(fitted.converged)
    rows = rows[np.argsort(image_id[rows], kind="stable")]
    owner = image_id[rows]
    counts = np.bincount(owner, minlength=len(keys))
    unknown = np.full(len(rows), np.nan, np.float32)
    faces = Faces(
        image_id=owner,
        index=index[rows],
        score=np.full(len(rows), _SCORE, np.float32),
        box=landmark_boxes(fitted.landmarks[rows]).astype(np.float32),
        roi=fitted.rois[rows],
        params=fitted.params[rows],
        sharpness=unknown,
        roi_outside=unknown,
        track=np.full(len(rows), NO_TRACK, np.int64),
    )
    return ShardFaces([_record(i, key, int(counts[i]), labelled) for i, key in enumerate(keys)], faces)


def _face_index(labelled: LabelledFaces, fitted: Fitted) -> I32:
    """Which face of its picture each row (N,) is, counting those that converged; −1 for the others."""
    seen = dict.fromkeys(labelled.keys, 0)
    index = np.full(len(labelled.keys), -1, np.int32)
    for row in np.flatnonzero(fitted.converged):
        key = labelled.keys[row]
        index[row], seen[key] = seen[key], seen[key] + 1
    return index


def with_pictures(labelled: LabelledFaces, folder: Path) -> LabelledFaces:
    """Labels whose keys are the pictures' paths below `folder`; what has no picture is a problem and has no points."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give the one that the pictures of the landmarks lie in.")
    by_stem: dict[str, str] = {}
    for item in list_inputs(resolve_source(folder, None), folder, Ignored()):
        by_stem.setdefault(without_suffix(item.key), item.key)
    found = {key: key if (folder / key).is_file() else by_stem.get(key) for key in dict.fromkeys(labelled.keys)}
    points, problems = labelled.landmarks.copy(), dict(labelled.problems)
    for row, key in enumerate(labelled.keys):
        if found[key] is None:
            points[row] = np.nan
            problems.setdefault(key, f"There is no picture '{key}' in {folder}.")
    if len(problems) == len(found):
        raise InputError(f"{folder} has none of the pictures the landmarks name; the first is '{labelled.keys[0]}'.")
    return LabelledFaces(tuple(found[key] or key for key in labelled.keys), points, labelled.weights, problems)


def _record(image_id: int, key: str, n_faces: int, labelled: LabelledFaces) -> ImageRecord:
    if key in labelled.problems:
        return ImageRecord(image_id, key, "error", "unreadable", labelled.problems[key])
    return ImageRecord(image_id, key, "ok" if n_faces else "no_face", n_faces=n_faces)


def _asked(
    source: Path,
    images: Path | None,
    out: Path,
    bundle: Bundle,
    keys: tuple[str, ...],
    labelled: LabelledFaces,
    prior: Prior,
    config: FitConfig,
) -> Run:
    """The run of one shard that is asked for."""
    options = ProcessOptions(
        detector=GIVEN_BOXES,
        min_score=0.0,
        detect_size=None,
        max_faces=0,
        refine=0,
        vertices="none",
        max_pixels=DEFAULT_MAX_PIXELS,
        boxes_digest=None,
        path_column=None,
    )
    digest = hashlib.sha256("\0".join(labelled.keys).encode("utf-8", "surrogatepass"))
    for array in (labelled.landmarks, labelled.weights, prior.mean, prior.std):
        digest.update(np.ascontiguousarray(array).tobytes())
    root = images if images is not None else source if source.is_dir() else source.resolve().parent
    return plan.new_run(
        "fit",
        out,
        bundle,
        root=str(root.resolve()),
        source=str(source),
        inputs=(digest.hexdigest(), len(keys)),
        shard_size=max(len(keys), 1),
        options=options.as_dict(),
        notes=[],
        fit=asdict(config),
    )


def _fits_table(labelled: LabelledFaces, fitted: Fitted, index: I32) -> pa.Table:
    def lists(rows: Floats) -> pa.Array:
        flat = np.asarray(rows, np.float32).reshape(len(rows), -1)
        return pa.FixedSizeListArray.from_arrays(flat.ravel(), max(flat.shape[1], 1))

    return pa.table(
        {
            "key": list(labelled.keys),
            "face_index": pa.array(index, mask=index < 0),
            "converged": fitted.converged,
            "n_points": fitted.n_points,
            "residual": fitted.residual,
            "residual_px": fitted.residual_px,
            "noise": fitted.noise,
            "labels": lists(labelled.landmarks),
            "weights": lists(fitted.weights),
        }
    )
