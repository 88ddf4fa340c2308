"""Draw docs/picture.png: the portraits inside PyPI packages as the built-in model sees them, and their meshes turned.

    pip install scikit-image
    python examples/picture.py

Everything in it is `process`'s and `render`'s own: the parameters and landmarks are those of a run with no option but
--model's default, and the pictures those of `render --kind image --kind landmarks --kind mesh …`, and
`--texture`.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
from packaged_portraits import PORTRAITS, portrait_path

import ddfa_batch
from ddfa_batch.pipeline.plan import RunRequest
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.run_faces import FaceRows, RunRows
from ddfa_batch.schemas.config import BUILTIN, DEFAULT_MAX_PIXELS, Execution, ProcessOptions
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.files.inputs import resolve_source
from ddfa_batch.tasks.geometry import pose
from ddfa_batch.tasks.rendering.face_pictures import KINDS, at_size, textured_mesh
from ddfa_batch.tasks.rendering.pictured_faces import PicturedFaces
from ddfa_batch.tasks.rendering.topology import Topology

#: Side of a tile and space between tiles.
TILE, GAP = 200, 6
PICTURE = Path(__file__).resolve().parent.parent / "docs/picture.png"
#: What a tile shows around the face's roi, as a share of its side.
MARGIN = 0.12
#: The kinds that are shown, and the degrees of yaw and pitch the mesh alone is turned by.
SHOWN, TURN = ("image", "landmarks", "mesh", "textured", "normals", "pncc"), (52.0, 2.0)
DRAWN = {**KINDS, "textured": textured_mesh}
PAPER = (28, 26, 24)


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


def pictured(run: ddfa_batch.Results, faces: FaceRows) -> PicturedFaces:
    """A face as it is drawn."""
    meshes = run.vertices(faces.face_id.tolist())
    return PicturedFaces(meshes, faces.landmarks, faces.visible, faces.rotation, faces.roi, faces.track)


def photographs(face: PicturedFaces, image: np.ndarray, topology: Topology) -> list[np.ndarray]:
    """The face in all kinds that are shown, (TILE, TILE, 3) each."""
    x, y, side = framed(face.roi[0].tolist(), image)
    corner = np.array([x, y, 0], np.float32)
    moved = PicturedFaces(
        face.meshes - corner, face.landmarks - corner, face.visible, face.rotation, face.roi, face.track
    )
    part, moved = at_size(image[y : y + side, x : x + side], moved, TILE / side)
    return [cv2.resize(DRAWN[kind](part, moved, topology), (TILE, TILE)) for kind in SHOWN]


def turned(face: PicturedFaces, topology: Topology, yaw: float, pitch: float) -> np.ndarray:
    """The face's mesh alone, turned from where it looks in the photograph (TILE, TILE, 3)."""
    mesh = face.meshes[0].astype(np.float64)
    mesh -= (mesh.min(axis=0) + mesh.max(axis=0)) / 2
    # y points down in pictures and up in the model
    turn = pose.rotation_matrix(np.array([yaw]), np.array([pitch]), np.array([0.0]))[0]
    mesh = mesh * [1, -1, 1] @ turn.T * [1, -1, 1]
    mesh *= 0.82 * TILE / np.ptp(mesh[:, 1])
    mesh += [TILE / 2 - (mesh[:, 0].min() + mesh[:, 0].max()) / 2, TILE / 2, 0]
    alone = PicturedFaces(
        mesh[None].astype(np.float32), face.landmarks, face.visible, face.rotation, face.roi, face.track
    )
    return KINDS["mesh"](np.full((TILE, TILE, 3), PAPER, np.uint8), alone, topology)


def main() -> None:
    """Draw the picture."""
    strips = []
    with tempfile.TemporaryDirectory() as folder:
        run = processed(Path(folder))
        topology, rows = Topology.of(load_morphable(run.bundle)), RunRows(run.run)
        for key, image_id in zip(*run.images(["key", "image_id"]).to_pydict().values(), strict=True):
            face = pictured(run, rows.faces(image_id).of_image(image_id))
            tiles = photographs(face, cv2.imread(str(Path(folder) / "in" / key)), topology)
            tiles.append(turned(face, topology, *TURN))
            strips.append(np.hstack([cv2.copyMakeBorder(t, GAP, 0, GAP, 0, 0, value=PAPER) for t in tiles]))
    picture = cv2.copyMakeBorder(np.vstack(strips), 0, GAP, 0, GAP, cv2.BORDER_CONSTANT, value=PAPER)
    cv2.imwrite(str(PICTURE), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
