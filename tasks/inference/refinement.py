"""Regression of faces whose rois are known, and its repetition around the landmarks it found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I64, U8, Floats
from ddfa_batch.schemas.faces import Detections
from ddfa_batch.tasks.geometry import crop
from ddfa_batch.tasks.geometry.boxes import box_sizes, landmark_boxes, overlap
from ddfa_batch.tasks.geometry.mirroring import MirrorMap
from ddfa_batch.tasks.geometry.picture import Picture
from ddfa_batch.tasks.geometry.pose import in_plane_angle
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, points, turned_params
from ddfa_batch.tasks.inference.face_finder import FaceCandidates
from ddfa_batch.tasks.inference.regressor import Regressor

#: Two refined faces are one where their landmarks' boxes overlap by more than this and the landmarks lie, in the mean,
#: nearer to each other than this share of the smaller face's size. Twins that refinement had drawn onto one face were
#: at most 0.13 apart, neighbours that overlapped at least 0.69 (1,000 photographs, groups and crowds; two models).
_SAME_OVERLAP, _SAME_DISTANCE = 0.3, 0.3


def regress_faces(image: U8 | Picture, detections: Detections, rois: F64, regress: Regressor) -> FaceCandidates:
    """What the regressor sees in the rois (N, 4) of boxes that are faces."""
    crops = crop.crops(image, rois, regress.size)
    return FaceCandidates(detections, rois, crops, regress(crops))


def refine(
    image: U8 | Picture,
    faces: FaceCandidates,
    regress: Regressor,
    landmarks: PointBasis,
    times: int = 1,
    mirror: MirrorMap | None = None,
) -> FaceCandidates:
    """The same faces regressed so many times more, each time around the landmarks of the time before.

    The crop is turned so that each head stands upright. Rois are of the upright crops; parameters are in the frame of
    the same rois not turned, as everywhere. With `mirror` what is said of the last crop is averaged with what is said
    of its mirror image.
    """
    if not len(faces):
        return faces
    if mirror is not None and times == 0:
        return replace(faces, params=with_mirrored(faces.params, faces.crops, regress, mirror))
    for left in reversed(range(times)):
        angles = in_plane_angle(regress.layout.pose(faces.params))
        rois = crop.upright_rois(points(landmarks, faces.params, faces.rois, regress.size), angles)
        crops = crop.crops(image, rois, regress.size, angles)
        said = regress(crops)
        if mirror is not None and left == 0:
            said = with_mirrored(said, crops, regress, mirror)
        params = np.asarray(turned_params(said, angles, regress.layout, regress.size))
        faces = FaceCandidates(faces.detections, rois, crops, params, faces.seconds)
    return faces


def with_mirrored(params: F32, crops: U8, regress: Regressor, mirror: MirrorMap) -> F32:
    """The mean of params (N, P), said of crops (N, size, size, 3), and of what is said of their mirror images."""
    return (params + mirror(regress(crops[:, :, ::-1]), regress.size)) / np.float32(2)


def distinct_faces(faces: FaceCandidates, regress: Regressor, landmarks: PointBasis) -> FaceCandidates:
    """Refined faces without those that came to lie on a better one: detections of one head that were not told apart."""
    if len(faces) < 2:
        return faces
    kept = _distinct(points(landmarks, faces.params, faces.rois, regress.size)[..., :2])
    return faces.take(kept) if len(kept) < len(faces) else faces


def _distinct(landmarks: Floats) -> I64:
    """Rows of landmarks (N, L, 2), best first, that are of no face before them which is kept."""
    boxes = landmark_boxes(landmarks)
    sizes = box_sizes(boxes)
    kept: list[int] = []
    for row in range(len(landmarks)):
        near = np.array(kept, np.int64)[overlap(boxes[row], boxes[kept]) > _SAME_OVERLAP]
        apart = np.linalg.norm(landmarks[near] - landmarks[row], axis=2).mean(axis=1)
        if (apart > _SAME_DISTANCE * np.minimum(sizes[near], sizes[row])).all():
            kept.append(row)
    return np.array(kept, np.int64)
