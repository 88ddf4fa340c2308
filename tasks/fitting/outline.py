"""Labels of the 2-D markup that lie on a face's outline in the picture instead of on its jaw."""

from __future__ import annotations

import numpy as np

from ddfa_batch.schemas.arrays import F64, Bools
from ddfa_batch.schemas.morphable import N_LANDMARKS

#: Points of the jaw among the 68, from ear to ear; point i mirrors point 16 − i.
_JAW = slice(0, 17)
#: Yaw beyond which the far side of the jaw is labelled at the face's outline, radians.
_FAR_TURN = np.radians(15.0)


def far_jaw(landmarks: F64, n_labels: int) -> Bools:
    """Which labels (n, n_labels) are of the jaw's far side, of posed landmarks (n, 68, 3), z towards the viewer.

    A jaw point is on the far side where it lies behind its mirror image by more than the sine of 15° of their distance.
    Of other markups than the 68 points none is.
    """
    far = np.zeros((len(landmarks), n_labels), np.bool_)
    if n_labels == N_LANDMARKS:
        jaw = landmarks[:, _JAW]
        across = jaw - jaw[:, ::-1]
        far[:, _JAW] = across[..., 2] < -np.sin(_FAR_TURN) * np.linalg.norm(across, axis=2) - 1e-9
    return far
