"""`fit`: landmark files → parameters → the tables of a run, so that whatever reads a run reads labels too."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.pipeline.plan import RUN_FORMAT_VERSION, Run
from ddfa_batch.pipeline.process import Found, commit, reconstruct, write
from ddfa_batch.schemas.arrays import I32, I64, Floats
from ddfa_batch.schemas.config import DEFAULT_MAX_PIXELS, GIVEN_BOXES, ProcessOptions
from ddfa_batch.schemas.errors import InputError, RunFolderError
from ddfa_batch.schemas.faces import Faces, ImageRecord
from ddfa_batch.schemas.tables import PLAN
from ddfa_batch.tasks.bundles.model_bundle import Bundle, load_morphable
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.inputs import Ignored, list_inputs, resolve_source, without_suffix
from ddfa_batch.tasks.files.landmark_files import LabelledFaces, read_landmarks
from ddfa_batch.tasks.fitting.fit_basis import FitBasis, aflw21_weights
from ddfa_batch.tasks.fitting.fit_config import FitConfig
from ddfa_batch.tasks.fitting.landmark_fit import Fitted, fit
from ddfa_batch.tasks.fitting.prior import Prior
from ddfa_batch.tasks.geometry import crop

#: Beside the run's tables: one row per labelled face, fitted or not.
FITS = "fits.parquet"
#: What a face that was labelled, not detected, has for a score.
_SCORE = 1.0


@dataclass(frozen=True)
class Outcome:
    """What came of it: the run, and of its labelled faces how many converged, with what mean residual (a share)."""

    run: Run
    n_faces: int
    n_converged: int
    residual: float


def fit_landmarks(
    landmarks: Path,
    out: Path,
    bundle: Bundle,
    images: Path | None = None,
    prior: Prior | None = None,
    config: FitConfig | None = None,
) -> Outcome:
    """Fit the bundle's face model to the landmarks in a file or folder, and write the run folder `out`.

    `images`: the folder that the landmarks' keys are relative to; a key may lack the picture's ending. A picture that
    is not there is an error row, and its face is not written. The prior is the bundle's own unless given. Faces whose
    fit converged are rows of faces/; every labelled face is a row of fits.parquet. Raises `InputError` for landmarks
    that cannot be read, `RunFolderError` where a run lies.
    """
    if (out / store.RUN).exists():
        raise RunFolderError(f"{out} holds a run already; give another folder.")
    manifest = bundle.manifest
    labelled = read_landmarks(landmarks)
    if images is not None:
        labelled = with_pictures(labelled, images)
    prior = prior or Prior.of_params(np.array(manifest.param_mean), np.array(manifest.param_std))
    config = config or FitConfig(size=manifest.input_size)
    fitted = _fitted(labelled, bundle, prior, config)
    keys = tuple(dict.fromkeys(labelled.keys))
    index = _face_index(labelled, fitted)
    found = _found(labelled, fitted, keys, index)
    run = _write_run(landmarks, images, out, bundle, keys, labelled, config)
    folder = str(out.resolve())
    commit(folder, 0, write(folder, 0, reconstruct(folder, 0, found)))
    store.write_table(out / FITS, _fits_table(labelled, fitted, index))
    converged = fitted.converged
    mean = float(fitted.residual[converged].mean()) if converged.any() else float("nan")
    return Outcome(run, len(labelled.keys), int(converged.sum()), mean)


def _fitted(labelled: LabelledFaces, bundle: Bundle, prior: Prior, config: FitConfig) -> Fitted:
    model = load_morphable(bundle)
    if labelled.landmarks.shape[1] == len(model.landmarks):
        return fit(labelled.landmarks, model, prior, weights=labelled.weights, config=config)
    weights = labelled.weights * aflw21_weights(len(labelled.keys))
    return fit(labelled.landmarks, model, prior, basis=FitBasis.aflw21(model), weights=weights, config=config)


def _found(labelled: LabelledFaces, fitted: Fitted, keys: tuple[str, ...], index: I32) -> Found:
    """What `process` would have found: a record per picture, a row per face that was fitted."""
    image_of = {key: i for i, key in enumerate(keys)}
    image_id: I64 = np.array([image_of[key] for key in labelled.keys], np.int64)
    rows = np.flatnonzero(fitted.converged)
    rows = rows[np.argsort(image_id[rows], kind="stable")]
    owner = image_id[rows]
    counts = np.bincount(owner, minlength=len(keys))
    unknown = np.full(len(rows), np.nan, np.float32)
    faces = Faces(
        image_id=owner, index=index[rows], score=np.full(len(rows), _SCORE, np.float32),
        box=crop.landmark_boxes(fitted.landmarks[rows]).astype(np.float32),
        roi=fitted.rois[rows], params=fitted.params[rows], sharpness=unknown, roi_outside=unknown,
    )  # fmt: skip
    return Found([_record(i, key, int(counts[i]), labelled) for i, key in enumerate(keys)], faces)


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


def _write_run(
    source: Path,
    images: Path | None,
    out: Path,
    bundle: Bundle,
    keys: tuple[str, ...],
    labelled: LabelledFaces,
    config: FitConfig,
) -> Run:
    """run.json, plan and topology of a run of one shard."""
    manifest, model = bundle.manifest, load_morphable(bundle)
    options = ProcessOptions(GIVEN_BOXES, 0.0, None, 0, 0, "none", DEFAULT_MAX_PIXELS, None, None)
    digest = hashlib.sha256("\0".join(labelled.keys).encode("utf-8", "surrogatepass"))
    digest.update(np.ascontiguousarray(labelled.landmarks).tobytes())
    root = images if images is not None else source if source.is_dir() else source.resolve().parent
    run = Run(
        out=out, kind="fit", created=datetime.now(UTC).isoformat(timespec="seconds"),
        root=str(root.resolve()), source=str(source),
        n_inputs=len(keys), shard_size=max(len(keys), 1),
        identity={"kind": "fit", "version": version("ddfa-batch"), "model": bundle.digest, "inputs": digest.hexdigest(),
                  "shard_size": max(len(keys), 1), "options": options.as_dict(), "fit": asdict(config)},
        model={"name": manifest.name, "folder": str(bundle.folder), "digest": bundle.digest,
               "licence": manifest.licence, "topology": manifest.topology, "n_vertices": model.n_vertices},
        notes=[],
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    store.write_topology(out / store.TOPOLOGY, model)
    rows = [{"image_id": i, "key": key} for i, key in enumerate(keys)]
    with store.whole_file(out / store.PLAN) as work:
        pq.write_table(pa.Table.from_pylist(rows, PLAN), work)
    content = {"format": "ddfa-batch run", "format_version": RUN_FORMAT_VERSION, **asdict(run)}
    del content["out"]
    store.write_json(out / store.RUN, content)
    return run


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
