"""How far yaw, pitch and roll of a run's faces are from the labels' own pose, by bins of yaw.

    python benchmarks/pose.py ../shared/data/aflw2000_dev RUN...

FOLDER holds photographs and labels.parquet with pose_para, as AFLW2000-3D's dev half does; RUN is a finished
`ddfa-batch process` run over it. Prints for each run, over the faces found: mean absolute errors, degrees, and the mean
of yaw's excess (positive: turned further than the label says) by bins of the label's |yaw|.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ddfa_batch.pipeline.import_labels import labelled_pose
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.tasks.evaluation.landmark_errors import match_box, mean_by_yaw
from ddfa_batch.tasks.geometry import pose


def labelled(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The middle of the true points (2,), and yaw, pitch and roll (3,) in degrees, of every photograph."""
    found = {}
    for row in pq.read_table(folder / "labels.parquet").to_pylist():
        middle = (np.reshape(row["pts68"], (3, 68))[:2] - 1).mean(axis=1)
        T = labelled_pose(np.array(row["pose_para"], np.float64), 450)
        rotation, _ = pose.rotation_and_scale(pose.upright(T[None]))
        found[row["name"]] = middle, pose.angles(rotation)[0]
    return found


def compared(run: Path, truth: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Angles (N, 3) of the labels and of the run's faces that belong to them."""
    table = open_run(run).faces(columns=["key", "box", "yaw", "pitch", "roll"]).to_pandas()
    wanted, said = [], []
    for key, group in table.groupby("key"):
        middle, angles = truth[str(key)]
        row = match_box(np.stack(group.box.to_numpy()), middle)
        if row is not None:
            wanted.append(angles)
            said.append(group[["yaw", "pitch", "roll"]].iloc[row].to_numpy(float))
    return np.array(wanted), np.array(said)


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    arguments = parser.parse_args()
    truth = labelled(arguments.folder)
    print("| run | faces | yaw | by bins | pitch | roll | yaw's excess, by bins |")
    print("|---|---|---|---|---|---|---|")
    for run in arguments.runs:
        wanted, said = compared(run, truth)
        apart = (said - wanted + 180) % 360 - 180
        yaw = wanted[:, 0]
        off, excess = mean_by_yaw(np.abs(apart[:, 0]), yaw), mean_by_yaw(apart[:, 0] * np.sign(yaw), yaw)
        means = [f"{value:.1f}" for value in np.abs(apart).mean(axis=0)]
        bins = (" / ".join(f"{value:{form}}" for value in values) for values, form in ((off, ".1f"), (excess, "+.1f")))
        by_bins, further = bins
        print(f"| {run.name} | {len(said)} | {means[0]} | {by_bins} | {means[1]} | {means[2]} | {further} |")


if __name__ == "__main__":
    main()
