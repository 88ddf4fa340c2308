"""Draw docs/picture.png: a head made of formulas, turned, with landmarks coloured by what the head hides.

    python docs/picture.py

Everything in it goes through the project's own code: the head is a morphable model, its pose is a parameter vector,
points and visibility are computed as in `process`.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks import pose
from ddfa_batch.tasks.reconstruct import PointBasis, points
from ddfa_batch.tasks.visibility import Occlusion, visible

TILE, YAWS, PITCHES = 260, (60.0, 30.0, 0.0, -30.0, -60.0), (0.0, -8.0, 0.0, 8.0, 0.0)
INK, SEEN, HIDDEN = (38, 34, 30), (90, 200, 70), (70, 70, 235)
#: Bumps on the ellipsoid: (across, down, width, height, how far out), angles in radians.
BUMPS = [
    (0.0, 0.12, 0.10, 0.30, 16), (0.0, 0.26, 0.15, 0.09, 15), (0.13, 0.29, 0.07, 0.06, 7), (-0.13, 0.29, 0.07, 0.06, 7),
    (0.32, -0.14, 0.17, 0.10, -11), (-0.32, -0.14, 0.17, 0.10, -11), (0.32, -0.15, 0.10, 0.06, 7),
    (-0.32, -0.15, 0.10, 0.06, 7), (0.30, -0.32, 0.25, 0.06, 6), (-0.30, -0.32, 0.25, 0.06, 6),
    (0.0, 0.50, 0.22, 0.045, 8), (0.0, 0.60, 0.19, 0.05, 9), (0.0, 0.55, 0.26, 0.02, -5),
    (0.0, 0.86, 0.24, 0.14, 10), (0.48, 0.18, 0.25, 0.22, 5), (-0.48, 0.18, 0.25, 0.22, 5),
]  # fmt: skip


def head(rows: int = 130, columns: int = 141) -> MorphableModel:
    """An ellipsoid with bumps for nose, brows, eyes, lips, chin and cheeks."""
    across, down = np.meshgrid(np.linspace(-1.65, 1.65, columns), np.linspace(-1.25, 1.15, rows))
    radius = np.zeros_like(across)
    for x0, y0, width, height, out in BUMPS:
        radius += out * np.exp(-(((across - x0) / width) ** 2) - ((down - y0) / height) ** 2)
    jaw = 1 - 0.22 * np.clip(down, 0, None) ** 1.5
    x = (74 + 0.6 * radius) * np.sin(across) * np.cos(0.85 * down) * jaw
    y = -104 * np.sin(down) * 0.98
    z = (84 + radius) * np.cos(across) * np.cos(0.75 * down) * (1 - 0.04 * down)
    mean = np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(np.float32)
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    triangles = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    return MorphableModel(
        mean=mean, basis=np.zeros((0, len(mean), 3), np.float32), n_shape=0, triangles=triangles.astype(np.int32),
        landmarks=nearest(across, down), topology="head of formulas", unit="millimetre",
    )  # fmt: skip


def nearest(across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """The vertices nearest to the places of the 68 points, in the order of the iBUG markup."""
    jaw = [(-1.35 + 2.7 * t, -0.1 + 1.05 * (1 - abs(2 * t - 1) ** 1.6)) for t in np.linspace(0, 1, 17)]
    brows = [(s * (0.58 - 0.12 * i), -0.31 - 0.05 * np.sin(i)) for s, r in ((-1, 1), (1, -1)) for i in range(5)[::r]]
    nose = [(0.0, y) for y in (-0.14, -0.03, 0.08, 0.2)] + [(x, 0.33) for x in (-0.14, -0.07, 0, 0.07, 0.14)]
    eyes = [(s * 0.32 + 0.12 * np.cos(t), -0.15 - 0.05 * np.sin(t)) for s in (-1, 1)
            for t in np.linspace(np.pi, -np.pi, 7)[:6]]  # fmt: skip
    mouth = [(0.24 * np.cos(t), 0.55 - 0.1 * np.sin(t)) for t in np.linspace(np.pi, -np.pi, 13)[:12]]
    lips = [(0.16 * np.cos(t), 0.55 - 0.04 * np.sin(t)) for t in np.linspace(np.pi, -np.pi, 9)[:8]]
    places = np.array([*jaw, *brows, *nose, *eyes, *mouth, *lips])
    grid = np.stack([across.ravel(), down.ravel()], axis=1)
    return np.argmin(((grid[None] - places[:, None]) ** 2).sum(axis=2), axis=1).astype(np.int32)


def shaded(mesh: np.ndarray, triangles: np.ndarray, size: int) -> np.ndarray:
    """Paint the triangles from back to front, lit from the upper left."""
    image = np.full((size, size, 3), INK, np.uint8)
    corners = mesh[triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    light = np.array([0.35, 0.45, -0.82])
    bright = 0.18 + 0.82 * np.clip(normal @ light, 0, 1)
    for i in np.argsort(corners[:, :, 2].mean(axis=1)):
        if normal[i, 2] < 0:
            colour = tuple(float(v) for v in np.array([205, 214, 226]) * bright[i])
            cv2.fillConvexPoly(image, np.round(corners[i, :, :2] * 16).astype(np.int32), colour, cv2.LINE_AA, 4)
    return image


def main() -> None:
    """Draw the picture."""
    model, scale, double = head(), 0.47, 2 * TILE
    occlusion = Occlusion.of(model)
    tiles = []
    for yaw, pitch in zip(YAWS, PITCHES, strict=True):
        R = pose.rotation_matrix(np.array([yaw]), np.array([pitch]), np.array([0.0]))[0]
        params = np.concatenate([scale * R, [[60], [62], [0]]], axis=1).reshape(1, 12).astype(np.float32)
        roi = np.array([[0.0, 0, double, double]])
        mesh = points(PointBasis.of(model), params, roi, 120)[0]
        around = points(PointBasis.of(model, occlusion.vertices), params, roi, 120)
        pixels = np.array([scale * double / 120], np.float32)
        landmarks = mesh[model.landmarks]
        seen = visible(occlusion, around, landmarks[None], pixels)[0]
        tile = shaded(mesh, model.triangles, double)
        for point, can_be_seen in zip(landmarks, seen, strict=True):
            centre = tuple(int(v) for v in np.round(point[:2]))
            cv2.circle(tile, centre, 5, SEEN if can_be_seen else HIDDEN, -1, cv2.LINE_AA)
        ((y, p, _),) = pose.angles(pose.rotation_and_scale(params.reshape(1, 3, 4))[0])
        words = f"yaw {y:+.0f}  pitch {p:+.0f}"
        cv2.putText(tile, words, (20, double - 24), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (200, 200, 200), 2, cv2.LINE_AA)
        tiles.append(cv2.resize(tile, (TILE, TILE), interpolation=cv2.INTER_AREA))
    cv2.imwrite(str(Path(__file__).with_name("picture.png")), np.hstack(tiles))


if __name__ == "__main__":
    main()
