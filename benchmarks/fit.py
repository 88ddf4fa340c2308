"""Speed and residuals of `fit` on one core.

python benchmarks/fit.py BUNDLE [SHARED]   on random faces of a bundle's model; with the private files, on their labels
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import load_bundle
from ddfa_batch.tasks.fitting.landmark_fit import fit
from ddfa_batch.tasks.fitting.prior import Prior
from ddfa_batch.tasks.geometry import pose


def random_faces(model: MorphableModel, prior: Prior, n: int) -> np.ndarray:
    """The 68 points (n, 68, 3) of random faces about 180 pixels high, anywhere within ±75° of yaw."""
    rng = np.random.default_rng(0)
    alpha = prior.mean + rng.normal(size=(n, len(prior.std))) * prior.std
    R = pose.rotation_matrix(rng.uniform(-75, 75, n), rng.uniform(-30, 30, n), rng.uniform(-45, 45, n))
    S = model.mean[model.landmarks] + np.einsum("nk,klc->nlc", alpha, model.basis[:, model.landmarks])
    return 180 / np.ptp(model.mean[model.landmarks, 1]) * (S @ R.transpose(0, 2, 1)) * [1, -1, 1] + 200


def column(table: pa.Table, name: str, *shape: int) -> np.ndarray:
    flat = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(-1, *shape).astype(np.float64)


def labels_of(shared: Path) -> dict[str, np.ndarray]:
    parts = sorted((shared / "data/aflw_train").glob("*.parquet"))
    train = column(pa.concat_tables([pq.read_table(p, columns=["pts68"]) for p in parts]), "pts68", 68, 2)
    dev = pq.read_table(shared / "data/aflw2000_dev/labels.parquet", columns=["pts68", "pts68_reannotated"])
    solid = column(dev, "pts68", 3, 68).transpose(0, 2, 1) - 1  # MATLAB counts from 1
    return {
        "aflw_train, 68 points": train[np.isfinite(train).any(axis=(1, 2))],
        "aflw2000_dev, 3-D": solid,
        "aflw2000_dev, 2-D": solid[..., :2],
        "aflw2000_dev, re-annotated": column(dev, "pts68_reannotated", 2, 68).transpose(0, 2, 1),
    }


def main() -> None:
    bundle = load_bundle(Path(sys.argv[1]))
    model, manifest = load_morphable(bundle), bundle.manifest
    prior = Prior.of_params(np.array(manifest.param_mean), np.array(manifest.param_std))
    truth = random_faces(model, prior, 2000)
    sets = {"random meshes, 3-D": truth, "random meshes, 2-D": truth[..., :2]}
    if len(sys.argv) > 2:
        sets |= labels_of(Path(sys.argv[2]))
    print(f"{'labels':28s} {'faces':>6s} {'faces/s':>8s} {'converged':>10s} {'residual %':>11s} {'px':>7s}")
    for name, labels in sets.items():
        start = time.perf_counter()
        with threadpool_limits(1):
            found = fit(labels, model, prior)
        rate = len(labels) / (time.perf_counter() - start)
        share, pixels = 100 * np.nanmean(found.residual), np.nanmean(found.residual_px)
        print(f"{name:28s} {len(labels):6d} {rate:8.0f} {found.converged.mean():10.4f} {share:11.3f} {pixels:7.3f}")


if __name__ == "__main__":
    main()
