"""Crops of what is no face, from which a backbone learns beside its parameters what a face is.

A regressor that has only seen faces answers everything; what it sees last then tells faces badly from what is none.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ddfa_batch.schemas.arrays import I64, U8
from ddfa_batch.schemas.config import DEFAULT_MAX_PIXELS
from ddfa_batch.schemas.errors import DdfaError, InputError
from ddfa_batch.schemas.morphable import N_LANDMARKS
from ddfa_batch.tasks.files import guarded_images, images
from ddfa_batch.tasks.training.clips import Clips

#: Distractors of a mini-batch, for each of its faces.
SHARE = 0.25
#: Of a mini-batch's number, so that distractors are drawn by a generator of their own.
_DRAWN = 1


def read(folder: Path, size: int, n_coefficients: int) -> Clips:
    """The pictures of a folder, made size × size, as clips of one frame without a label.

    Raises `InputError` for a folder that holds none, or a picture that cannot be read.
    """
    paths = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    if not paths:
        raise InputError(f"{folder} holds no pictures of what is no face; name a folder of crops.")
    return without_labels(np.stack([_square(path, size) for path in paths]), n_coefficients)


def _square(path: Path, size: int) -> U8:
    try:
        image = guarded_images.decode(images.read_bytes(path), DEFAULT_MAX_PIXELS)
    except DdfaError as fault:
        raise InputError(f"{path} cannot be used as a picture of no face: {fault}") from None
    how = cv2.INTER_AREA if max(image.shape[:2]) > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size, size), interpolation=how), np.uint8)


def without_labels(crops: U8, n_coefficients: int) -> Clips:
    """Crops (N, S, S, 3) as clips of one frame: the roi is all of the crop, no landmark counts."""
    n, side = crops.shape[:2]
    return Clips(
        names=[str(i) for i in range(n)],
        images=crops[:, None],
        poses=np.zeros((n, 2, 1, 3, 4)),
        coefficients=np.zeros((n, 2, n_coefficients)),
        rois=np.broadcast_to(np.array([0.0, 0.0, side, side]), (n, 2, 4)).copy(),
        landmarks=np.zeros((n, 2, 1, N_LANDMARKS, 2), np.float32),
        weights=np.zeros((n, 2, N_LANDMARKS), np.float32),
        pose_weights=np.ones(n),
    )


def rows(n: int, stills: int, seed: list[int]) -> I64:
    """Which of n distractors go with a mini-batch of so many stills, drawn from a seed."""
    return np.random.default_rng([*seed, _DRAWN]).integers(n, size=max(1, round(SHARE * stills)))


def face_loss(answer: Tensor, n_faces: int) -> Tensor:
    """Mean cross entropy of log odds (B,), of which the first n_faces are faces' and the others are not."""
    truth = torch.zeros_like(answer)
    truth[:n_faces] = 1
    return functional.binary_cross_entropy_with_logits(answer, truth)
