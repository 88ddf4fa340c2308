"""The public-domain portraits inside PyPI packages, and where the parts of their faces are, as a person marked them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from packaged_portraits import portrait_path

#: Rows of the 68 points whose mean stands for a part of the face; left is the picture's left.
PARTS = {"left eye": range(36, 42), "right eye": range(42, 48), "nose": [30], "mouth": range(48, 68), "chin": [8]}
#: Positions in pixels, in the order of PARTS.
ASTRONAUT = np.array([(204, 101), (245, 103), (223, 127), (222, 145), (221, 177)], np.float64)
HOPPER = np.array([(224, 192), (304, 187), (269, 233), (269, 274), (271, 332)], np.float64)
#: How far off a part may be, as a share of the distance between the eyes.
_NEAR = 0.25


def astronaut() -> Path:
    """skimage's, 512×512."""
    return portrait_path("astronaut")


def hopper() -> Path:
    """matplotlib's, 512×600."""
    return portrait_path("grace_hopper")


def mirrored(target: Path, zoom: float) -> np.ndarray:
    """Write hopper, mirrored and at another size, and give where the parts of her face are then."""
    image = cv2.imread(str(hopper()))
    cv2.imwrite(str(target), cv2.resize(image[:, ::-1], None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA))
    parts = HOPPER[[1, 0, 2, 3, 4]]
    return (np.stack([image.shape[1] - 1 - parts[:, 0], parts[:, 1]], axis=1) + 0.5) * zoom - 0.5


def leaning(target: Path, degrees: float) -> np.ndarray:
    """Write hopper, leaning to the left by so many degrees, black around her, and give where her parts are then."""
    image = cv2.imread(str(hopper()))
    height, width = image.shape[:2]
    side = int(np.hypot(height, width))
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    matrix[:, 2] += (side - np.array([width, height])) / 2
    cv2.imwrite(str(target), cv2.warpAffine(image, matrix, (side, side)))
    return np.asarray(HOPPER @ matrix[:, :2].T + matrix[:, 2])


def strays(landmarks: np.ndarray, parts: np.ndarray) -> list[str]:
    """Parts of a face which landmarks (68, 2 or 3) do not put where they are."""
    allowed = _NEAR * float(np.linalg.norm(parts[1] - parts[0]))
    found = [np.mean([landmarks[row, :2] for row in rows], axis=0) for rows in PARTS.values()]
    near = [bool(np.linalg.norm(there - part) <= allowed) for there, part in zip(found, parts, strict=True)]
    return [name for name, is_near in zip(PARTS, near, strict=True) if not is_near]
