"""Bring the private reference files into the forms this project's commands read.

    python -m recipes.builtin.prepare ../shared WORK

WORK/aflw: images/ (the training crops, less those that duplicates.txt lists: they show a photograph of AFLW2000-3D
under another name), labels68.parquet (those with 68 points), labels21.parquet (all, AFLW's 21). WORK/portraits: images/
(3,462 video frames of YouTube Faces). WORK/dev: photographs/ (a link), original.parquet and reannotated.parquet (68
points, counted from 0, and yaw), and mat/ with a .mat file of parameters for each photograph. Nothing of this may be
published.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import scipy.io

from ddfa_batch.schemas.arrays import F64


def lists(rows: F64) -> pa.Array:
    """Rows (N, …) as a column of float32 lists."""
    flat = np.ascontiguousarray(rows, np.float32).reshape(len(rows), -1)
    return pa.FixedSizeListArray.from_arrays(flat.ravel(), flat.shape[1])


def matrix(table: pa.Table, name: str, *shape: int) -> F64:
    """A list column as (N, *shape)."""
    flat = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    rows: F64 = flat.reshape(len(table), *shape).astype(np.float64)
    return rows


def training_crops(source: Path, target: Path) -> None:
    """AFLW's crops and their labels, less those that show a photograph of AFLW2000-3D."""
    (target / "images").mkdir(parents=True, exist_ok=True)
    table = pa.concat_tables([pq.read_table(part) for part in sorted(source.glob("part-*.parquet"))])
    listed = (source / "duplicates.txt").read_text()
    (target / "duplicates.txt").write_text(listed)
    duplicates = pa.array(listed.split())
    table = table.filter(pc.invert(pc.is_in(table["name"], duplicates)))
    for name, jpeg in zip(table["name"].to_pylist(), table["jpeg"].to_pylist(), strict=True):
        (target / "images" / name).write_bytes(jpeg)
    labelled = pa.array(np.isfinite(matrix(table, "pts68", 136)).any(axis=1))
    pq.write_table(table.filter(labelled).select(["name", "yaw_deg", "pts68", "vis68"]), target / "labels68.parquet")
    pq.write_table(table.select(["name", "yaw_deg", "pts21"]), target / "labels21.parquet")


def portraits(source: Path, target: Path) -> None:
    """Frames of YouTube Faces."""
    (target / "images").mkdir(parents=True, exist_ok=True)
    table = pq.read_table(source / "frames.parquet", columns=["name", "jpeg"])
    for name, jpeg in zip(table["name"].to_pylist(), table["jpeg"].to_pylist(), strict=True):
        (target / "images" / name).write_bytes(jpeg)


def photographs(source: Path, target: Path) -> None:
    """The dev half of AFLW2000-3D, its two sets of labels and its parameters."""
    (target / "mat").mkdir(parents=True, exist_ok=True)
    if not (target / "photographs").exists():
        (target / "photographs").symlink_to(source.resolve())
    table = pq.read_table(source / "labels.parquet")
    names, yaw = table["name"], table["yaw_deg"]
    for file, column, dims in (("original", "pts68", 3), ("reannotated", "pts68_reannotated", 2)):
        points = matrix(table, column, dims, 68).transpose(0, 2, 1) - 1  # MATLAB counts from 1
        pq.write_table(pa.table({"key": names, "yaw": yaw, "pts68": lists(points)}), target / f"{file}.parquet")
    for row in table.to_pylist():
        stem = Path(row["name"]).stem
        content = {
            "Pose_Para": [row["pose_para"]],
            "Shape_Para": np.array(row["shape_para"])[:, None],
            "Exp_Para": np.array(row["exp_para"])[:, None],
        }
        scipy.io.savemat(target / "mat" / f"{stem}.mat", content)
        picture = target / "mat" / row["name"]
        if not picture.exists():
            picture.symlink_to((source / row["name"]).resolve())


def main(words: Sequence[str] | None = None) -> None:
    """Everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("work", type=Path)
    arguments = parser.parse_args(words)
    data, work = arguments.shared / "data", arguments.work
    photographs(data / "aflw2000_dev", work / "dev")
    portraits(data / "youtube_faces", work / "portraits")
    training_crops(data / "aflw_train", work / "aflw")


if __name__ == "__main__":
    main()
