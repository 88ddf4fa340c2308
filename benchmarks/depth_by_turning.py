"""Whether the depth that a model sees in a head fits what the same head shows when it is turned.

    python benchmarks/depth_by_turning.py ../shared/data/youtube_faces/frames.parquet RUN...

FRAMES holds names PERSON_NN.jpg, several of each person, and 68 points of each, a machine's (pts68); RUN is a finished
`ddfa-batch process` run over these frames (`--max-faces 1`). The 68 points in 3-D that the run saw in a frame of a head
that faces the camera (|yaw| < 15°) are posed onto another frame of the same person, turned by more than 25°: rotation,
scale and shift are free, and so is one factor of depth for all pairs. Without an error of depth it is 1; a factor of
1.05 says that heads are deeper by a twentieth than the model sees them, and that it takes them for turned too far.

Printed for each run, with what lies between the 5th and 95th percentile of 200 draws of persons: the factor by where
the run itself sees the turned face, and by the machine's points (without the jaw, whose far side it marks at the
outline), and the residual at the factor and at 1, means in % of the face's size. Noise of the depth draws the factor to
less.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ddfa_batch.pipeline.results import open_run
from ddfa_batch.tasks.fitting.scaled_orthographic import pose_jacobian
from ddfa_batch.tasks.geometry.pose import rotation_and_scale, rotations

#: Degrees of yaw up to which a head faces the camera, and from which it is turned.
FACING, TURNED = 15.0, 25.0
#: Factors that are tried.
FACTORS = np.arange(0.70, 1.42, 0.02)
#: Points that are no jaw.
INNER = slice(17, 68)
#: Gauss–Newton steps of a pose.
_STEPS = 8
#: Draws of persons for what a figure is worth.
_DRAWS = 200


@dataclass(frozen=True)
class Pairs:
    """N pairs of frames of the same person."""

    #: (N, 68, 3), of the one that faces the camera, pixels, y down, z towards the viewer, centred.
    facing: np.ndarray
    #: (N, 68, 2), of the turned one as the run sees it, and as the machine does.
    turned: np.ndarray
    marked: np.ndarray
    #: (N,), which person.
    person: np.ndarray


def pairs_of(run: Path, marked: dict[str, np.ndarray]) -> Pairs:
    """Every pair of a frame that faces the camera and one that is turned."""
    faces = open_run(run).faces(columns=["key", "yaw", "landmarks68"]).to_pandas()
    faces["person"] = faces.key.str.rsplit("_", n=1).str[0]
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]] = []
    for number, (_, group) in enumerate(faces.groupby("person")):
        points = np.stack(group.landmarks68.to_list()).reshape(-1, 68, 3).astype(float)
        yaw = group.yaw.abs().to_numpy()
        rows += [
            (points[a] - points[a].mean(axis=0), points[b, :, :2], marked[group.key.iloc[b]], number)
            for a in np.flatnonzero(yaw < FACING)
            for b in np.flatnonzero(yaw > TURNED)
        ]
    facing, turned, points2, person = (np.array(column) for column in zip(*rows, strict=True))
    return Pairs(facing, turned, points2, person)


def residuals(shape: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Mean distances (N,) of points (N, L, 2) from shapes (N, L, 3), y down, under the scaled orthographic pose."""
    x = shape - shape.mean(axis=1, keepdims=True)
    y = image - image.mean(axis=1, keepdims=True)
    affine = np.linalg.solve(x.transpose(0, 2, 1) @ x, x.transpose(0, 2, 1) @ y).transpose(0, 2, 1)
    whole = np.concatenate([affine, np.zeros((len(x), 1, 3))], axis=1)
    R, scale = rotation_and_scale(np.concatenate([whole, np.zeros((len(x), 3, 1))], axis=2))
    for _ in range(_STEPS):
        turned = scale[:, None, None] * x @ R.transpose(0, 2, 1)
        J = pose_jacobian(turned, 2)[:, :4].reshape(len(x), 4, -1)  # of the turn and the scale's logarithm
        r = (y - turned[..., :2]).reshape(len(x), -1, 1)
        step = np.linalg.solve(J @ J.transpose(0, 2, 1), J @ r)[..., 0]
        R, scale = rotations(step[:, :3]) @ R, scale * np.exp(np.clip(step[:, 3], -0.3, 0.3))
    seen = scale[:, None, None] * x @ R.transpose(0, 2, 1)
    return np.asarray(np.linalg.norm(y - seen[..., :2], axis=2).mean(axis=1))


def by_factor(shape: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Residuals (N, len(FACTORS)) in % of the turned face's size, √(w·h) of its points' box."""
    size = np.sqrt(np.prod(np.ptp(image, axis=1), axis=1))
    return np.stack([100 * residuals(shape * [1, 1, factor], image) / size for factor in FACTORS], axis=1)


def best(table: np.ndarray) -> float:
    """The factor of least mean residual, between those that were tried by a parabola."""
    mean = table.mean(axis=0)
    i = int(np.clip(mean.argmin(), 1, len(FACTORS) - 2))
    left, middle, right = mean[i - 1 : i + 2]
    return float(FACTORS[i] + 0.5 * (FACTORS[1] - FACTORS[0]) * (left - right) / (left - 2 * middle + right))


def told(table: np.ndarray, person: np.ndarray) -> str:
    """A cell: the factor, its spread over draws of persons, and the residuals."""
    rng, names = np.random.default_rng(0), np.unique(person)
    rows_of = [np.flatnonzero(person == name) for name in names]
    drawn = (rng.integers(0, len(names), len(names)) for _ in range(_DRAWS))
    draws = [best(table[np.concatenate([rows_of[i] for i in draw])]) for draw in drawn]
    low, high = np.percentile(draws, [5, 95])
    at_one = table[:, int(np.argmin(np.abs(FACTORS - 1)))].mean()
    return f"{best(table):.3f} ({low:.3f} to {high:.3f}), {table.mean(axis=0).min():.2f} and {at_one:.2f} %"


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    arguments = parser.parse_args()
    table = pq.read_table(arguments.frames, columns=["name", "pts68"])
    marked = {row["name"]: np.reshape(row["pts68"], (68, 2)) for row in table.to_pylist()}
    print("| run | pairs | persons | factor of depth, by its own points | by the machine's |")
    print("|---|---|---|---|---|")
    for run in arguments.runs:
        pairs = pairs_of(run, marked)
        own = told(by_factor(pairs.facing, pairs.turned), pairs.person)
        other = told(by_factor(pairs.facing[:, INNER], pairs.marked[:, INNER]), pairs.person)
        print(f"| {run.name} | {len(pairs.person):,} | {len(np.unique(pairs.person))} | {own} | {other} |")


if __name__ == "__main__":
    main()
