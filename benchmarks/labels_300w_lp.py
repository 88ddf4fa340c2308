"""How far the conversion of 300W-LP's parameters lands from the landmarks they were made for.

    python benchmarks/labels_300w_lp.py ../shared/data/aflw2000_dev [--model NAME-OR-FOLDER]

FOLDER holds photographs and labels.parquet with pose_para, shape_para, exp_para and pts68. Each row is written as the
.mat file it came from, converted by `ddfa-batch labels import 300w-lp`, and compared with pts68.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import scipy.io

from ddfa_batch.commands.model_choice import default_models_folder
from ddfa_batch.pipeline.import_labels import import_300w_lp
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.evaluation import landmark_errors


def main() -> None:
    """Convert, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="3ddfa-v2-mb05")
    arguments = parser.parse_args()
    models = default_models_folder()
    bundle = find_bundle(arguments.model, models)
    truth = {}
    with tempfile.TemporaryDirectory() as folder:
        for label in pq.read_table(arguments.folder / "labels.parquet").to_pylist():
            picture = Path(folder) / label["name"]
            picture.symlink_to((arguments.folder / label["name"]).resolve())
            mat = {
                "Pose_Para": [label["pose_para"]],
                "Shape_Para": np.array(label["shape_para"])[:, None],
                "Exp_Para": np.array(label["exp_para"])[:, None],
            }
            scipy.io.savemat(picture.with_suffix(".mat"), mat)
            truth[label["name"]] = np.reshape(label["pts68"], (3, 68)).T[:, :2] - 1
        rows, faults = import_300w_lp(Path(folder), Path(folder) / "labels.parquet", bundle)
        table = pq.read_table(Path(folder) / "labels.parquet").to_pylist()
    found = np.array([np.reshape(row["landmarks68"], (68, 3)) for row in table])
    errors = landmark_errors.nme(found, np.array([truth[row["key"]] for row in table]))
    print(
        f"{rows} faces, {len(faults)} left out; NME of the converted landmarks: mean {errors.mean():.2f} %, "
        f"median {np.median(errors):.2f} %, largest {errors.max():.2f} %"
    )


if __name__ == "__main__":
    main()
