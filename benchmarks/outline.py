"""How far fitted heads are turned, against the data set's own yaw, with and without the labels of the far jaw.

    python benchmarks/outline.py LABELS.parquet [--model 3ddfa-v2-mb05]

LABELS has name, yaw_deg and pts68 in the 2-D markup, as recipes/builtin/prepare.py writes labels68.parquet
of AFLW's crops.
Printed by bin of the |yaw| of the data set: the mean of |fitted yaw| − |its yaw|, in degrees.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ddfa_batch.commands.model_choice import default_models_folder
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.evaluation import landmark_errors
from ddfa_batch.tasks.files.landmark_files import read_landmarks
from ddfa_batch.tasks.fitting.fit_config import FitConfig
from ddfa_batch.tasks.fitting.landmark_fit import fit
from ddfa_batch.tasks.fitting.prior import Prior
from ddfa_batch.tasks.geometry import pose
from ddfa_batch.tasks.geometry.reconstruct import image_pose


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--model", default="3ddfa-v2-mb05")
    arguments = parser.parse_args()
    bundle = find_bundle(arguments.model, default_models_folder())
    manifest = bundle.manifest
    prior = Prior.of_params(np.array(manifest.param_mean), np.array(manifest.param_std))
    labelled = read_landmarks(arguments.labels)
    if labelled.yaw is None:
        raise SystemExit(f"{arguments.labels} tells no yaw.")
    own = np.where(np.abs(labelled.yaw) <= 90, labelled.yaw, np.nan)
    for outline in (False, True):
        config = FitConfig(size=manifest.input_size, outline=outline)
        found = fit(labelled.landmarks, load_morphable(bundle), prior, weights=labelled.weights, config=config)
        ok = found.converged & np.isfinite(own)
        T = image_pose(found.params[ok, :N_POSE].reshape(-1, 3, 4), found.rois[ok], config.size)
        yaw = pose.yaw_of(T)
        gaps = landmark_errors.mean_by_yaw(np.abs(yaw) - np.abs(own[ok]), own[ok])
        print(
            f"{'--outline' if outline else 'all labels':12s} {found.converged.mean():7.2%} converged, residual "
            f"{100 * np.nanmean(found.residual[ok]):.2f} %; turned too far by "
            + ", ".join(f"{gap:+.1f}°" for gap in gaps)
        )


if __name__ == "__main__":
    main()
