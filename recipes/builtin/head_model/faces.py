"""The labelled faces that the head model is measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ddfa_batch.schemas.arrays import F64
from ddfa_batch.tasks.files.landmark_files import read_landmarks


def labelled_faces(aflw: Path, n_distilled: int, n_human: int, rng: np.random.Generator) -> list[F64]:
    """Random faces of WORK/aflw: distilled labels (n, 68, 3), and human ones (m, 68, 2), NaN where unlabelled.

    Human labels of a jaw's far side, which lie on the face's outline, are left out, as the fit of `fit-all` left them.
    """
    distilled = read_landmarks(aflw / "distilled.parquet")
    rows = rng.permutation(len(distilled.keys))[:n_distilled]
    whole = np.where((distilled.weights[rows] > 0)[..., None], distilled.landmarks[rows], np.nan)
    human = read_landmarks(aflw / "labels68.parquet")
    fits = pq.read_table(aflw / "fit-all/fits.parquet", columns=["key", "weights"]).to_pydict()
    weights = dict(zip(fits["key"], fits["weights"], strict=True))
    known = np.array([row for row, key in enumerate(human.keys) if key in weights])
    rows = known[rng.permutation(len(known))[:n_human]]
    trusted = np.array([weights[human.keys[row]] for row in rows]) > 0
    by_hand = np.where((trusted & (human.weights[rows] > 0))[..., None], human.landmarks[rows][..., :2], np.nan)
    return [whole, by_hand]
