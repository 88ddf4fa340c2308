"""Parameters to points: the morphable model of eq. (1) and the projection of eqs. (3) and (5)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, F64, I32, Floats, check_shape
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.schemas.parameters import N_POSE, ParameterLayout
from ddfa_batch.tasks.geometry.pose import in_plane_angle
from ddfa_batch.tasks.geometry.similarity import plane_rotations

#: Faces of one matrix product. Always the same, padded with zeros, so that a face's vertices have the same bits
#: whatever stands beside it; and few enough that they do wherever in the block it stands: of 16, OpenBLAS's kernel for
#: Haswell and Zen rounds the first six otherwise than the rest. 8 take a tenth longer, where meshes are small a third.
BLOCK = 8


@dataclass(frozen=True)
class PointBasis:
    """Some vertices of a morphable model, laid out for one matrix product: [1, α] @ matrix = S."""

    #: (1 + K, n·3): the mean, then the basis rows, each as x, y, z of one vertex after the other, in `unit`.
    matrix: F32
    #: Where α stands in a parameter vector.
    layout: ParameterLayout
    #: Model units: a power of two, so nothing is rounded, that brings vertices to about 1. cv2.transform takes a matrix
    #: for diagonal whose other entries are all below 1.2e-7, as those of a frontal head in micrometres are.
    unit: float

    @property
    def n_points(self) -> int:
        """n, the number of vertices."""
        return int(self.matrix.shape[1]) // 3

    @staticmethod
    def of(model: MorphableModel, vertices: I32 | None = None) -> PointBasis:
        """The basis of `vertices` (indices), or of the whole model."""
        mean, basis = model.mean, model.basis
        if vertices is not None:
            mean, basis = mean[vertices], basis[:, vertices]
        rows = np.concatenate([mean[None], basis])
        unit = float(2.0 ** np.ceil(np.log2(max(float(np.abs(model.mean).max()), 1e-30))))
        matrix = np.ascontiguousarray(rows.reshape(rows.shape[0], -1) / np.float32(unit), np.float32)
        return PointBasis(matrix, model.layout, unit)


def image_pose(pose: Floats, rois: Floats, size: int) -> F64:
    """Carry T (N, 3, 4) from the crop's frame (size × size, y up) to image pixels (y down): (N, 3, 4).

    As upstream's `similar_transform`: x − 1, y → size − y, z − 1, then scale by roi side / size and shift by
    the roi's corner; z is scaled by the mean of both. Upstream then subtracts each face's least z, which
    makes depths incomparable between faces: here z is left as it is.
    """
    check_shape("pose", pose, None, 3, 4)
    check_shape("rois", rois, pose.shape[0], 4)
    T = np.array(pose, np.float64)
    roi = np.asarray(rois, np.float64)
    T[:, 1] *= -1
    T[:, :, 3] += np.array([-1.0, size, -1.0])
    sides = (roi[:, 2:] - roi[:, :2]) / size
    T[:, 0] *= sides[:, :1]
    T[:, 1] *= sides[:, 1:]
    T[:, 2] *= sides.mean(axis=1, keepdims=True)
    T[:, :2, 3] += roi[:, :2]
    return T


def crop_pose(pose: Floats, rois: Floats, size: int) -> F64:
    """T (N, 3, 4) in image pixels as the crop of rois (N, 4) sees it (size × size, y up).

    The inverse of `image_pose`.
    """
    check_shape("pose", pose, None, 3, 4)
    check_shape("rois", rois, pose.shape[0], 4)
    T = np.array(pose, np.float64)
    roi = np.asarray(rois, np.float64)
    sides = (roi[:, 2:] - roi[:, :2]) / size
    T[:, :2, 3] -= roi[:, :2]
    T[:, 0] /= sides[:, :1]
    T[:, 1] /= sides[:, 1:]
    T[:, 2] /= sides.mean(axis=1, keepdims=True)
    T[:, :, 3] -= np.array([-1.0, size, -1.0])
    T[:, 1] *= -1
    return T


def turned_pose(pose: Floats, angles: Floats, size: int) -> F64:
    """T (N, 3, 4) turned counter-clockwise as seen by angles (N,), radians, about the middle of the crop (size × size).

    It says of an upright crop what a network said of `crop.rotated_crop`: the exact inverse, in depth too.
    """
    check_shape("pose", pose, None, 3, 4)
    check_shape("angles", angles, pose.shape[0])
    T = np.array(pose, np.float64)
    # The middle of a crop's pixels, in the frame that `image_pose` carries to the image.
    middle = np.array([size / 2 + 1, size / 2])
    turns = plane_rotations(np.asarray(angles, np.float64))
    T[:, :2, 3] -= middle
    T[:, :2] = turns @ T[:, :2]
    T[:, :2, 3] += middle
    return T


def turned_params(params: Floats, angles: Floats, layout: ParameterLayout, size: int) -> Floats:
    """Parameters (N, P) with T turned by angles (N,), as `turned_pose`; rows whose angle is 0 stay bit for bit."""
    rows = np.flatnonzero(angles)
    if not len(rows):
        return params
    out = params.copy()
    out[rows, :N_POSE] = turned_pose(layout.pose(params[rows]), angles[rows], size).reshape(-1, N_POSE)
    return out


def upright_params(params: Floats, layout: ParameterLayout, size: int) -> Floats:
    """Parameters (N, P) as of the same crop turned so that each head stands upright."""
    return turned_params(params, -in_plane_angle(layout.pose(params)), layout, size)


def points(basis: PointBasis, params: Floats, rois: Floats, size: int) -> F32:
    """Vertices of `basis` in image pixels, (N, n, 3), for params (N, P) of crops of rois (N, 4).

    Blocks of `BLOCK` faces share one matrix product; a last, shorter block is filled up with zeros.
    """
    n_faces = params.shape[0]
    in_image = image_pose(basis.layout.pose(params), rois, size)
    in_image[:, :, :3] *= basis.unit
    T = in_image.astype(np.float32)
    coefficients = basis.layout.coefficients(params)
    out = np.empty((n_faces, basis.n_points, 3), np.float32)
    weights = np.zeros((BLOCK, basis.matrix.shape[0]), np.float32)
    weights[:, 0] = 1
    for start in range(0, n_faces, BLOCK):
        block = coefficients[start : start + BLOCK]
        weights[: len(block), 1:] = block
        shapes = (weights @ basis.matrix).reshape(BLOCK, 1, -1, 3)
        for row in range(len(block)):
            cv2.transform(shapes[row], T[start + row], out[start + row][None])
    return out
