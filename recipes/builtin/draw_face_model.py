"""Draw docs/face_model.png: the built-in face model from several sides, its expressions, and faces drawn at random.

python -m recipes.builtin.draw_face_model [BUNDLE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.schemas.config import BUILTIN
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.geometry import pose
from ddfa_batch.tasks.rendering.rasteriser import lambert
from recipes.builtin.face_model.design import EXPRESSIONS

#: Where it goes.
PICTURE = Path(__file__).parent.parent.parent / "docs/face_model.png"
#: Side of a tile, pixels; how much finer it is drawn; tiles in a row.
TILE, FINER, COLUMNS = 210, 3, 5
PAPER, CLAY, LIGHT, INK = (28, 26, 24), (206, 212, 224), np.array([-0.4, -0.55, 0.7]), (214, 214, 214)
#: Millimetres a tile is high, and the middle of the face.
HIGH, MIDDLE = 232.0, (0.0, -22.0, -45.0)
TURNS = [("", -90, 0), ("", -45, 0), ("neutral", 0, 0), ("", 35, -22), ("", 0, 32)]
N_RANDOM, SPREAD = 5, 0.8


def tile(vertices: np.ndarray, triangles: np.ndarray, yaw: float, pitch: float, caption: str) -> np.ndarray:
    """A mesh (V, 3) in mm, turned, in clay (TILE, TILE, 3)."""
    turn = pose.rotation_matrix(np.array([float(yaw)]), np.array([float(pitch)]), np.array([0.0]))[0]
    size = TILE * FINER
    placed = ((vertices - MIDDLE) @ turn.T * [1, -1, 1] * size / HIGH + [size / 2, size / 2, 0]).astype(np.float32)
    drawn = lambert(np.full((size, size, 3), PAPER, np.uint8), placed, triangles, CLAY, LIGHT, 1.0)
    drawn = np.asarray(cv2.resize(drawn, (TILE, TILE), interpolation=cv2.INTER_AREA), np.uint8)
    cv2.putText(drawn, caption, (6, TILE - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)
    return drawn


def main() -> None:
    """Draw the picture."""
    bundle = find_bundle(sys.argv[1] if len(sys.argv) > 1 else BUILTIN, Path())
    model = load_morphable(bundle)
    neutral, identities, actions = model.mean, model.basis[: model.n_shape], model.basis[model.n_shape :]
    tiles = [tile(neutral, model.triangles, yaw, pitch, caption) for caption, yaw, pitch in TURNS]
    for name, action in zip(EXPRESSIONS, actions, strict=True):
        tiles.append(tile(neutral + action, model.triangles, -20, 0, name))
    rng = np.random.default_rng(4)
    mean = np.array(bundle.manifest.param_mean[12 : 12 + model.n_shape])
    std = np.array(bundle.manifest.param_std[12 : 12 + model.n_shape])
    for _ in range(N_RANDOM):
        alpha = mean + SPREAD * std * rng.normal(size=len(identities))
        face = neutral + np.tensordot(alpha, identities, axes=1)
        tiles.append(tile(face, model.triangles, -28, 0, "at random"))
    rows = [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
    cv2.imwrite(str(PICTURE), np.vstack(rows))


if __name__ == "__main__":
    main()
