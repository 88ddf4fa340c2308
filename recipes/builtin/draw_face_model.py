"""Draw docs/face_model.png: the built-in face model from several sides, its expressions, and faces drawn at random.

python -m recipes.builtin.draw_face_model [BUNDLE]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.schemas.config import BUILTIN
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.geometry import pose
from ddfa_batch.tasks.rendering.exposure import exposure
from ddfa_batch.tasks.rendering.rasteriser import lambert

#: Where it goes.
PICTURE = Path(__file__).parent.parent.parent / "docs/face_model.png"
#: Side of a tile, pixels; how much finer it is drawn; tiles in a row.
TILE, FINER, COLUMNS = 160, 3, 6
PAPER, CLAY, LIGHT, INK = (28, 26, 24), (206, 212, 224), np.array([-0.4, -0.55, 0.7]), (214, 214, 214)
#: Millimetres a tile is high, and the middle of the face.
HIGH, MIDDLE = 262.0, (0.0, -24.0, -50.0)
TURNS = [("", -90, 0), ("", -45, 0), ("neutral", 0, 0), ("", 35, -22), ("", 0, 32), ("", 75, 0)]
N_RANDOM, SPREAD = 8, 0.8


@dataclass(frozen=True)
class Clay:
    """What all tiles share."""

    #: (T, 3).
    triangles: np.ndarray
    #: (V, 3), darker in cavities.
    colours: np.ndarray


def tile(vertices: np.ndarray, model: Clay, yaw: float, pitch: float, caption: str) -> np.ndarray:
    """A mesh (V, 3) in mm, turned, in clay (TILE, TILE, 3)."""
    turn = pose.rotation_matrix(np.array([float(yaw)]), np.array([float(pitch)]), np.array([0.0]))[0]
    size = TILE * FINER
    placed = ((vertices - MIDDLE) @ turn.T * [1, -1, 1] * size / HIGH + [size / 2, size / 2, 0]).astype(np.float32)
    drawn = lambert(np.full((size, size, 3), PAPER, np.uint8), placed, model.triangles, model.colours, LIGHT, 1.0)
    drawn = np.asarray(cv2.resize(drawn, (TILE, TILE), interpolation=cv2.INTER_AREA), np.uint8)
    cv2.putText(drawn, caption, (6, TILE - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)
    return drawn


def main() -> None:
    """Draw the picture."""
    bundle = find_bundle(sys.argv[1] if len(sys.argv) > 1 else BUILTIN, Path())
    model = load_morphable(bundle)
    clay = Clay(model.triangles, exposure(model)[:, None] * np.array(CLAY, np.float32))
    neutral, identities, actions = model.mean, model.basis[: model.n_shape], model.basis[model.n_shape :]
    tiles = [tile(neutral, clay, yaw, pitch, caption) for caption, yaw, pitch in TURNS]
    names = bundle.manifest.expression_names or [f"expression {i}" for i in range(len(actions))]
    for name, action in zip(names, actions, strict=True):
        tiles.append(tile(neutral + action, clay, -20, 0, name.replace("_", " ")))
    rng = np.random.default_rng(4)
    mean = np.array(bundle.manifest.param_mean[12 : 12 + model.n_shape])
    std = np.array(bundle.manifest.param_std[12 : 12 + model.n_shape])
    for _ in range(N_RANDOM):
        alpha = mean + SPREAD * std * rng.normal(size=len(identities))
        face = neutral + np.tensordot(alpha, identities, axes=1)
        tiles.append(tile(face, clay, -28, 0, "at random"))
    rows = [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
    cv2.imwrite(str(PICTURE), np.vstack(rows), [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
