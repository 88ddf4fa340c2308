"""Models side by side on the validation part of the training crops, which no training sees: error, pose, agreement.

    python -m recipes.builtin.judge WORK MODEL... [--reference 3ddfa-v2-mb05]

Labels are WORK/aflw/distilled.parquet; crops are around the labels. For each model, in one pass, refined once, and
averaged with the mirror image as well: NME of the 68 points, % of √(w·h) of the labels' box, by bins of the
reference's |yaw|; and how far yaw, pitch and roll are from the reference's, refined once: mean absolute, and the mean
of yaw's excess (positive: turned further) by bins, in degrees.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfa_batch.commands.model_choice import default_models_folder
from ddfa_batch.schemas.arrays import F64
from ddfa_batch.schemas.faces import Detections
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.bundles.loaded_model import loaded_model
from ddfa_batch.tasks.bundles.model_bundle import Bundle, find_bundle
from ddfa_batch.tasks.evaluation.landmark_errors import mean_by_yaw, nme
from ddfa_batch.tasks.files.landmark_files import read_landmarks
from ddfa_batch.tasks.geometry import pose
from ddfa_batch.tasks.geometry.crop import roi_from_landmarks
from ddfa_batch.tasks.geometry.mirroring import MirrorMap
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, image_pose, points
from ddfa_batch.tasks.inference.refinement import refine, regress_faces
from ddfa_batch.tasks.inference.regressor import Regressor
from ddfa_batch.tasks.training.clips import is_validation
from recipes.builtin.detector.pictures import read_picture

#: Share of the names that trainings hold out (`train --validation`).
SHARE = 0.1


@dataclass(frozen=True)
class JudgedAnswers:
    """What a model says of N faces in one way of asking."""

    #: (N, 68, 3), image pixels.
    landmarks: F64
    #: (N, 3), yaw, pitch and roll, degrees.
    angles: F64


def answers(bundle: Bundle, folder: Path, keys: Sequence[str], rois: F64) -> dict[str, JudgedAnswers]:
    """What a model says of the pictures `keys` in rois (N, 4), by how it is asked."""
    loaded = loaded_model(str(bundle.folder), bundle.digest)
    regress, basis = (
        Regressor(loaded.regressor, bundle.manifest),
        PointBasis.of(loaded.morphable, loaded.morphable.landmarks),
    )
    mirror = MirrorMap.of(loaded.morphable, np.array(bundle.manifest.param_std)[N_POSE:])
    ways = {"one pass": (0, None), "refined once": (1, None), "refined, mirror": (1, mirror)}
    found: dict[str, list[tuple[F64, F64]]] = {way: [] for way in ways}
    for key, roi in zip(keys, rois, strict=True):
        image = read_picture(folder / key)
        given = Detections(roi[None].astype(np.float32), np.ones(1, np.float32))
        begun = regress_faces(image, given, roi[None], regress)
        for way, (times, averaged) in ways.items():
            face = refine(image, begun, regress, basis, times, averaged)
            in_image = image_pose(regress.layout.pose(face.params), face.rois, regress.size)
            rotation, _ = pose.rotation_and_scale(pose.upright(in_image))
            landmarks = points(basis, face.params, face.rois, regress.size)[0].astype(np.float64)
            found[way].append((landmarks, np.concatenate(pose.angles(rotation))))
    return {way: JudgedAnswers(*(np.array(c) for c in zip(*rows, strict=True))) for way, rows in found.items()}


def report(name: str, way: str, said: JudgedAnswers, truth: F64, wanted: F64) -> str:
    """A row of the table: said of faces with points truth (N, 68, 2) and the reference's angles (N, 3)."""
    yaw = wanted[:, 0]
    errors = mean_by_yaw(nme(said.landmarks[..., :2], truth), yaw)
    apart = (said.angles - wanted + 180) % 360 - 180
    excess = mean_by_yaw(apart[:, 0] * np.sign(yaw), yaw)
    cells = [f"{e:.2f}" for e in (*errors, errors.mean())]
    cells += [f"{a:.1f}" for a in np.abs(apart).mean(axis=0)] + [" / ".join(f"{e:+.1f}" for e in excess)]
    return f"| {name} | {way} | {' | '.join(cells)} |"


def main(words: Sequence[str] | None = None) -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--reference", default="3ddfa-v2-mb05")
    parser.add_argument("--models-dir", type=Path, default=os.environ.get("DDFA_BATCH_MODELS"))
    arguments = parser.parse_args(words)
    folder, models = arguments.work / "aflw", arguments.models_dir or default_models_folder()
    labels = read_landmarks(folder / "distilled.parquet")
    held = is_validation(labels.keys, SHARE)
    keys = [key for key, chosen in zip(labels.keys, held, strict=True) if chosen]
    truth = labels.landmarks[held, :, :2]
    rois = roi_from_landmarks(truth)
    wanted = answers(find_bundle(arguments.reference, models), folder / "images", keys, rois)["refined once"].angles
    print("| model | asked | 0–30 | 30–60 | 60–90 | mean | yaw | pitch | roll | excess of yaw |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in arguments.models:
        for way, said in answers(find_bundle(name, models), folder / "images", keys, rois).items():
            print(report(Path(name).name, way, said, truth, wanted), flush=True)


if __name__ == "__main__":
    main()
