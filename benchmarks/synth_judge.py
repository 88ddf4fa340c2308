"""Does an outside judge agree with the labels of synthetic clips?

    python benchmarks/synth_judge.py --images IMAGES --labels labels.parquet --run RUN --model BUNDLE [--n 300]
                                     [--params run|dataset] [--seed 0]

RUN is a finished `ddfa-batch process` run over IMAGES with BUNDLE, refined once; `labels.parquet` has name and pts68
(3×68, 1-based). The judge is the bundle's own detector and regressor, refined once, shown the last frame of a clip
whose yaw moved by up to ±30° and pitch by up to ±15°. With `--params run` the still's parameters are the judge's
answer to the still, so that only what the motion adds is judged; with `dataset` they are fitted to the 3-D landmarks
of the data set, which the judge never saw, so that its own error on the still counts too. Printed: the 68-point NME,
in % of √(w·h) of the true landmarks' box, and how well the judge sees the turn that was commanded.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from ddfa_batch.schemas.arrays import F32, F64, U8
from ddfa_batch.schemas.faces import Detections
from ddfa_batch.tasks.bundles.loaded_model import LoadedModel, loaded_model
from ddfa_batch.tasks.bundles.model_bundle import load_bundle
from ddfa_batch.tasks.files import images
from ddfa_batch.tasks.geometry import crop, motion, pose
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, image_pose, points
from ddfa_batch.tasks.inference.detectors import Detector, make_detector
from ddfa_batch.tasks.inference.refinement import refine, regress_faces
from ddfa_batch.tasks.inference.regressor import Regressor
from ddfa_batch.tasks.rendering import face_profiling, stills
from ddfa_batch.tasks.rendering.rasteriser import Viewport
from ddfa_batch.tasks.rendering.surface import Surface

BINS = ((0, 30), (30, 60), (60, 90))
#: Per landmark and axis, in pixels of a 120-pixel crop: the trust in the data set's points against the prior of α.
POINT_SIGMA = 1.0


class Judge:
    """Detector, regressor and one refinement, as `process` runs them."""

    def __init__(self, model: LoadedModel) -> None:
        self.model, manifest = model, model.bundle.manifest
        _, spec = model.bundle.detector(None)
        self.detect: Detector = make_detector(spec, model.detector_session(spec), spec.score_threshold, None)
        self.regress = Regressor(model.regressor, manifest)
        self.basis = PointBasis.of(model.morphable, model.morphable.landmarks)
        self.size, self.layout = manifest.input_size, manifest.layout
        self.roi_scale, self.roi_shift = spec.roi_scale, spec.roi_shift

    def __call__(self, image: U8, where: F64) -> tuple[F32, F64] | None:
        """Landmarks (68, 3) and yaw, pitch, roll (3,) of the face at `where` (2,); None if there is none."""
        boxes = self.detect(image).boxes
        which = chosen(boxes, where)
        if which is None:
            return None
        rois = crop.roi_from_boxes(boxes[which : which + 1], self.roi_scale, self.roi_shift)
        given = Detections(boxes[which : which + 1], np.ones(1, np.float32))
        face = refine(image, regress_faces(image, given, rois, self.regress), self.regress, self.basis)
        found = points(self.basis, face.params, face.rois, self.size)
        return found[0], turned(image_pose(self.layout.pose(face.params), face.rois, self.size)[0])


def chosen(boxes: F32, where: F64) -> int | None:
    """The box that holds the point, nearest centre first: how the reference figures choose."""
    inside = ((boxes[:, :2] <= where) & (where <= boxes[:, 2:4])).all(axis=1)
    distance = np.hypot(*((boxes[:, :2] + boxes[:, 2:4]) / 2 - where).T)
    return int(np.argmin(np.where(inside, distance, np.inf))) if inside.any() else None


def turned(T: F64) -> F64:
    """Yaw, pitch, roll (3,) of T (3, 4) in image pixels."""
    rotation, _ = pose.rotation_and_scale((T * np.array([1, -1, 1])[:, None])[None])
    return pose.angles(rotation)[0]


def totals(path: motion.Motion) -> F64:
    """Yaw, pitch and roll (3,) that the only frame of `path` adds."""
    return np.array([path.yaw[0], path.pitch[0], path.roll[0]])


def own_turn(before: F64, after: F64) -> F64:
    """The turn from one yaw, pitch, roll (3,) to another about the head's own axes (3,), in degrees.

    Euler's pitch and roll are the same thing at 90° of yaw and noise divides by cos(yaw) on the way there; this
    does not, and without yaw it is the added pitch.
    """
    first, then = (pose.rotation_matrix(*(a[i : i + 1] for i in range(3)))[0] for a in (before, after))
    return np.degrees(cv2.Rodrigues(first.T @ then)[0][:, 0])


def nme(found: F32, true: F64) -> float:
    """Mean distance in the picture, % of √(w·h) of the true points' box; both (68, ≥2)."""
    w, h = np.ptp(true[:, :2], axis=0)
    return float(np.hypot(*(found[:, :2] - true[:, :2]).T).mean() / np.sqrt(w * h) * 100)


def fitted(model: LoadedModel, true: F64, roi: F64, size: int) -> F32:
    """Parameters (P,) in the crop of `roi` that answer to 3-D landmarks (68, 3) in image pixels."""
    manifest, morphable = model.bundle.manifest, model.morphable
    scale = size / (roi[2] - roi[0])
    x, y, z = true.T
    target = np.stack([(x - roi[0]) * scale + 1, size - (y - roi[1]) * scale, z * scale], axis=1)
    mean = morphable.mean[morphable.landmarks].astype(np.float64)
    basis = morphable.basis[:, morphable.landmarks].astype(np.float64)
    sigma = np.array(manifest.param_std)[12:]
    alpha = np.array(manifest.param_mean)[12:]
    for _ in range(8):
        shape = mean + np.tensordot(alpha, basis, 1)
        a, b = shape - shape.mean(axis=0), target - target.mean(axis=0)
        u, s, vt = np.linalg.svd(b.T @ a)
        sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
        R, f = (u * sign) @ vt, (s * sign).sum() / (a**2).sum()
        t = target.mean(axis=0) - f * R @ shape.mean(axis=0)
        A = (f * basis @ R.T).reshape(len(alpha), -1).T / POINT_SIGMA
        residual = (target - t - f * mean @ R.T).ravel() / POINT_SIGMA
        prior = 1 / sigma**2
        alpha = np.linalg.solve(A.T @ A + np.diag(prior), A.T @ residual + prior * np.array(manifest.param_mean)[12:])
    return np.concatenate([np.column_stack([f * R, t]).ravel(), alpha]).astype(np.float32)


def faces_by_label(run: Path, labels: pd.DataFrame) -> dict[int, pd.Series]:
    """The run's face for each row of the labels that has one."""
    columns = ["key", "box", "params", "roi", "landmarks68", "yaw", "pitch", "roll"]
    faces = pd.concat([pd.read_parquet(f, columns=columns) for f in sorted((run / "faces").glob("*.parquet"))])
    groups = dict(iter(faces.groupby("key")))
    found = {}
    for i, label in labels.iterrows():
        if label["name"] in groups:
            group = groups[label["name"]]
            which = chosen(np.stack(group.box.to_list()), true_points(label)[:, :2].mean(axis=0))
            if which is not None:
                found[i] = group.iloc[which]
    return found


def true_points(label: pd.Series) -> F64:
    """The 3-D landmarks (68, 3) of a label in our pixels."""
    return np.array(label.pts68, np.float64).reshape(3, 68).T - [1, 1, 0]


def judged(
    judge: Judge,
    surface: Surface,
    image: U8,
    face: pd.Series,
    params: F32,
    limits: motion.MotionLimits,
    rng: np.random.Generator,
) -> dict[str, float] | None:
    """What the judge says of the last frame of a clip of `image`; None if it finds no face there."""
    roi, morphable = np.array(face.roi, np.float64), judge.model.morphable
    T = image_pose(motion.true_depth(judge.layout.pose(params[None])), roi[None], judge.size)[0]
    shape, angles = stills.face_shape(morphable, params), turned(T)
    path = motion.random_motion(rng, limits, 10, angles, float(roi[2] - roi[0]))[-1:]
    still = stills.prepare(surface, image, T, shape)
    frame = face_profiling.frames(surface, still, path, [Viewport.of_image(image)])[0]
    ours = motion.apply(face_profiling.poses(still, path)[0], shape[morphable.landmarks])
    answer = judge(frame, ours[:, :2].mean(axis=0))
    if answer is None:
        return None
    found, measured = answer
    before = np.array([face.yaw, face.pitch, face.roll], np.float64)
    asked, got = own_turn(angles, angles + totals(path)), own_turn(before, measured)
    return {
        "yaw": angles[0] + path.yaw[0],
        "still_yaw": angles[0],
        "clip_nme": nme(found, ours),
        "d_yaw": path.yaw[0],
        "d_pitch": path.pitch[0],
        "m_yaw": measured[0] - before[0],
        "m_pitch": measured[1] - before[1],
        "d_own_pitch": asked[0],
        "m_own_pitch": got[0],
        "d_own_yaw": -asked[1],
        "m_own_yaw": -got[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("images", "labels", "run", "model"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--params", choices=("run", "dataset"), default="run")
    parser.add_argument("--in-plane", action="store_true", help="also roll, scale and shift, by the defaults")
    parser.add_argument("--csv", type=Path, help="write one row a clip here")
    args = parser.parse_args()
    bundle = load_bundle(args.model)
    model = loaded_model(str(bundle.folder), bundle.digest)
    judge, surface = Judge(model), Surface.of(model.morphable)
    labels = pd.read_parquet(args.labels)
    faces = faces_by_label(args.run, labels)
    rng = np.random.default_rng(args.seed)
    limits = motion.MotionLimits(yaw_speed=90, pitch_speed=90, roll_speed=90, scale_speed=1, shift_speed=1)
    if not args.in_plane:
        limits = replace(limits, roll=(0.0, 0.0), scale=(1.0, 1.0), shift=(0.0, 0.0))
    rows, lost = [], 0
    for i in rng.permutation(sorted(faces))[: args.n]:
        label, face = labels.loc[i], faces[i]
        image = images.decode(images.read_bytes(args.images / label["name"]), 10**9)
        params, true = np.array(face.params, np.float32), true_points(label)
        if args.params == "dataset":
            params = fitted(model, true, np.array(face.roi, np.float64), judge.size)
        row = judged(judge, surface, image, face, params, limits, rng)
        if row is None:
            lost += 1
            continue
        own = np.array(face.landmarks68).reshape(68, 3)
        rows.append({"key": label["name"], "still_nme": nme(own, true), **row})
    report(pd.DataFrame(rows), lost, args.params)
    if args.csv:
        pd.DataFrame(rows).to_csv(args.csv, index=False)


def report(table: pd.DataFrame, lost: int, params: str) -> None:
    """Print the table and the two correlations."""
    print(f"{len(table)} clips, parameters of the {params}; the judge found no face in {lost} more\n")
    print("| yaw of the last frame | clips | judge against our labels | stills | judge against human labels | ratio |")
    print("|---|---|---|---|---|---|")
    for low, high in BINS:
        clips = table[(table.yaw.abs() >= low) & (table.yaw.abs() < high + 1e-6)]
        stills = table[(table.still_yaw.abs() >= low) & (table.still_yaw.abs() < high)]
        a, b = clips.clip_nme.mean(), stills.still_nme.mean()
        print(f"| {low}–{high}° | {len(clips)} | {a:.2f} % | {len(stills)} | {b:.2f} % | {a / b:.2f} |")
    for name in ("yaw", "pitch", "own_yaw", "own_pitch"):
        correlation = np.corrcoef(table[f"d_{name}"], table[f"m_{name}"])[0, 1]
        error = (table[f"m_{name}"] - table[f"d_{name}"]).abs()
        spread = f"median error {error.median():.2f}°, 90 % below {error.quantile(0.9):.2f}°"
        print(f"Δ{name}: correlation {correlation:.4f}, {spread}")


if __name__ == "__main__":
    main()
