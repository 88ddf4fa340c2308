"""What heads look like: small, upright, grey pictures, by which people are told apart where places alone do not."""

from __future__ import annotations

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F64, U8, Bools, Floats, check_shape
from ddfa_batch.tasks.geometry import crop
from ddfa_batch.tasks.inference.scene_cuts import correlation
from ddfa_batch.tasks.inference.track_matching import face_sides

#: Side of the pictures, pixels.
HEAD_SIZE = 24
#: Correlation of two pictures of one person: at a suspected cut (0.64 and more from frame to frame of quick films, 0.5
#: and less between persons), and after a gap, in which a head may have turned.
SAME_HEAD, SAME_HEAD_LATER = 0.55, 0.35
#: A face that comes back is no more than so many times larger or smaller than it was.
_SAME_SIZE = 1.6


def head_pictures(image: U8, landmarks: Floats, angles: F64) -> U8:
    """Heads (N, 24, 24) in grey, filled by the faces with landmarks (N, 68, 3) that lean by `angles` (N,)."""
    if not len(landmarks):
        return np.zeros((0, HEAD_SIZE, HEAD_SIZE), np.uint8)
    crops = crop.crops(image, crop.upright_rois(landmarks, angles), HEAD_SIZE, angles)
    return np.stack([np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8) for picture in crops])


def alike(a: U8, b: U8, least: float) -> bool:
    """Whether two heads correlate by more than `least`."""
    return correlation(a.astype(np.float32), b.astype(np.float32)) > least


def may_be_again(
    known: Floats, known_heads: U8, found: Floats, found_heads: U8, least: float = SAME_HEAD_LATER
) -> Bools:
    """Which faces found (M,) may be which of those that were lost (N,): (N, M), by landmarks' size and heads' looks.

    Heads have to correlate by more than `least`. A head without contrast is one of which nothing is known.
    """
    check_shape("known_heads", known_heads, len(known), HEAD_SIZE, HEAD_SIZE)
    check_shape("found_heads", found_heads, len(found), HEAD_SIZE, HEAD_SIZE)
    before, now = (np.maximum(face_sides(landmarks), 1e-6) for landmarks in (known, found))
    factor = now[None] / before[:, None]
    sized_alike = (factor < _SAME_SIZE) & (factor > 1 / _SAME_SIZE)
    looks = [[_unknown(a) or _unknown(b) or alike(a, b, least) for b in found_heads] for a in known_heads]
    return np.asarray(sized_alike & np.array(looks, bool).reshape(sized_alike.shape))


def _unknown(head: U8) -> bool:
    return int(head.min()) == int(head.max())
