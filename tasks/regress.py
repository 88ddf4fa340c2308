"""Crops to parameters: the network's pass, its refinement, and the arrays in between."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort

from ddfa_batch.schemas.arrays import F32, U8, check_shape
from ddfa_batch.schemas.bundle import BundleManifest

#: Crops of one forward pass. More gains nothing on one CPU thread (measured flat to 16, slower at 64).
_BATCH = 8


class Regressor:
    """A bundle's network with its input normalisation and the undoing of its output's whitening."""

    def __init__(self, session: ort.InferenceSession, manifest: BundleManifest) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name
        self.size = manifest.input_size
        self._shift, self._factor = np.float32(manifest.input_mean), np.float32(1 / manifest.input_std)
        self._mean = np.array(manifest.param_mean, np.float32)
        self._std = np.array(manifest.param_std, np.float32)

    def __call__(self, crops: U8) -> F32:
        """Parameters (N, P), de-normalised (p·σ + μ; paper, section 2.1), of BGR crops (N, size, size, 3)."""
        check_shape("crops", crops, None, self.size, self.size, 3)
        parts = []
        for start in range(0, crops.shape[0], _BATCH):
            planes = crops[start : start + _BATCH].transpose(0, 3, 1, 2).astype(np.float32, order="C")
            planes -= self._shift
            planes *= self._factor
            (whitened,) = self._session.run(None, {self._input: planes})
            parts.append(whitened * self._std + self._mean)
        if not parts:
            return np.zeros((0, self._mean.size), np.float32)
        return np.concatenate(parts)
