"""The smoothed columns of followed faces: landmarks, angles and parameters along each track."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ddfa_batch.pipeline.plan import Run
from ddfa_batch.schemas.arrays import F32, F64, I64, Floats
from ddfa_batch.schemas.bundle import BundleManifest
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.schemas.tables import matrix
from ddfa_batch.tasks.bundles.model_bundle import load_bundle, recorded_folder
from ddfa_batch.tasks.geometry import smoothing
from ddfa_batch.tasks.geometry.reconstruct import crop_pose, image_pose

_ANGLES = ("yaw", "pitch", "roll")
#: The columns of faces that smoothing needs.
NEEDED = ["landmarks68", *_ANGLES, "params", "roi", "scale", "face_size"]


@dataclass(frozen=True)
class Smoother:
    """Smooths the faces of a run's model."""

    #: Layout, size of crops, and how parameters spread.
    manifest: BundleManifest

    @staticmethod
    def of(run: Run) -> Smoother:
        """The smoother of a run; raises `BundleError` where its model is gone."""
        return Smoother(load_bundle(recorded_folder(run.model.folder, run.model.digest)).manifest)

    def smoothed(self, tracks: I64, places: I64, times: F64, faces: pa.Table) -> dict[str, Any]:
        """The smoothed columns (N, …) of faces (N,) of a video; places: of their frames among those taken."""
        n, n_params = len(tracks), self.manifest.layout.size
        out: dict[str, Any] = {
            "landmarks68_smooth": np.zeros((n, 3 * N_LANDMARKS), np.float32),
            **{f"{name}_smooth": np.zeros(n, np.float32) for name in _ANGLES},
            "params_smooth": np.zeros((n, n_params), np.float32),
        }
        order = np.lexsort((places, tracks))
        for rows in np.split(order, np.flatnonzero(np.diff(tracks[order])) + 1):
            for name, values in self._of_track(places[rows], times[rows], faces.take(rows)).items():
                out[name][rows] = values
        return out

    def _of_track(self, places: I64, times: F64, faces: pa.Table) -> dict[str, Any]:
        size = faces["face_size"].to_numpy()
        landmarks = matrix(faces["landmarks68"]).reshape(-1, N_LANDMARKS, 3)
        smooth = smoothing.smooth_track(places, times, landmarks, smoothing.LANDMARKS, size)
        angles = np.stack([faces[name].to_numpy() for name in _ANGLES], axis=1).astype(np.float64)
        turned = smooth_angles(places, times, angles)
        return {
            "landmarks68_smooth": smooth.reshape(len(places), -1),
            **{f"{name}_smooth": turned[:, i] for i, name in enumerate(_ANGLES)},
            "params_smooth": self._params(places, times, faces),
        }

    def _params(self, places: I64, times: F64, faces: pa.Table) -> F32:
        """Parameters in the frames of the same rois: T is smoothed in the picture, for the rois move."""
        params, rois = matrix(faces["params"]), matrix(faces["roi"])
        manifest, crop_size = self.manifest, self.manifest.input_size
        T = image_pose(manifest.layout.pose(params), rois, crop_size)
        scale, size = faces["scale"].to_numpy(), faces["face_size"].to_numpy()
        T[:, :, :3] = smoothing.smooth_track(places, times, T[:, :, :3], smoothing.LANDMARKS, scale)
        T[:, :, 3] = smoothing.smooth_track(places, times, T[:, None, :, 3], smoothing.LANDMARKS, size)[:, 0]
        spread = np.asarray(manifest.param_std, np.float64)[N_POSE:]
        spread = np.where(spread > 0, spread, 1.0)
        whitened = (params[:, N_POSE:] / spread)[:, :, None]
        shape = smoothing.smooth_track(places, times, whitened, smoothing.PARAMETERS)[:, :, 0] * spread
        pose = crop_pose(T, rois, crop_size).reshape(-1, N_POSE)
        return np.concatenate([pose, shape], axis=1).astype(np.float32)


def smooth_angles(places: I64, times: F64, angles: Floats) -> F64:
    """Angles (T, K) in degrees smoothed without a jump at ±180°."""
    through = np.unwrap(angles, period=360.0, axis=0)
    smooth = smoothing.smooth_track(places, times, through[:, :, None], smoothing.ANGLES)[:, :, 0]
    return np.asarray((smooth + 180.0) % 360.0 - 180.0)
