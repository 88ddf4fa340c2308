"""Draw docs/landmarks68.png: the 68 landmarks on the built-in face model, numbered.

python -m recipes.builtin.draw_landmarks
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.schemas.config import BUILTIN
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.rendering.exposure import exposure
from ddfa_batch.tasks.rendering.rasteriser import lambert

#: Where it goes.
PICTURE = Path(__file__).parent.parent.parent / "docs/landmarks68.png"
#: Side of the picture, pixels; how much finer the mesh is drawn; millimetres it is high, and the middle of the face.
SIDE, FINER, HIGH, MIDDLE = 720, 2, 170.0, (0.0, -32.0, 0.0)
PAPER, CLAY, LIGHT = (255, 255, 255), (206, 212, 224), np.array([-0.4, -0.55, 0.7])
DOT, INK = (40, 40, 200), (60, 20, 20)


def main() -> None:
    """Draw the picture."""
    model = load_morphable(find_bundle(BUILTIN, Path()))
    size = SIDE * FINER
    placed = ((model.mean - MIDDLE) * [1, -1, 1] * size / HIGH + [size / 2, size / 2, 0]).astype(np.float32)
    colours = exposure(model)[:, None] * np.array(CLAY, np.float32)
    drawn = lambert(np.full((size, size, 3), PAPER, np.uint8), placed, model.triangles, colours, LIGHT, 1.0)
    drawn = np.asarray(cv2.resize(drawn, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    for number, (x, y) in enumerate(placed[model.landmarks, :2] / FINER):
        cv2.circle(drawn, (round(float(x)), round(float(y))), 3, DOT, -1, cv2.LINE_AA)
        place = (round(float(x)) + 4, round(float(y)) - 4)
        cv2.putText(drawn, str(number), place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, INK, 1, cv2.LINE_AA)
    cv2.imwrite(str(PICTURE), drawn, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(PICTURE)


if __name__ == "__main__":
    main()
