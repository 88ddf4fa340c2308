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
from ddfa_batch.schemas.arrays import I64
from ddfa_batch.schemas.config import DEFAULT_MAX_PIXELS, GIVEN_BOXES, ProcessOptions
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.schemas.faces import Faces, ImageRecord
from ddfa_batch.schemas.tables import PLAN
from ddfa_batch.tasks import store
from ddfa_batch.tasks.fit import FitBasis, FitConfig, Fitted, Prior, aflw21_weights, fit
from ddfa_batch.tasks.landmark_files import LabelledFaces, read_landmarks
from ddfa_batch.tasks.models import Bundle, load_morphable

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
    landmarks: Path, out: Path, bundle: Bundle, prior: Prior | None = None, config: FitConfig | None = None
) -> Outcome:
    """Fit the bundle's face model to the landmarks in a file or folder, and write the run folder `out`.

    The prior is the bundle's own unless given. Faces whose fit converged are rows of faces/; every labelled face is a
    row of fits.parquet. Raises `InputError` for landmarks that cannot be read, `RunFolderError` where a run lies.
    """
    if (out / store.RUN).exists():
        raise RunFolderError(f"{out} holds a run already; give another folder.")
    manifest = bundle.manifest
    labelled = read_landmarks(landmarks)
    prior = prior or Prior.of_params(np.array(manifest.param_mean), np.array(manifest.param_std))
    fitted = _fitted(labelled, bundle, prior, config or FitConfig(size=manifest.input_size))
    keys = tuple(dict.fromkeys(labelled.keys))
    found = _found(labelled, fitted, keys)
    run = _write_run(landmarks, out, bundle, keys, labelled)
    folder = str(out.resolve())
    commit(folder, 0, write(folder, 0, reconstruct(folder, 0, found)))
    store.write_table(out / FITS, _fits_table(labelled, fitted))
    converged = fitted.converged
    mean = float(fitted.residual[converged].mean()) if converged.any() else float("nan")
    return Outcome(run, len(labelled.keys), int(converged.sum()), mean)


def _fitted(labelled: LabelledFaces, bundle: Bundle, prior: Prior, config: FitConfig) -> Fitted:
    model = load_morphable(bundle)
    if labelled.landmarks.shape[1] == len(model.landmarks):
        return fit(labelled.landmarks, model, prior, weights=labelled.weights, config=config)
    weights = labelled.weights * aflw21_weights(len(labelled.keys))
    return fit(labelled.landmarks, model, prior, basis=FitBasis.aflw21(model), weights=weights, config=config)


def _found(labelled: LabelledFaces, fitted: Fitted, keys: tuple[str, ...]) -> Found:
    """What `process` would have found: a record per picture, a row per face that was fitted."""
    image_of = {key: i for i, key in enumerate(keys)}
    image_id: I64 = np.array([image_of[key] for key in labelled.keys], np.int64)
    rows = np.flatnonzero(fitted.converged)
    rows = rows[np.argsort(image_id[rows], kind="stable")]
    owner = image_id[rows]
    counts = np.bincount(owner, minlength=len(keys))
    index = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    xy = fitted.landmarks[rows, :, :2]
    unknown = np.full(len(rows), np.nan, np.float32)
    faces = Faces(
        image_id=owner, index=index.astype(np.int32), score=np.full(len(rows), _SCORE, np.float32),
        box=np.concatenate([xy.min(axis=1), xy.max(axis=1)], axis=1) if len(rows) else np.zeros((0, 4), np.float32),
        roi=fitted.rois[rows], params=fitted.params[rows], sharpness=unknown, roi_outside=unknown,
    )  # fmt: skip
    return Found([_record(i, key, int(counts[i]), labelled) for i, key in enumerate(keys)], faces)


def _record(image_id: int, key: str, n_faces: int, labelled: LabelledFaces) -> ImageRecord:
    if key in labelled.problems:
        return ImageRecord(image_id, key, "error", "unreadable", labelled.problems[key])
    return ImageRecord(image_id, key, "ok" if n_faces else "no_face", n_faces=n_faces)


def _write_run(source: Path, out: Path, bundle: Bundle, keys: tuple[str, ...], labelled: LabelledFaces) -> Run:
    """run.json, plan and topology of a run of one shard."""
    manifest, model = bundle.manifest, load_morphable(bundle)
    options = ProcessOptions(GIVEN_BOXES, 0.0, None, 0, 0, "none", DEFAULT_MAX_PIXELS, None, None)
    digest = hashlib.sha256("\0".join(labelled.keys).encode("utf-8", "surrogatepass"))
    digest.update(np.ascontiguousarray(labelled.landmarks).tobytes())
    run = Run(
        out=out, kind="fit", created=datetime.now(UTC).isoformat(timespec="seconds"),
        root=str(source.resolve() if source.is_dir() else source.resolve().parent), source=str(source),
        n_inputs=len(keys), shard_size=max(len(keys), 1),
        identity={"kind": "fit", "version": version("ddfa-batch"), "model": bundle.digest, "inputs": digest.hexdigest(),
                  "shard_size": max(len(keys), 1), "options": options.as_dict()},
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


def _fits_table(labelled: LabelledFaces, fitted: Fitted) -> pa.Table:
    return pa.table(
        {
            "key": list(labelled.keys),
            "converged": fitted.converged,
            "n_points": fitted.n_points,
            "residual": fitted.residual,
            "residual_px": fitted.residual_px,
            "noise": fitted.noise,
        }
    )
