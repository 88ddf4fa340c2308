"""Labels for training crops that also use another model's 68 points.

    python benchmarks/distil.py WORK [--model 3ddfa-v2-mb05] [--agree 8]

WORK is what benchmarks/prepare.py made, and WORK/aflw/fit the fit of its labels (see benchmarks/ablation.py).
The model is shown each crop around the fitted points, then around its own; where its answer is within --agree % (NME)
of the human points, its 68 points in 3-D become the labels of WORK/aflw/distilled.parquet, else the face is left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.cli import default_models_folder
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.tasks import crop, metrics
from ddfa_batch.tasks.landmark_files import read_landmarks
from ddfa_batch.tasks.models import find_bundle, loaded_model
from ddfa_batch.tasks.reconstruct import PointBasis, points
from ddfa_batch.tasks.regress import Regressor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", default="3ddfa-v2-mb05")
    parser.add_argument("--agree", type=float, default=8.0)
    arguments = parser.parse_args()
    folder = arguments.work / "aflw"
    bundle = find_bundle(arguments.model, default_models_folder())
    loaded = loaded_model(str(bundle.folder), bundle.digest)
    regress, size = Regressor(loaded.regressor, bundle.manifest), bundle.manifest.input_size
    basis = PointBasis.of(loaded.morphable, loaded.morphable.landmarks)
    faces = open_run(folder / "fit").faces(columns=["key", "roi"]).to_pandas()
    found = []
    for key, first in zip(faces.key, faces.roi, strict=True):
        image, roi = cv2.imread(str(folder / "images" / key)), np.array(first)[None]
        for _ in range(2):
            answer = points(basis, regress(crop.crop(image, roi[0], size)[None]), roi, size)
            roi = crop.roi_from_landmarks(answer)
        found.append(answer[0])
    answers = np.array(found)
    human = read_landmarks(folder / "labels68.parquet")
    row_of = {key: row for row, key in enumerate(human.keys)}
    rows = [row_of[key] for key in faces.key]
    truth = np.where((human.weights[rows] > 0)[..., None], human.landmarks[rows], np.nan)
    distance = np.nanmean(np.linalg.norm(answers[..., :2] - truth[..., :2], axis=2), axis=1)
    error = 100 * distance / metrics.box_size(answers)
    kept = error <= arguments.agree
    flat = pa.FixedSizeListArray.from_arrays(answers[kept].astype(np.float32).ravel(), 68 * 3)
    pq.write_table(pa.table({"name": faces.key[kept].tolist(), "pts68": flat}), folder / "distilled.parquet")
    print(f"{bundle.manifest.name} against human labels: median {np.median(error):.2f} %, mean {error.mean():.2f} %; "
          f"{kept.sum():,} of {len(kept):,} faces kept")  # fmt: skip


if __name__ == "__main__":
    main()
