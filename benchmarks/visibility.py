"""How often `landmarks68_visible` agrees with an exact test of every landmark against every triangle.

    python benchmarks/visibility.py RUN [--faces 100]

RUN is a finished `ddfa-batch process` run. A landmark is exactly visible if its surface faces the viewer and no
triangle of the fitted mesh lies before it, by more than a sixtieth of the mean face.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ddfa_batch.pipeline.results import open_run
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import load_bundle
from ddfa_batch.tasks.geometry.visibility import Occlusion


def exactly_visible(mesh: np.ndarray, triangles: np.ndarray, landmarks: np.ndarray, margin: float) -> np.ndarray:
    """The slow and obvious way, (68,)."""
    seen = np.ones(len(landmarks), bool)
    a, b, c = (mesh[triangles[:, i]] for i in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    for i, p in enumerate(mesh[landmarks]):
        with np.errstate(divide="ignore", invalid="ignore"):
            u = ((b[:, 0] - p[0]) * (c[:, 1] - p[1]) - (b[:, 1] - p[1]) * (c[:, 0] - p[0])) / area
            v = ((c[:, 0] - p[0]) * (a[:, 1] - p[1]) - (c[:, 1] - p[1]) * (a[:, 0] - p[0])) / area
            before = u * a[:, 2] + v * b[:, 2] + (1 - u - v) * c[:, 2] > p[2] + margin
        own = (triangles == landmarks[i]).any(axis=1)
        hidden = (u >= 0) & (v >= 0) & (u + v <= 1) & before & ~own
        seen[i] = area[own].sum() < 0 and not hidden.any()
    return seen


def main() -> None:
    """Compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--faces", type=int, default=100)
    arguments = parser.parse_args()
    run = open_run(arguments.run)
    model = load_morphable(load_bundle(Path(run.run.model.folder)))
    faces = run.faces(columns=["face_id", "scale", "landmarks68_visible"]).to_pylist()
    chosen = [faces[i] for i in np.linspace(0, len(faces) - 1, min(arguments.faces, len(faces))).astype(int)]
    margin = float(np.ptp(model.mean, axis=0).max()) / 60
    agree = [
        exactly_visible(run.vertices([f["face_id"]])[0], model.triangles, model.landmarks, margin * f["scale"])
        == np.array(f["landmarks68_visible"])
        for f in chosen
    ]
    n = len(Occlusion.of(model).occluders)
    print(
        f"{len(chosen)} faces: {np.mean(agree):.1%} of the landmarks agree, with {n:,} of {model.n_vertices:,} vertices"
    )


if __name__ == "__main__":
    main()
