"""How far can a head that looks away be turned back towards the front before its picture tears?

    python benchmarks/turning_back.py RUN SHEET.png [--model BUNDLE] [--n 12] [--turns 0 10 20 30 40 50 60] [--away]
                                      [--csv TABLE.csv]

RUN is a finished `ddfa-batch process` run, the pictures where it found them. Of each bin of |yaw| the heads of n
photographs are turned back by some degrees (with `--away`: further away), without any limit. Drawn: a sheet, a row a
photograph, a column a turn, for a person to look at. Printed, by bin and turn, means over the photographs of

* invented: the share of the inner face (what lies between brows, mouth and the outer corners of the eyes) in the frame
  whose colours were completed, not photographed;
* stretched: the share of the face in the frame where a pixel of the still covers more than `STRETCHED` of the frame's;
* lost: the share of frames in which the model's own detector finds no face;
* NME in % of the model's answer to the frame against its label.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from synth_judge import Judge, nme

import ddfa_batch
from ddfa_batch.schemas.arrays import F32, F64, I32
from ddfa_batch.schemas.config import BUILTIN
from ddfa_batch.tasks.bundles.loaded_model import LoadedModel, loaded_model
from ddfa_batch.tasks.bundles.model_bundle import find_bundle, load_bundle
from ddfa_batch.tasks.files import images
from ddfa_batch.tasks.geometry import motion
from ddfa_batch.tasks.geometry.reconstruct import image_pose
from ddfa_batch.tasks.rendering import face_profiling, rasteriser, sheets, stills
from ddfa_batch.tasks.rendering.rasteriser import Viewport
from ddfa_batch.tasks.rendering.surface import Surface

BINS = ((0, 15), (15, 30), (30, 45), (45, 60), (60, 90))
#: Faces smaller than this, pixels, show nothing.
SMALLEST = 60
#: Side of a picture on the sheet, pixels, and what it shows around the roi, as a multiple of its side.
TILE, AROUND = 200, 1.3
#: Times a pixel of the still may be enlarged before it counts as stretched.
STRETCHED = 4.0
#: Weight of the completed colours above which a pixel counts as invented.
INVENTED = 0.5


def inner_triangles(model: LoadedModel) -> np.ndarray:
    """Which triangles (T,) lie between brows, mouth and the outer corners of the eyes of the mean face."""
    mean, landmarks = model.morphable.mean, model.morphable.landmarks
    hull = cv2.convexHull(mean[landmarks[17:], :2].astype(np.float32))
    middles = mean[model.morphable.triangles].mean(axis=1)
    inside = np.array([cv2.pointPolygonTest(hull, (float(x), float(y)), False) >= 0 for x, y, _ in middles])
    return inside & (middles[:, 2] > np.median(mean[landmarks[17:], 2]) - np.ptp(mean[:, 2]) / 4)


def areas(points: F32, triangles: I32) -> F64:
    """Twice the area of triangles (T,) of points (V, ≥2) in the picture."""
    a, b, c = (points[triangles[:, k], :2].astype(np.float64) for k in range(3))
    return np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])


def looks(surface: Surface, still: stills.Still, turn: F64, view: Viewport, inner: np.ndarray) -> dict[str, float]:
    """Shares of the frame's face that were invented and stretched."""
    scene = face_profiling.scene(surface, still, turn, np.eye(3, 4), view)
    shown = rasteriser.rasterise(scene.vertices, surface.triangles, view.width, view.height).triangle
    shown = shown[(shown >= 0) & (shown < surface.n_face_triangles)]
    triangles = surface.triangles[: surface.n_face_triangles]
    invented = scene.weight[triangles].mean(axis=1) > INVENTED
    grown = areas(scene.vertices, triangles) / np.maximum(areas(scene.uv, triangles) * view.zoom_x * view.zoom_y, 1e-6)
    return {
        "invented": float(invented[shown[inner[shown]]].mean()),
        "stretched": float((~invented & (grown > STRETCHED))[shown].mean()),
    }


def turned(
    model: LoadedModel,
    surface: Surface,
    judge: Judge,
    image: np.ndarray,
    face: pd.Series,
    turns: list[float],
    inner: np.ndarray,
) -> tuple[list[np.ndarray], list[dict[str, float]]]:
    """Tiles and measures of one photograph at every turn, positive towards the front."""
    params, roi = np.array(face.params, np.float32), np.array(face.roi, np.float64)
    T = image_pose(motion.true_depth(model.morphable.layout.pose(params[None])), roi[None], judge.size)[0]
    shape = stills.face_shape(model.morphable, params)
    still = stills.prepare(surface, image, T, shape)
    n = len(turns)
    path = motion.Motion(-np.sign(face.yaw) * np.array(turns), np.zeros(n), np.zeros(n), np.ones(n), np.zeros((n, 2)))
    middle, half = (roi[:2] + roi[2:]) / 2, AROUND * (roi[2] - roi[0]) / 2
    near = Viewport.of_roi(np.concatenate([middle - half, middle + half]), TILE)
    tiles = face_profiling.frames(surface, still, path, [near] * n)
    whole = face_profiling.frames(surface, still, path, [Viewport.of_image(image)] * n)
    labels = motion.apply(face_profiling.poses(still, path), shape[model.morphable.landmarks])
    rows = []
    for turn, frame, label, affine in zip(
        turns, whole, labels, motion.out_of_plane(still.pose, path, still.centre), strict=True
    ):
        answer = judge(frame, label[:, :2].mean(axis=0))
        error = np.nan if answer is None else nme(answer[0], label)
        rows.append(
            {
                "key": face.key,
                "yaw": face.yaw,
                "turn": turn,
                "nme": error,
                "lost": float(answer is None),
                **looks(surface, still, affine, near, inner),
            }
        )
    name = f"{Path(face.key).stem[-8:]} {face.yaw:+.0f}"
    tiles[0] = cv2.putText(tiles[0].copy(), name, (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 255, 255), 1)
    return tiles, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--n", type=int, default=12)
    parser.add_argument("--turns", type=float, nargs="+", default=[0, 10, 20, 30, 40, 50, 60])
    parser.add_argument("--away", action="store_true")
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    bundle = load_bundle(args.model) if args.model else find_bundle(BUILTIN, args.run)
    model = loaded_model(str(bundle.folder), bundle.digest)
    surface, judge, inner = Surface.of(model.morphable), Judge(model), inner_triangles(model)
    run = ddfa_batch.open(args.run)
    faces = run.faces(["key", "face_index", "face_size", "yaw", "params", "roi"]).to_pandas()
    faces = faces[(faces.face_index == 0) & (faces.face_size > SMALLEST)].sort_values("key")
    tiles, rows = [], []
    for low, high in BINS:
        bin_ = faces[(faces.yaw.abs() >= low) & (faces.yaw.abs() < high)]
        for _, face in bin_.sample(min(args.n, len(bin_)), random_state=0).iterrows():
            image = images.decode(images.read_bytes(Path(run.run.root) / face.key), 10**9)
            more, measured = turned(
                model, surface, judge, image, face, [-t if args.away else t for t in args.turns], inner
            )
            tiles += more
            rows += measured
    sheets.write_png(args.sheet, sheets.grid(tiles, len(args.turns)))
    table = pd.DataFrame(rows)
    if args.csv:
        table.to_csv(args.csv, index=False)
    report(table)


def report(table: pd.DataFrame) -> None:
    """Print a row a bin and turn."""
    print(
        "| |yaw| of the still | turn | photographs | invented | stretched | lost | NME |\n|---|---|---|---|---|---|---|"
    )
    for low, high in BINS:
        bin_ = table[(table.yaw.abs() >= low) & (table.yaw.abs() < high)]
        for turn, group in bin_.groupby("turn"):
            shares = " | ".join(f"{group[name].mean():.0%}" for name in ("invented", "stretched", "lost"))
            print(f"| {low}–{high}° | {turn:.0f}° | {len(group)} | {shares} | {group.nme.mean():.2f} % |")


if __name__ == "__main__":
    main()
