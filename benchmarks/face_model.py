"""How near a bundle's face model comes to labels, and to another model's depth on the same photographs.

python benchmarks/face_model.py BUNDLE AFLW RUN [BUNDLE …]

AFLW: WORK/aflw of `prepare`; RUN: a `process` run of the other model over some of WORK/aflw/images. Both fits are to
what is in the picture, x and y; depth is compared after aligning the 68 points by shift, turn and scale.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from ddfa_batch.pipeline.results import open_run
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.files.landmark_files import read_landmarks
from ddfa_batch.tasks.fitting.fit_config import FitConfig
from ddfa_batch.tasks.fitting.landmark_fit import fit
from ddfa_batch.tasks.fitting.prior import Prior
from ddfa_batch.tasks.geometry.boxes import labelled_sizes


def aligned(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Points a (L, 3) moved, turned and scaled to lie on b best (Umeyama, 1991)."""
    x, y = a - a.mean(axis=0), b - b.mean(axis=0)
    u, s, vt = np.linalg.svd(x.T @ y)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    return (x @ (u * sign @ vt)) * (s @ sign / np.square(x).sum()) + b.mean(axis=0)


def main() -> None:
    bundles = [sys.argv[1], *sys.argv[4:]]
    human = read_landmarks(Path(sys.argv[2]) / "labels68.parquet")
    table = open_run(Path(sys.argv[3])).faces(columns=["landmarks68"])
    other = np.array(table["landmarks68"].to_pylist(), np.float64).reshape(-1, 68, 3)
    size = labelled_sizes(other)
    print(f"{'bundle':24s} {'human points %':>15s} {'to the run, 2-D %':>18s} {'3-D %':>6s} {'z %':>6s}")
    for name in bundles:
        bundle = find_bundle(name, Path())
        model, manifest = load_morphable(bundle), bundle.manifest
        prior = Prior.of_params(np.array(manifest.param_mean), np.array(manifest.param_std))
        with threadpool_limits(1):
            by_hand = fit(human.landmarks[..., :2], model, prior, weights=human.weights, config=FitConfig(outline=True))
            found = fit(other[..., :2], model, prior)
        good = np.flatnonzero(found.converged)
        apart = np.array([aligned(found.landmarks[i].astype(float), other[i]) for i in good]) - other[good]
        share = apart / size[good, None, None]
        figures = [np.nanmean(by_hand.residual), found.residual[good].mean()]
        figures += [np.linalg.norm(share, axis=2).mean(), np.abs(share[..., 2]).mean()]
        hand, flat, solid, depth = (100 * figure for figure in figures)
        print(f"{Path(name).name:24s} {hand:15.2f} {flat:18.2f} {solid:6.2f} {depth:6.2f}")


if __name__ == "__main__":
    main()
