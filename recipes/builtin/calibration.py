"""Scores that are probabilities: Platt's scaling of a face head, and how reliable its scores are.

A score of 0.8 is to mean that eight of ten such boxes are faces. After Platt, "Probabilistic outputs for support vector
machines" (1999), section 2.2; diagrams as in Guo et al., "On calibration of modern neural networks" (ICML 2017).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F64, I64, U8, Bools, Floats, check_shape
from ddfa_batch.schemas.errors import TrainingError
from recipes.builtin.face_head import FaceHead

#: Newton's steps, far more than a fit of two numbers needs, and the least slope that is believed.
_ROUNDS, _LEAST_SLOPE = 50, 1e-3
#: Bins of a reliability table, equally wide.
BINS = 10
#: Side of a diagram and of its margin, pixels.
_SIDE, _MARGIN = 420, 60


def platt(odds: Floats, is_face: Bools) -> tuple[float, float]:
    """Slope and offset (a, b) for which σ(a·odds + b) of log odds (N,) fits the truth (N,) best, by Newton's method.

    The truths are softened as Platt says (his equation 4), so that a perfect separation keeps a finite slope. Raises
    `TrainingError` where all boxes are of one kind.
    """
    check_shape("is_face", is_face, len(odds))
    n_faces = int(is_face.sum())
    if not 0 < n_faces < len(is_face):
        raise TrainingError("Scores can be calibrated on boxes of both kinds only: faces, and what is none.")
    high, low = (n_faces + 1) / (n_faces + 2), 1 / (len(is_face) - n_faces + 2)
    x, y = np.column_stack([odds, np.ones(len(odds))]).astype(np.float64), np.where(is_face, high, low)
    weights = np.array([1.0, 0.0])
    for _ in range(_ROUNDS):
        p = _sigmoid(x @ weights)
        curvature = (x * (p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, x.T @ (p - y))
        weights = weights - step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
    return max(float(weights[0]), _LEAST_SLOPE), float(weights[1])


def scaled_head(head: FaceHead, slope: float, offset: float) -> FaceHead:
    """The head whose log odds are slope·odds + offset of this one's: the calibration folded into its weights."""
    weight = (head.weight * slope).astype(np.float32)
    return replace(head, weight=weight, bias=head.bias * slope + offset, trust=head.trust * slope)


@dataclass(frozen=True)
class Reliability:
    """How many boxes score within each of B bins, how many of them are faces, and what they score on average."""

    #: (B,).
    boxes: I64
    #: (B,).
    faces: I64
    #: (B,), 0 where there are no boxes.
    mean_score: F64

    @staticmethod
    def of(scores: Floats, is_face: Bools) -> Reliability:
        """Of scores (N,) within 0..1 and the truth (N,)."""
        which = np.minimum((np.asarray(scores, np.float64) * BINS).astype(int), BINS - 1)
        boxes, faces = (np.bincount(which[rows], minlength=BINS) for rows in (slice(None), is_face))
        total = np.bincount(which, np.asarray(scores, np.float64), minlength=BINS)
        return Reliability(boxes, faces, total / np.maximum(boxes, 1))

    @property
    def error(self) -> float:
        """Expected calibration error: by how much score and share of faces differ, on average over the boxes."""
        return float(np.abs(self.mean_score * self.boxes - self.faces).sum() / max(int(self.boxes.sum()), 1))

    def table(self) -> str:
        """The bins in words, Markdown."""
        rows = ["| score | boxes | mean score | faces among them |", "|---|---|---|---|"]
        for i, (n, faces, mean) in enumerate(zip(self.boxes, self.faces, self.mean_score, strict=True)):
            share = f"{faces / n:.0%}" if n else "–"
            rows.append(f"| {i / BINS:.1f}–{(i + 1) / BINS:.1f} | {n:,} | {mean:.2f} | {share} |")
        return "\n".join(rows)


def diagram(curves: dict[str, Reliability], path: Path) -> None:
    """Draw a reliability diagram: the share of faces over the mean score, one line a curve; honest is the diagonal."""
    image: U8 = np.full((_SIDE + 2 * _MARGIN, _SIDE + 2 * _MARGIN, 3), 255, np.uint8)
    cv2.rectangle(image, _place(0, 1), _place(1, 0), (160, 160, 160), 1)
    cv2.line(image, _place(0, 0), _place(1, 1), (190, 190, 190), 1, cv2.LINE_AA)
    for tick in np.arange(0, 1.01, 0.2):
        _write(image, f"{tick:.1f}", (_place(tick, 0)[0] - 12, _place(0, 0)[1] + 20))
        _write(image, f"{tick:.1f}", (_place(0, tick)[0] - 36, _place(0, tick)[1] + 5))
    for i, (name, curve) in enumerate(curves.items()):
        colour = ((200, 90, 20), (40, 40, 210), (60, 150, 40))[i % 3]
        some = np.flatnonzero(curve.boxes)
        points = [_place(curve.mean_score[b], curve.faces[b] / curve.boxes[b]) for b in some]
        cv2.polylines(image, [np.array(points, np.int32)], False, colour, 2, cv2.LINE_AA)
        for point in points:
            cv2.circle(image, point, 4, colour, -1, cv2.LINE_AA)
        cv2.line(image, (_MARGIN + 12, _MARGIN + 18 + 22 * i), (_MARGIN + 34, _MARGIN + 18 + 22 * i), colour, 2)
        told = f"{name}: {curve.error:.1%} off, {curve.boxes.sum():,} boxes"
        _write(image, told, (_MARGIN + 42, _MARGIN + 22 + 22 * i))
    _write(image, "score", (_MARGIN + _SIDE // 2 - 20, _MARGIN + _SIDE + 44))
    _write(image, "share of faces", (_MARGIN - 50, _MARGIN - 14))
    cv2.imwrite(str(path), image)


def _place(score: float, share: float) -> tuple[int, int]:
    return round(_MARGIN + float(score) * _SIDE), round(_MARGIN + (1 - float(share)) * _SIDE)


def _write(image: U8, text: str, at: tuple[int, int]) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (60, 60, 60), 1, cv2.LINE_AA)


def _sigmoid(x: F64) -> F64:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -60, 60))))
