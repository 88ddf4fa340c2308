"""Faces without pixels: a script says where they are in every frame, and an observer that sees just that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, U8
from ddfa_batch.tasks.geometry import crop
from ddfa_batch.tasks.geometry.boxes import landmark_boxes
from ddfa_batch.tasks.inference.face_observer import ObservedFaces

SIDE = 40.0
_SHAPE = np.random.default_rng(0).uniform(-0.5, 0.5, (68, 3)).astype(np.float32)
#: x and y of the middles of all faces in a frame, by name.
Script = Callable[[int], dict[str, tuple[float, float]]]


def face_at(x: float, y: float) -> F32:
    """Landmarks (68, 3) of a face whose box is `SIDE` wide and high."""
    shape = (_SHAPE - _SHAPE.min(axis=0)) / np.ptp(_SHAPE, axis=0) - 0.5
    return np.asarray(shape * SIDE + [x, y, 0], np.float32)


def frame(number: int, scene: int = 0) -> U8:
    """A picture that tells its number by its first pixel; scenes differ as a cut does."""
    rng = np.random.default_rng(scene)
    image = np.kron(rng.integers(0, 256, (6, 8, 1)), np.ones((20, 20, 3))).astype(np.uint8)
    image[0, 0] = number % 256
    return image


@dataclass
class ScriptedObserver:
    """Sees the script's faces, and nothing where there are none; counts how often it was asked."""

    script: Script
    #: Names of faces that a search overlooks.
    overlooked: set[str] = field(default_factory=set)
    searches: list[int] = field(default_factory=list)

    def detect(self, image: U8) -> ObservedFaces:
        self.searches.append(int(image[0, 0, 0]))
        faces = {name: at for name, at in self._now(image).items() if name not in self.overlooked}
        return observed(np.array([face_at(*at) for at in faces.values()]).reshape(-1, 68, 3), np.ones(len(faces)))

    def follow(self, image: U8, rois: F64, _: F64, first: ObservedFaces | None = None) -> ObservedFaces:
        del first
        faces, scores = [], []
        for roi in rois:
            middle, side = (roi[:2] + roi[2:]) / 2, roi[2] - roi[0]
            all_there = [face_at(*at) for at in self._now(image).values()]
            away = [
                np.abs(landmark_boxes(there[None])[0].reshape(2, 2).mean(axis=0) - middle).max() for there in all_there
            ]
            near = bool(away) and min(away) < side / 2
            faces.append(all_there[int(np.argmin(away))] if near else face_at(*middle))
            scores.append(0.95 if near else 0.1)
        return observed(np.array(faces).reshape(-1, 68, 3), np.array(scores))

    def angles(self, faces: ObservedFaces) -> F64:
        return np.zeros(len(faces))

    def none(self) -> ObservedFaces:
        return observed(np.zeros((0, 68, 3)), np.zeros(0))

    def _now(self, image: U8) -> dict[str, tuple[float, float]]:
        return self.script(int(image[0, 0, 0]))


def observed(landmarks: np.ndarray, scores: np.ndarray) -> ObservedFaces:
    n = len(scores)
    points = landmarks.astype(np.float32)
    boxes = landmark_boxes(points) if n else np.zeros((0, 4))
    rois = crop.roi_from_landmarks(points) if n else np.zeros((0, 4))
    crops, params = np.zeros((n, 8, 8, 3), np.uint8), np.zeros((n, 62), np.float32)
    return ObservedFaces(boxes.astype(np.float32), scores.astype(np.float32), rois, crops, params, points)
