"""Labels for training crops that also use other models' 68 points.

    python -m recipes.builtin.distil WORK [--model 3ddfa-v2-mb05] [--agree 8] [--human 0.5] [--crops 6]
        [--labels distilled]

WORK is what `prepare` and `union` made, WORK/aflw/fit-all the fit of labels-all.parquet. --model may be given again.
A model is shown each crop around the fitted points, then --crops times around its own: once as it is, then turned,
scaled and shifted a little, every other time mirrored; the answer is the mean, of several models the mean of theirs. A
face is left out where it is farther than --agree % (NME) from its points. Labels of the rest,
WORK/aflw/distilled.parquet: the models' 68 points in 3-D, and where a human labelled a point that is not hidden, the
mean of both in x and y, --human of it the human's; depth is the models', from the mean of the 68. Human points lie
elsewhere by definition (a brow's upper edge, say): that offset, constant in the head's frame, is measured for each of
the 68 and taken off first.
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
from ddfa_batch.schemas.arrays import F64, U8, Bools
from ddfa_batch.schemas.faces import Detections
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.tasks.bundles.loaded_model import loaded_model
from ddfa_batch.tasks.bundles.model_bundle import Bundle, find_bundle
from ddfa_batch.tasks.files.landmark_files import read_landmarks
from ddfa_batch.tasks.geometry.boxes import labelled_sizes
from ddfa_batch.tasks.geometry.crop import upright_rois
from ddfa_batch.tasks.geometry.pose import in_plane_angle
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, image_pose, points
from ddfa_batch.tasks.geometry.similarity import similarity, warp
from ddfa_batch.tasks.inference.refinement import refine, regress_faces
from ddfa_batch.tasks.inference.regressor import Regressor
from ddfa_batch.tasks.training.clips import mirrored
from recipes.builtin.detector.pictures import read_picture
from recipes.builtin.prepare import lists

#: How `models import` calls the official release's model.
OFFICIAL = "3ddfa-v2-mb05"
#: How far the crops after the first are off: standard deviations of the turn, degrees, of the scale's logarithm, and
#: of the shift, share of the crop's side.
_TURN, _SCALE, _SHIFT = 5.0, 0.05, 0.03


@dataclass(frozen=True)
class TeacherAnswers:
    """What a model says of N crops, its roi once refined, the points as a mean over crops."""

    #: (N, 68, 3), image pixels; z relative to the mean of the 68.
    points: F64
    #: (N, 3, 4), T in image pixels.
    poses: F64


def answers(bundle: Bundle, folder: Path, keys: list[str], rois: F64, n_crops: int) -> TeacherAnswers:
    """The model's answers about the pictures `keys` in `folder`, first shown around rois (N, 4), then n_crops times."""
    loaded = loaded_model(str(bundle.folder), bundle.digest)
    regress, size = Regressor(loaded.regressor, bundle.manifest), bundle.manifest.input_size
    basis = PointBasis.of(loaded.morphable, loaded.morphable.landmarks)
    found, poses = [], []
    rng = np.random.default_rng(0)
    for key, first in zip(keys, rois, strict=True):
        image, roi = read_picture(folder / key), np.array(first)[None]
        given = Detections(roi.astype(np.float32), np.ones(1, np.float32))
        face = refine(image, regress_faces(image, given, roi, regress), regress, basis)
        seen = points(basis, face.params, face.rois, size)
        angle = float(in_plane_angle(regress.layout.pose(face.params))[0])
        roi = upright_rois(seen, np.array([angle]))[0]
        found.append(mean_of_crops(image, roi, angle, regress, basis, n_crops, rng))
        poses.append(image_pose(regress.layout.pose(face.params), face.rois, size)[0])
    return TeacherAnswers(np.array(found), np.array(poses))


def mean_of_crops(
    image: U8, roi: F64, angle: float, regress: Regressor, basis: PointBasis, n_crops: int, rng: np.random.Generator
) -> F64:
    """The mean (68, 3) of a model's points over n_crops of a head that leans by `angle`, the first of roi (4,) itself.

    The others are turned, scaled and shifted at random, every second one mirrored.
    """
    size = regress.size
    draws = rng.normal(size=(n_crops, 4)) * [_TURN, _SCALE, _SHIFT, _SHIFT]
    draws[0] = 0
    upright = -np.degrees(angle)
    maps = [similarity(roi, upright + turn, scale, right, down, size) for turn, scale, right, down in draws]
    crops = np.stack([warp(image, map_, size) for map_ in maps])
    crops[1::2] = crops[1::2, :, ::-1]
    found = points(basis, regress(crops), np.tile([0.0, 0.0, size, size], (n_crops, 1)), size).astype(np.float64)
    found[1::2] = mirrored(found[1::2], size)
    in_image = []
    for map_, answer in zip(maps, found, strict=True):
        scale = np.sqrt(np.linalg.det(map_[:, :2]))
        flat = (answer[:, :2] - map_[:, 2]) @ np.linalg.inv(map_[:, :2]).T
        in_image.append(np.column_stack([flat, (answer[:, 2] - answer[:, 2].mean()) / scale]))
    return np.asarray(np.mean(in_image, axis=0))


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


def mean_answers(bundles: Sequence[Bundle], folder: Path, keys: list[str], rois: F64, n_crops: int) -> TeacherAnswers:
    """The mean of what several models say, see `answers`; poses are the first one's."""
    each = [answers(bundle, folder, keys, rois, n_crops) for bundle in bundles]
    return TeacherAnswers(np.mean([answer.points for answer in each], axis=0), each[0].poses)


def distil(folder: Path, bundles: Sequence[Bundle], agree: float, human: float, n_crops: int, name: str) -> None:
    """Write the labels of the crops in `folder`, WORK/aflw, to a Parquet file there, called `name`."""
    faces = open_run(folder / "fit-all").faces(columns=["key", "roi", "landmarks68"]).to_pandas()
    keys = faces.key.tolist()
    found = mean_answers(bundles, folder / "images", keys, np.stack(faces.roi), n_crops)
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
    labels = found.points.copy()
    labels[..., :2] += np.where(labelled[..., None], human * left, 0.0)
    table = pa.table({"name": faces.key[kept].tolist(), "pts68": lists(labels[kept])})
    pq.write_table(table, folder / f"{name}.parquet")
    told = " and ".join(bundle.manifest.name for bundle in bundles)
    print(
        f"{told} against the labels: median {np.median(error):.2f} %, mean {error.mean():.2f} %, of "
        f"the human points {nearer.mean():.2f} % without their definition's offset; {kept.sum():,} of {len(kept):,} "
        "faces kept"
    )


def teachers(names: Sequence[str], folder: Path | None) -> list[Bundle]:
    """The bundles of these names, or folders; `folder` holds imported ones, if not the usual one."""
    models = folder or default_models_folder()
    return [find_bundle(name, models) for name in names]


def main(words: Sequence[str] | None = None) -> None:
    """The step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", action="append", help="3ddfa-v2-mb05 where none is given")
    parser.add_argument("--models-dir", type=Path, default=os.environ.get("DDFA_BATCH_MODELS"))
    parser.add_argument("--agree", type=float, default=8.0)
    parser.add_argument("--human", type=float, default=0.5)
    parser.add_argument("--crops", type=int, default=6)
    parser.add_argument("--labels", default="distilled", help="name of the file of labels")
    arguments = parser.parse_args(words)
    bundles = teachers(arguments.model or [OFFICIAL], arguments.models_dir)
    distil(arguments.work / "aflw", bundles, arguments.agree, arguments.human, arguments.crops, arguments.labels)


if __name__ == "__main__":
    main()
