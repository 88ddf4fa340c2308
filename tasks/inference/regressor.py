"""Crops to parameters: the network's pass, what it says of whether they are faces, and the arrays in between."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort

from ddfa_batch.schemas.arrays import F32, F64, U8, check_shape
from ddfa_batch.schemas.bundle import BundleManifest
from ddfa_batch.schemas.errors import ImageError
from ddfa_batch.tasks.inference.network_answers import answers, sound_parameters

#: Crops of one forward pass. More gains nothing on one CPU thread (measured flat to 16, slower at 64).
_BATCH = 8
#: Names of a network's outputs: whitened parameters (B, P), and log odds (B, 1) of a face where it has a say in that.
PARAMS, FACE = "params", "face"
#: Scores nearer to 0 or 1 count as this far from it, and odds beyond as these: a network may be certain.
_CERTAIN, _MAX_ODDS = 1e-6, 60.0


class Regressor:
    """A bundle's network with its input normalisation and the undoing of its output's whitening.

    Raises `ImageError` where the network answers with numbers that are not finite.
    """

    def __init__(self, session: ort.InferenceSession, manifest: BundleManifest) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name
        self.size, self.layout = manifest.input_size, manifest.layout
        self._shift, self._factor = np.float32(manifest.input_mean), np.float32(1 / manifest.input_std)
        self._mean = np.array(manifest.param_mean, np.float32)
        self._std = np.array(manifest.param_std, np.float32)
        names = [output.name for output in session.get_outputs()]
        self._params = next((name for name in names if name != FACE), PARAMS)
        self.tells_faces = FACE in names

    def __call__(self, crops: U8) -> F32:
        """Parameters (N, P), de-normalised (p·σ + μ; paper, section 2.1), of BGR crops (N, size, size, 3)."""
        (whitened,) = self._answers(crops, [self._params])
        return self._params_of(whitened)

    def with_faces(self, crops: U8) -> tuple[F32, F32]:
        """Parameters (N, P) as above, and the network's log odds (N,) that a crop shows a face; it must tell them."""
        whitened, face = self._answers(crops, [self._params, FACE])
        return self._params_of(whitened), face[:, 0]

    def _params_of(self, whitened: F32) -> F32:
        if whitened.shape[1:] != self._mean.shape:
            raise ImageError("failed", f"The regressor gave numbers of the shape {whitened.shape}.")
        with np.errstate(over="ignore"):
            return sound_parameters(np.asarray(whitened * self._std + self._mean))

    def _answers(self, crops: U8, names: list[str]) -> list[F32]:
        check_shape("crops", crops, None, self.size, self.size, 3)
        parts = []
        for start in range(0, crops.shape[0], _BATCH):
            planes = crops[start : start + _BATCH].transpose(0, 3, 1, 2).astype(np.float32, order="C")
            planes -= self._shift
            planes *= self._factor
            parts.append(answers(self._session, names, {self._input: planes}))
        if not parts:
            return [np.zeros((0, 1 if name == FACE else self._mean.size), np.float32) for name in names]
        columns = parts[0] if len(parts) == 1 else [np.concatenate(column) for column in zip(*parts, strict=True)]
        if not all(np.isfinite(column).all() for column in columns):
            raise ImageError("failed", "The regressor gave numbers that are not finite.")
        return columns


def combined_scores(scores: F32, face: F32, detector_weight: float) -> F32:
    """Scores (N,) of a detector together with the regressor's log odds (N,): σ(weight · logit(score) + face)."""
    odds = detector_weight * log_odds(scores) + face
    return np.asarray(1 / (1 + np.exp(-np.minimum(np.maximum(odds, -_MAX_ODDS), _MAX_ODDS))), np.float32)


def log_odds(scores: F32) -> F64:
    """logit(score) (N,), finite also where a score is 0 or 1."""
    certain = np.minimum(np.maximum(scores.astype(np.float64), _CERTAIN), 1 - _CERTAIN)
    return np.asarray(np.log(certain / (1 - certain)))
