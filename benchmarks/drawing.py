"""How many faces a second are drawn, by kind?

    python benchmarks/drawing.py RUN [--images 40]

RUN is a finished `ddfa-batch process` run, of photographs of 450×450 pixels for the figures in docs/pictures.md. One
process, one thread. By kind, medians over three rounds of faces per second of its core (CPU time, so that other work on
the machine counts little): (a) of drawing alone, from meshes and decoded pixels; (b) of all that a worker does: read,
decode, rebuild the mesh, draw, write as JPEG; (c) as PNG.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

import ddfa_batch
from ddfa_batch.pipeline.plan import PlanRow, read_shard
from ddfa_batch.pipeline.run_faces import FaceRows, RunRows
from ddfa_batch.schemas.config import DEFAULT_MAX_PIXELS, PICTURE_KINDS
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.files.images import decode
from ddfa_batch.tasks.files.input_reader import read_input
from ddfa_batch.tasks.files.picture_files import encoded
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, points
from ddfa_batch.tasks.rendering.face_pictures import KINDS, textured_mesh
from ddfa_batch.tasks.rendering.pictured_faces import PicturedFaces
from ddfa_batch.tasks.rendering.topology import Topology

ROUNDS = 3
#: What is drawn, by its name: every kind, and meshes with their texture.
DRAWN = {**{kind: KINDS[kind] for kind in PICTURE_KINDS}, "textured": textured_mesh}


def per_second(n: int, work: Callable[[], object]) -> float:
    """How often a second of the core, of n at a time; the first call is not counted."""
    work()
    spent = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return n / float(np.median(spent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=40)
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    run = ddfa_batch.open(asked.run)
    size = run.bundle.manifest.input_size
    basis, topology = PointBasis.of(load_morphable(run.bundle)), Topology.of(load_morphable(run.bundle))
    rows, planned = RunRows(run.run), [row for s in range(run.run.n_shards) for row in read_shard(asked.run, s)]

    def pictured(faces: FaceRows) -> PicturedFaces:
        meshes = points(basis, faces.params, faces.roi, size)
        return PicturedFaces(meshes, faces.landmarks, faces.visible, faces.rotation, faces.roi, faces.track)

    found: list[tuple[PlanRow, FaceRows]] = []
    for row in planned:
        faces = rows.faces(row.image_id).of_image(row.image_id)
        if len(faces) and len(found) < asked.images:
            found.append((row, faces))
    n = sum(len(faces) for _, faces in found)
    ready = [(decode(read_input(run.run.root, row.item), DEFAULT_MAX_PIXELS), pictured(faces)) for row, faces in found]
    pixels = np.median([np.sqrt(image.shape[0] * image.shape[1]) for image, _ in ready])
    heights = np.median([float(np.ptp(mesh[:, 1])) for _, faces in ready for mesh in faces.meshes])
    print(f"{n} faces in {len(ready)} photographs, {pixels:.0f} pixels a side, meshes {heights:.0f} pixels high")
    print(f"{'kind':10} {'drawn':>7} {'to JPEG':>8} {'to PNG':>7}   faces a second")

    def whole(kind: str, form: str) -> None:
        for row, faces in found:
            image = decode(read_input(run.run.root, row.item), DEFAULT_MAX_PIXELS)
            encoded(DRAWN[kind](image, pictured(faces), topology), form)

    for kind, draw in DRAWN.items():
        if kind == "uv" and topology.uv is None:
            continue
        alone = per_second(n, lambda draw=draw: [draw(image, faces, topology) for image, faces in ready])
        jpeg, png = (per_second(n, lambda kind=kind, form=form: whole(kind, form)) for form in ("jpeg", "png"))
        print(f"{kind:10} {alone:7.0f} {jpeg:8.0f} {png:7.0f}")


if __name__ == "__main__":
    main()
