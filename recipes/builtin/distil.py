"""Labels for training crops that also use another model's 68 points.

    python -m recipes.builtin.distil WORK [--model 3ddfa-v2-mb05] [--agree 8] [--human 0.5]

WORK is what `prepare` and `union` made, WORK/aflw/fit-all the fit of labels-all.parquet.
The model is shown each crop around the fitted points, then around its own. A face is left out where the answer is
farther than --agree % (NME) from its points. Labels of the rest, WORK/aflw/distilled.parquet: the model's 68 points in
2-D, and where a human labelled a point that is not hidden, the mean of both, --human of it the human's. Human points
lie elsewhere by definition (a brow's upper edge, say): that offset, constant in the head's frame, is measured for each
of the 68 and taken off first.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.commands.model_choice import default_models_folder
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.arrays import F64, Bools
from ddfa_batch.schemas.faces import Detections
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.tasks.bundles.loaded_model import loaded_model
from ddfa_batch.tasks.bundles.model_bundle import Bundle, find_bundle
from ddfa_batch.tasks.files.landmark_files import read_landmarks
from ddfa_batch.tasks.geometry.boxes import labelled_sizes
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, image_pose, points
from ddfa_batch.tasks.inference.refinement import refine, regress_faces
from ddfa_batch.tasks.inference.regressor import Regressor
from recipes.builtin.detector.pictures import read_picture


@dataclass(frozen=True)
class TeacherAnswers:
    """What a model says of N crops, its roi once refined."""

    #: (N, 68, 3), image pixels.
    points: F64
    #: (N, 3, 4), T in image pixels.
    poses: F64


def answers(bundle: Bundle, folder: Path, keys: list[str], rois: F64) -> TeacherAnswers:
    """The model's answers about the pictures `keys` in `folder`, first shown around rois (N, 4)."""
    loaded = loaded_model(str(bundle.folder), bundle.digest)
    regress, size = Regressor(loaded.regressor, bundle.manifest), bundle.manifest.input_size
    basis = PointBasis.of(loaded.morphable, loaded.morphable.landmarks)
    found, poses = [], []
    for key, first in zip(keys, rois, strict=True):
        image, roi = read_picture(folder / key), np.array(first)[None]
        given = Detections(roi.astype(np.float32), np.ones(1, np.float32))
        face = refine(image, regress_faces(image, given, roi, regress), regress, basis)
        found.append(points(basis, face.params, face.rois, size)[0])
        poses.append(image_pose(regress.layout.pose(face.params), face.rois, size)[0])
    return TeacherAnswers(np.array(found), np.array(poses))


def definition(offsets: F64, poses: F64) -> F64:
    """What of `offsets` (N, 68, 2), NaN where unknown, is constant in the head's frame, as offsets (N, 68, 2)."""
    views = poses[:, :2, :3]
    explained = np.zeros_like(offsets)
    for point in range(offsets.shape[1]):
        known = np.isfinite(offsets[:, point]).all(axis=1)
        scale = 1 / np.linalg.norm(views[known, 0], axis=1)
        rows = (views[known] * scale[:, None, None]).reshape(-1, 3)
        constant = np.linalg.lstsq(rows, (offsets[known, point] * scale[:, None]).ravel(), rcond=None)[0]
        explained[:, point] = views @ constant
    return explained


def truth_of(folder: Path, keys: list[str], fallback: F64) -> tuple[F64, Bools]:
    """Points (N, 68, 2) that are trusted, NaN where a human's is not, and which (N, 68) are a human's.

    A face that no human labelled has the points `fallback` (N, 68, 2) of its fit.
    """
    fits = pq.read_table(folder / "fit-all/fits.parquet", columns=["key", "weights"]).to_pandas().set_index("key")
    human = read_landmarks(folder / "labels68.parquet")
    row_of = {key: row for row, key in enumerate(human.keys)}
    truth, labelled = fallback.copy(), np.zeros(fallback.shape[:2], bool)
    for i, key in enumerate(keys):
        if key in row_of:
            row = row_of[key]
            labelled[i] = (human.weights[row] > 0) & (fits.weights[key] > 0)
            truth[i] = np.where(labelled[i, :, None], human.landmarks[row, :, :2], np.nan)
    return truth, labelled


def distil(folder: Path, bundle: Bundle, agree: float, human: float) -> None:
    """Write distilled.parquet to `folder`, WORK/aflw."""
    faces = open_run(folder / "fit-all").faces(columns=["key", "roi", "landmarks68"]).to_pandas()
    keys = faces.key.tolist()
    found = answers(bundle, folder / "images", keys, np.stack(faces.roi))
    fitted = np.stack(faces.landmarks68).reshape(-1, N_LANDMARKS, 3)[..., :2].astype(float)
    truth, labelled = truth_of(folder, keys, fitted)
    size = labelled_sizes(found.points)
    error = 100 * np.nanmean(np.linalg.norm(found.points[..., :2] - truth, axis=2), axis=1) / size
    kept = error <= agree
    gap = truth - found.points[..., :2]
    left = gap - definition(np.where(labelled[..., None] & kept[:, None, None], gap, np.nan), found.poses)
    both = kept & labelled.any(axis=1)
    apart = np.linalg.norm(np.where(labelled[..., None], left, np.nan), axis=2)[both]
    nearer = 100 * np.nanmean(apart, axis=1) / size[both]
    labels = found.points[..., :2] + np.where(labelled[..., None], human * left, 0.0)
    flat = pa.FixedSizeListArray.from_arrays(labels[kept].astype(np.float32).ravel(), N_LANDMARKS * 2)
    pq.write_table(pa.table({"name": faces.key[kept].tolist(), "pts68": flat}), folder / "distilled.parquet")
    print(
        f"{bundle.manifest.name} against the labels: median {np.median(error):.2f} %, mean {error.mean():.2f} %, of "
        f"the human points {nearer.mean():.2f} % without their definition's offset; {kept.sum():,} of {len(kept):,} "
        "faces kept"
    )


def main(words: Sequence[str] | None = None) -> None:
    """The step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", default="3ddfa-v2-mb05")
    parser.add_argument("--models-dir", type=Path, default=os.environ.get("DDFA_BATCH_MODELS"))
    parser.add_argument("--agree", type=float, default=8.0)
    parser.add_argument("--human", type=float, default=0.5)
    arguments = parser.parse_args(words)
    bundle = find_bundle(arguments.model, arguments.models_dir or default_models_folder())
    distil(arguments.work / "aflw", bundle, arguments.agree, arguments.human)


if __name__ == "__main__":
    main()
