"""A face under scaled orthographic projection while it is being fitted: s·R·S(β) + t, y up (paper, eq. 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfa_batch.schemas.arrays import F64, I64, Floats
from ddfa_batch.tasks.fitting.fit_basis import FitBasis
from ddfa_batch.tasks.geometry.pose import rotations

#: Longest rotation of one step in radians, and greatest change of the scale's logarithm: steps are first-order.
_LONGEST_STEP = 0.6


@dataclass(frozen=True)
class PosedFaces:
    """Pose and whitened coefficients of n faces."""

    #: (n, 3, 3), proper rotations.
    R: F64
    #: (n,), pixels per unit of the model.
    s: F64
    #: (n, D), pixels; D = 2 where no label speaks of depth.
    t: F64
    #: (n, K), standard normal under the prior.
    beta: F64

    def take(self, rows: I64) -> PosedFaces:
        """The faces of `rows`."""
        return PosedFaces(self.R[rows], self.s[rows], self.t[rows], self.beta[rows])

    def put(self, rows: I64, part: PosedFaces) -> PosedFaces:
        """These faces with `rows` replaced."""
        columns = []
        for whole, new in ((self.R, part.R), (self.s, part.s), (self.t, part.t), (self.beta, part.beta)):
            replaced = whole.copy()
            replaced[rows] = new
            columns.append(replaced)
        return PosedFaces(*columns)

    def camera(self) -> F64:
        """s·R, (n, 3, 3)."""
        return np.asarray(self.s[:, None, None] * self.R)

    def image_pose(self) -> F64:
        """T (n, 3, 4) in image pixels, y down; a depth no label speaks of is 0."""
        T = np.zeros((len(self.s), 3, 4))
        T[:, :, :3] = self.camera()
        T[:, : self.t.shape[1], 3] = self.t
        T[:, 1] *= -1
        return T

    def moved(self, pose_step: Floats) -> PosedFaces:
        """After a step (n, 4 + D) of the pose: rotation vector, log scale, translation; long ones are shortened."""
        omega = pose_step[:, :3]
        angle = np.linalg.norm(omega, axis=1)
        shrink = np.minimum(1.0, _LONGEST_STEP / np.maximum(angle, 1e-12))
        R = rotations(omega * shrink[:, None]) @ self.R
        s = self.s * np.exp(np.clip(pose_step[:, 3], -_LONGEST_STEP, _LONGEST_STEP))
        return PosedFaces(R, s, self.t + pose_step[:, 4:], self.beta)


def project(points: FitBasis, faces: PosedFaces, dims: int) -> F64:
    """s·R·S + t, (n, L, dims), y up; a depth no label speaks of has offset 0."""
    t = np.zeros((len(faces.s), dims))
    d = min(dims, faces.t.shape[1])
    t[:, :d] = faces.t[:, :d]
    return points.shape(faces.beta) @ faces.camera()[:, :dims].transpose(0, 2, 1) + t[:, None]


def pose_jacobian(turned: F64, dims: int) -> F64:
    """Derivatives (n, 3 + 1 + dims, L, dims) of s·R·S + t: turn about x, y, z; log scale; translation.

    turned (n, L, 3) = s·R·S. A turn ω multiplies R from the left: d = ω × (s·R·S).
    """
    n, length = turned.shape[:2]
    x, y, z = turned[..., 0], turned[..., 1], turned[..., 2]
    J = np.zeros((n, 4 + dims, length, dims))
    J[:, 0, :, 1] = -z
    J[:, 1, :, 0] = z
    J[:, 2, :, 0], J[:, 2, :, 1] = -y, x
    J[:, 3] = turned[..., :dims]
    if dims == 3:
        J[:, 0, :, 2], J[:, 1, :, 2] = y, -x
    for axis in range(dims):
        J[:, 4 + axis, :, axis] = 1
    return J
