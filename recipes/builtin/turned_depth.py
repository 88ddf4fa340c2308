"""Turn the depth of labels until their fits have the yaw that human points have.

    python -m recipes.builtin.turned_depth WORK [--labels learned] [--fit fit-learned] [--turned turned]

The depth of WORK/aflw/LABELS is what models say of it, the official one first, and so the fits in WORK/aflw/FIT have
its yaw, which is larger than that of the official face model's fits to the human points alone (WORK/aflw/fit-all: two
coordinates, as 300W-LP's labels were made). How much larger, by yaw, is the median over the faces that have human
points. By twice that each face's 68 points are turned back about the head's vertical axis, and the depth they have then
becomes the label's (a fit of 68 points follows half of what their depth alone says); what the picture shows stays.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.arrays import F64
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.files.landmark_files import read_landmarks
from ddfa_batch.tasks.geometry.pose import rotation_and_scale, rotations
from recipes.builtin.prepare import lists, matrix

#: Ends of the bins of |yaw| in which the excess is measured, degrees.
BINS = np.arange(0.0, 91.0, 15.0)
#: How far the points are turned for each degree that the fit's yaw has to change.
GAIN = 2.0


@dataclass(frozen=True)
class YawExcess:
    """How much larger than another's a fit's yaw is."""

    #: (len(BINS) - 1,), degrees: median of each bin.
    medians: F64

    @staticmethod
    def between(yaw: F64, other: F64) -> YawExcess:
        """Of yaw (N,) over `other` (N,), degrees, binned by their mean: binned by one, its scatter would count."""
        middle = (yaw + other) / 2
        excess, turned = (yaw - other) * np.sign(middle), np.abs(middle)
        rows = [excess[(turned >= low) & (turned < high)] for low, high in itertools.pairwise(BINS)]
        return YawExcess(np.array([np.median(row) if len(row) else 0.0 for row in rows]))

    def at(self, yaw: F64) -> F64:
        """Degrees (N,) by which yaw (N,) is too far from 0, with its sign; nothing at 0 and beyond 90°."""
        middles = (BINS[:-1] + BINS[1:]) / 2
        positions, values = np.r_[0.0, middles, BINS[-1]], np.r_[0.0, self.medians, 0.0]
        return np.asarray(np.sign(yaw) * np.interp(np.abs(yaw), positions, values))


def turned_depth(points: F64, rotation: F64, degrees: F64) -> F64:
    """Points (N, 68, 3), image pixels, as deep as once the head R (N, 3, 3) has `degrees` (N,) less yaw."""
    y_up = points * [1.0, -1.0, 1.0]
    centred = y_up - y_up.mean(axis=1, keepdims=True)
    turn = rotations(rotation[:, :, 1] * np.radians(degrees)[:, None])
    turned = points.copy()
    turned[..., 2] = points[..., 2].mean(axis=1, keepdims=True) + (centred @ turn.transpose(0, 2, 1))[..., 2]
    return turned


def main(words: Sequence[str] | None = None) -> None:
    """The step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--labels", default="learned", help="file of labels to turn")
    parser.add_argument("--fit", default="fit-learned", help="folder of their fits")
    parser.add_argument("--turned", default="turned", help="file of turned labels")
    arguments = parser.parse_args(words)
    folder = arguments.work / "aflw"
    faces = open_run(folder / arguments.fit).faces(columns=["key", "yaw", "params"]).to_pandas().set_index("key")
    human = open_run(folder / "fit-all").faces(columns=["key", "yaw"]).to_pandas().set_index("key").yaw
    by_human = faces.index.isin(read_landmarks(folder / "labels68.parquet").keys) & faces.index.isin(human.index)
    both = faces.index[by_human]
    excess = YawExcess.between(faces.yaw[both].to_numpy(float), human[both].to_numpy(float))
    labels = pq.read_table(folder / f"{arguments.labels}.parquet")
    names = [name for name in labels["name"].to_pylist() if name in faces.index]
    rows = np.isin(labels["name"].to_numpy(zero_copy_only=False), names)
    points = matrix(labels, "pts68", N_LANDMARKS, 3)[rows]
    fitted = faces.loc[names]
    rotation, _ = rotation_and_scale(np.stack(fitted.params.to_list())[:, :N_POSE].reshape(-1, 3, 4))
    turned = turned_depth(points, rotation, GAIN * excess.at(fitted.yaw.to_numpy(float)))
    pq.write_table(pa.table({"name": names, "pts68": lists(turned)}), folder / f"{arguments.turned}.parquet")
    told = ", ".join(f"{value:+.2f}" for value in excess.medians)
    print(f"yaw too large by {told} degrees in bins of {BINS[1]:.0f} ({len(both):,} faces); {len(names):,} turned")


if __name__ == "__main__":
    main()
