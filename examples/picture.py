"""Draw docs/picture.png: the portraits inside PyPI packages as the built-in model sees them, and their meshes turned.

    pip install scikit-image
    python examples/picture.py

Everything in it is `process`'s own: the parameters, landmarks, visibility and meshes are those of a run with no option
but --model's default.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from packaged_portraits import PORTRAITS, portrait_path

import ddfa_batch
from ddfa_batch.pipeline.plan import RunRequest
from ddfa_batch.pipeline.process import process
from ddfa_batch.schemas.config import BUILTIN, DEFAULT_MAX_PIXELS, Execution, ProcessOptions
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.files.inputs import resolve_source
from ddfa_batch.tasks.geometry import pose
from ddfa_batch.tasks.rendering.overlay import overlay
from ddfa_batch.tasks.rendering.rasteriser import lambert

#: Side of a tile, space between tiles, and how many times as large all is drawn before it is scaled down.
TILE, GAP, FINER = 240, 8, 2
PICTURE = Path(__file__).resolve().parent.parent / "docs/picture.png"
#: What a tile shows around the face's roi, as a share of its side.
MARGIN = 0.12
#: Degrees of yaw and pitch the meshes are turned by.
TURNS = [(-38.0, 4.0), (62.0, -4.0)]
PAPER, CLAY, LIGHT = (28, 26, 24), (216, 208, 200), (-0.45, -0.6, 0.65)


def processed(folder: Path) -> ddfa_batch.Results:
    """The run of the portraits."""
    (folder / "in").mkdir()
    for portrait in PORTRAITS:
        shutil.copy(portrait_path(portrait), folder / "in")
    bundle = find_bundle(BUILTIN, folder)
    name, spec_ = bundle.detector(None)
    options = ProcessOptions(name, spec_.face_threshold, None, 1, 1, "none", DEFAULT_MAX_PIXELS, None, None)
    source = resolve_source(folder / "in", None)
    process(RunRequest("process", source, folder / "out", options, bundle, None, None), Execution("in-process"))
    return ddfa_batch.open(folder / "out")


def framed(roi: list[float], image: np.ndarray) -> tuple[int, int, int]:
    """The square around a roi, x, y and side in whole pixels, moved into the image."""
    side = min(round((roi[2] - roi[0]) * (1 + 2 * MARGIN)), *image.shape[:2])
    x, y = (round((low + high - side) / 2) for low, high in ((roi[0], roi[2]), (roi[1], roi[3])))
    return min(max(x, 0), image.shape[1] - side), min(max(y, 0), image.shape[0] - side), side


def photograph(run: ddfa_batch.Results, face: dict[str, Any], image: np.ndarray) -> np.ndarray:
    """The face with mesh and landmarks drawn over it (TILE, TILE, 3)."""
    x, y, side = framed(face["roi"], image)
    landmarks = np.array(face["landmarks68"], np.float32).reshape(1, 68, 3) - np.array([x, y, 0], np.float32)
    meshes = run.vertices([face["face_id"]]) - np.array([x, y, 0], np.float32)
    seen = np.array(face["landmarks68_visible"]).reshape(1, 68)
    drawn = overlay(image[y : y + side, x : x + side], meshes, run.triangles, landmarks, seen, TILE / side)
    return cv2.resize(drawn, (TILE, TILE))


def clay(run: ddfa_batch.Results, face: dict[str, Any], yaw: float, pitch: float) -> np.ndarray:
    """The face's mesh alone, turned from where it looks in the photograph (TILE, TILE, 3)."""
    mesh = run.vertices([face["face_id"]])[0].astype(np.float64)
    mesh -= (mesh.min(axis=0) + mesh.max(axis=0)) / 2
    # y points down in pictures and up in the model
    turn = pose.rotation_matrix(np.array([yaw]), np.array([pitch]), np.array([0.0]))[0]
    mesh = mesh * [1, -1, 1] @ turn.T * [1, -1, 1]
    size = TILE * FINER
    mesh *= 0.82 * size / np.ptp(mesh[:, 1])
    mesh += [size / 2 - (mesh[:, 0].min() + mesh[:, 0].max()) / 2, size / 2, 0]
    paper = np.full((size, size, 3), PAPER, np.uint8)
    drawn = lambert(paper, mesh.astype(np.float32), run.triangles, CLAY, LIGHT, 1.0)
    return cv2.resize(drawn, (TILE, TILE), interpolation=cv2.INTER_AREA)


def main() -> None:
    """Draw the picture."""
    with tempfile.TemporaryDirectory() as folder:
        run = processed(Path(folder))
        tiles = []
        for face in run.faces().to_pylist():
            image = cv2.imread(str(Path(folder) / "in" / face["key"]))
            tiles += [photograph(run, face, image), *(clay(run, face, *turn) for turn in TURNS)]
    tiles = [cv2.copyMakeBorder(tile, GAP, GAP, GAP, 0, cv2.BORDER_CONSTANT, value=PAPER) for tile in tiles]
    picture = cv2.copyMakeBorder(np.hstack(tiles), 0, 0, 0, GAP, cv2.BORDER_CONSTANT, value=PAPER)
    cv2.imwrite(str(PICTURE), picture)


if __name__ == "__main__":
    main()
