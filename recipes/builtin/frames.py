"""Crops of video frames, labelled by models that agree, for regressors to learn from beside AFLW's crops.

    python -m recipes.builtin.frames SHARED WORK --model NAME --model NAME [--agree 4] [--crops 6]
        [--beside distilled-again] [--labels learned]

Of each frame of YouTube Faces the face is cut out as large as in AFLW's crops. Its label is the mean of what the models
say of some crops of it; frames where one of them is farther than --agree % of the face's size from that mean, or the
mean farther than twice that from the points that come with the frames (a machine's), are left out, and so is a tenth of
them, by name: a person has several frames, and none of them may validate what learnt from others. Crops go to
WORK/aflw/images, labels together with those of WORK/aflw/BESIDE to WORK/aflw/LABELS.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.schemas.arrays import F64, U8
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files.landmark_files import read_landmarks
from ddfa_batch.tasks.geometry.boxes import labelled_boxes, labelled_sizes
from ddfa_batch.tasks.geometry.crop import roi_from_landmarks
from ddfa_batch.tasks.geometry.similarity import similarity, warp
from ddfa_batch.tasks.training.clips import is_validation
from recipes.builtin.distil import answers, teachers
from recipes.builtin.prepare import lists, matrix
from recipes.builtin.terms import SIZE

#: What the crops' names begin with.
PREFIX = "frame-"
#: Share of the names that is left out: that of the pictures which validate.
_VALIDATION = 0.1


def cut(image: U8, points: F64, share: float) -> tuple[U8, F64]:
    """The crop (SIZE, SIZE, 3) in which the box around points (68, 2) is `share` of a side large, and its points."""
    x0, y0, x1, y1 = labelled_boxes(points[None])[0]
    half = np.sqrt((x1 - x0) * (y1 - y0)) / share / 2
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    map_ = similarity(np.r_[middle - half, middle + half], 0, 0, 0, 0, SIZE)
    blur = 0.5 * (2 * half / SIZE - 1)
    smooth = np.asarray(cv2.GaussianBlur(image, (0, 0), blur), np.uint8) if blur > 0 else image
    return warp(smooth, map_, SIZE, cv2.INTER_CUBIC), points @ map_[:, :2].T + map_[:, 2]


def usual_share(folder: Path) -> float:
    """How large the face is in AFLW's crops: median of its size, share of the side."""
    points = read_landmarks(folder / "labels68.parquet").landmarks[..., :2].astype(float)
    return float(np.median(labelled_sizes(points))) / SIZE


def crops(frames: Path, folder: Path) -> dict[str, F64]:
    """Cut the faces of the frames out, into `folder`/images; the points (68, 2) of each that come with them."""
    table, share, found = pq.read_table(frames), usual_share(folder), {}
    names = np.array([PREFIX + name for name in table["name"].to_pylist()])
    points = matrix(table, "pts68", N_LANDMARKS, 2)
    for row in np.flatnonzero(~is_validation(names, _VALIDATION)):
        image = cv2.imdecode(np.frombuffer(table["jpeg"][int(row)].as_py(), np.uint8), cv2.IMREAD_COLOR)
        if image is not None and np.isfinite(points[row]).all():
            crop, found[str(names[row])] = cut(np.asarray(image, np.uint8), points[row], share)
            cv2.imwrite(str(folder / "images" / names[row]), crop, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return found


def agreed(machine: dict[str, F64], folder: Path, bundles: Sequence[Bundle], agree: float, n_crops: int) -> pa.Table:
    """Labels of the crops on which the models agree."""
    keys, points = list(machine), np.stack(list(machine.values()))
    rois = roi_from_landmarks(points)
    each = np.stack([answers(bundle, folder / "images", keys, rois, n_crops).points for bundle in bundles])
    mean = each.mean(axis=0)
    size = labelled_sizes(mean[..., :2])
    apart = 100 * np.linalg.norm(each[..., :2] - mean[..., :2], axis=3).mean(axis=2).max(axis=0) / size
    beside = 100 * np.linalg.norm(points - mean[..., :2], axis=2).mean(axis=1) / size
    kept = (apart <= agree) & (beside <= 2 * agree)
    told = f"models {np.median(apart):.2f} % from their mean, {np.median(beside):.2f} % from the frames' points"
    print(f"{len(keys):,} crops; {told} (medians); {kept.sum():,} kept")
    return pa.table({"name": np.array(keys)[kept].tolist(), "pts68": lists(mean[kept])})


def main(words: Sequence[str] | None = None) -> None:
    """The step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--models-dir", type=Path, default=os.environ.get("DDFA_BATCH_MODELS"))
    parser.add_argument("--agree", type=float, default=4.0)
    parser.add_argument("--crops", type=int, default=6)
    parser.add_argument("--beside", default="distilled-again", help="file of labels of AFLW's crops")
    parser.add_argument("--labels", default="learned", help="name of the file of labels")
    arguments = parser.parse_args(words)
    folder, bundles = arguments.work / "aflw", teachers(arguments.model, arguments.models_dir)
    machine = crops(arguments.shared / "data/youtube_faces/frames.parquet", folder)
    found = agreed(machine, folder, bundles, arguments.agree, arguments.crops)
    both = pa.concat_tables([pq.read_table(folder / f"{arguments.beside}.parquet"), found])
    pq.write_table(both, folder / f"{arguments.labels}.parquet")


if __name__ == "__main__":
    main()
