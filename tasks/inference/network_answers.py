"""What a network answers, or a sentence where it cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from ddfa_batch.schemas.arrays import F32
from ddfa_batch.schemas.errors import ImageError


def answers(session: ort.InferenceSession, outputs: Sequence[str], inputs: Mapping[str, F32]) -> list[Any]:
    """The outputs that are named; raises `ImageError` where the network breaks off, as one does that was altered."""
    try:
        return list(session.run(outputs, inputs))
    except Exception as fault:  # onnxruntime's own exceptions share no base class
        reason = (str(fault).splitlines() or [type(fault).__name__])[0][:200]
        raise ImageError("failed", f"A network of the model cannot be run ({reason}).") from None


def sound_parameters(params: F32) -> F32:
    """Parameters (N, P) as they are; raises `ImageError` where numbers are not finite, or too large to be a pose."""
    if not (np.abs(params) < _LARGEST).all():  # not: so that NaN counts
        raise ImageError("failed", "The regressor gave numbers that are not finite, or beyond any face.")
    return params


#: No parameter is larger: squares and products of such numbers are still finite in single precision.
_LARGEST = np.float32(1e9)
