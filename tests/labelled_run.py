"""Labels a known distance from a run's own answers, so that errors are known in advance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.pipeline.results import Results

#: Pixels; five in length.
OFFSET = np.array([3.0, 4.0])


def centred(run: Results) -> tuple[list[str], np.ndarray]:
    """Key and landmarks (n, 68, 3) of pictures with one face, where the landmarks' middle lies within their own box."""
    faces = run.faces(columns=["key", "box", "landmarks68"]).to_pandas()
    faces = faces[~faces.key.duplicated(keep=False)]
    landmarks, boxes = np.stack(faces.landmarks68).reshape(-1, 68, 3).astype(float), np.stack(faces.box)
    middle = landmarks[..., :2].mean(axis=1)
    inside = ((boxes[:, :2] < middle - 6) & (middle + 6 < boxes[:, 2:])).all(axis=1)
    assert inside.sum() >= 3
    return faces.key[inside].tolist(), landmarks[inside]


def flat(rows: np.ndarray) -> pa.Array:
    """Points (n, L, D) as a column of lists."""
    return pa.FixedSizeListArray.from_arrays(rows.astype(np.float64).ravel(), rows.shape[1] * rows.shape[2])


def table(path: Path, keys: list[str], labels: np.ndarray, name: str = "pts68", **more: object) -> Path:
    pq.write_table(pa.table({"key": keys, name: flat(labels), **more}), path)
    return path
