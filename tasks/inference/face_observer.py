"""What the networks see of the faces of one frame: all of them anew, or known ones where they are expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I64, U8, Floats, check_shape
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.geometry import crop
from ddfa_batch.tasks.geometry.boxes import landmark_boxes, overlap
from ddfa_batch.tasks.geometry.mirroring import MirrorMap
from ddfa_batch.tasks.geometry.pose import in_plane_angle
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, crop_pose, image_pose, points, turned_params
from ddfa_batch.tasks.inference.face_finder import FaceFinder
from ddfa_batch.tasks.inference.refinement import distinct_faces, refine
from ddfa_batch.tasks.inference.regressor import Regressor

#: Log odds beyond are scores of 0 or 1 as far as float32 can tell.
_MAX_ODDS = 60.0


@dataclass(frozen=True)
class ObservedFaces:
    """Faces of one frame, one row each."""

    #: (N, 4) x0, y0, x1, y1, pixels: the detector's, or the landmarks' where a face was followed.
    boxes: F32
    #: (N,) confidence in [0, 1] that it is a face.
    scores: F32
    #: (N, 4) of the upright squares that were cropped, pixels.
    rois: F64
    #: (N, size, size, 3) BGR, each head upright.
    crops: U8
    #: (N, P), in the frame of the rois.
    params: F32
    #: (N, 68, 3), pixels.
    landmarks: F32

    def __post_init__(self) -> None:
        n = self.scores.shape[0]
        check_shape("boxes", self.boxes, n, 4)
        check_shape("rois", self.rois, n, 4)
        check_shape("crops", self.crops, n, None, None, 3)
        check_shape("params", self.params, n, None)
        check_shape("landmarks", self.landmarks, n, N_LANDMARKS, 3)

    def __len__(self) -> int:
        return int(self.scores.shape[0])

    def take(self, rows: I64) -> ObservedFaces:
        """The faces of `rows`."""
        return ObservedFaces(*(getattr(self, name)[rows] for name in ObservedFaces.__annotations__))

    @staticmethod
    def concatenate(parts: list[ObservedFaces]) -> ObservedFaces:
        """All parts as one; there must be at least one part."""
        columns = ([getattr(part, name) for part in parts] for name in ObservedFaces.__annotations__)
        return ObservedFaces(*(np.concatenate(column) for column in columns))


class FaceObserver(Protocol):
    """The eyes of the tracker."""

    def detect(self, image: U8) -> ObservedFaces:
        """All faces of a frame (H, W, 3) BGR, each once, best first."""
        ...

    def follow(self, image: U8, rois: F64, angles: F64, first: ObservedFaces | None = None) -> ObservedFaces:
        """What is in rois (N, 4), turned by angles (N,) so that the heads expected there stand upright; in this order.

        `first` is what a first look at the same faces gave: both looks are averaged.
        """
        ...

    def angles(self, faces: ObservedFaces) -> F64:
        """Radians (N,) by which heads lean counter-clockwise as seen."""
        ...

    def none(self) -> ObservedFaces:
        """No faces, in arrays of the right shapes."""
        ...


class NetworkObserver:
    """Sees by a bundle's detector and regressor.

    Detection is `process`'s own, `refine` passes included. The score of a followed face is σ of the network's log odds
    of a face; of a network that does not tell them it is the overlap of the roi that was looked at with the roi of
    what was found. With `mirror` the last look at a detected face is averaged with one at its mirror image; of a face
    that is followed two looks are averaged anyway, and a third at the mirror image steadied nothing (0.46 instead of
    0.43 % of second differences on a talking face).
    """

    def __init__(
        self,
        find: FaceFinder,
        regress: Regressor,
        landmarks: PointBasis,
        refine: int = 1,
        mirror: MirrorMap | None = None,
    ) -> None:
        self._find, self._regress, self._landmarks, self._refine = find, regress, landmarks, refine
        self._mirror = mirror

    def detect(self, image: U8) -> ObservedFaces:
        """As `FaceObserver` says."""
        faces = refine(image, self._find(image), self._regress, self._landmarks, self._refine, self._mirror)
        faces = distinct_faces(faces, self._regress, self._landmarks)
        landmarks = points(self._landmarks, faces.params, faces.rois, self._regress.size)
        boxes, scores = faces.detections.boxes, faces.detections.scores
        return ObservedFaces(boxes, scores, faces.rois, faces.crops, faces.params, landmarks)

    def follow(self, image: U8, rois: F64, angles: F64, first: ObservedFaces | None = None) -> ObservedFaces:
        """As `FaceObserver` says."""
        size = self._regress.size
        crops = crop.crops(image, rois, size, angles)
        if self._regress.tells_faces:
            params, odds = self._regress.with_faces(crops)
        else:
            params, odds = self._regress(crops), None
        params = np.asarray(turned_params(params, angles, self._regress.layout, size), np.float32)
        if first is not None:
            params = (params + self._seen_from(first, rois)) / np.float32(2)
        landmarks = points(self._landmarks, params, rois, size)
        scores = self._agreement(rois, landmarks, params) if odds is None else sigmoid(odds)
        return ObservedFaces(landmark_boxes(landmarks).astype(np.float32), scores, rois, crops, params, landmarks)

    def angles(self, faces: ObservedFaces) -> F64:
        """As `FaceObserver` says."""
        return in_plane_angle(self._regress.layout.pose(faces.params))

    def none(self) -> ObservedFaces:
        """As `FaceObserver` says."""
        size, n_params = self._regress.size, self._regress.layout.size
        boxes, scores = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        crops, params = np.zeros((0, size, size, 3), np.uint8), np.zeros((0, n_params), np.float32)
        return ObservedFaces(boxes, scores, np.zeros((0, 4)), crops, params, np.zeros((0, N_LANDMARKS, 3), np.float32))

    def _agreement(self, rois: F64, landmarks: F32, params: F32) -> F32:
        own = crop.upright_rois(landmarks, in_plane_angle(self._regress.layout.pose(params)))
        return overlap(rois, own).astype(np.float32)

    def _seen_from(self, faces: ObservedFaces, rois: F64) -> F32:
        """Parameters (N, P) of faces in the frame of other rois (N, 4)."""
        size = self._regress.size
        in_image = image_pose(self._regress.layout.pose(faces.params), faces.rois, size)
        return self._with_pose(faces.params, crop_pose(in_image, rois, size))

    @staticmethod
    def _with_pose(params: F32, pose: F64) -> F32:
        out = params.copy()
        out[:, :N_POSE] = pose.reshape(-1, N_POSE)
        return out


def sigmoid(odds: Floats) -> F32:
    """Scores (N,) of log odds (N,)."""
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -_MAX_ODDS, _MAX_ODDS))), np.float32)
