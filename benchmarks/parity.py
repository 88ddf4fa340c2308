"""How near `process --detector faceboxes --refine 0` comes to the official code's answers.

    python benchmarks/parity.py FOLDER GOLDEN.npz [--model NAME-OR-FOLDER]

GOLDEN.npz holds what the official Python code answered on the photographs of FOLDER: name, box, landmarks68 (3×68), and
dense meshes of some faces. Printed: boxes matched at IoU > 0.99, extra boxes, and distances in pixels.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from ddfa_batch.commands.model_choice import default_models_folder
from ddfa_batch.pipeline.plan import RunRequest
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.config import DEFAULT_MAX_PIXELS, Execution, ProcessOptions
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.files.inputs import resolve_source


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    w, h = np.minimum(a[2:4], b[2:4]) - np.maximum(a[:2], b[:2])
    shared = max(float(w), 0.0) * max(float(h), 0.0)
    return shared / (float(np.prod(a[2:4] - a[:2]) + np.prod(b[2:4] - b[:2])) - shared)


def main() -> None:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("golden", type=Path)
    parser.add_argument("--model", default="3ddfa-v2-mb05")
    arguments = parser.parse_args()
    models = default_models_folder()
    bundle = find_bundle(arguments.model, models)
    theirs = dict(np.load(arguments.golden))
    options = ProcessOptions("faceboxes", 0.5, None, 0, 0, "none", DEFAULT_MAX_PIXELS, None, None)
    with tempfile.TemporaryDirectory() as out:
        source = resolve_source(arguments.folder, None)
        process(RunRequest("process", source, Path(out) / "run", options, bundle, None, None), Execution("local"))
        run = open_run(Path(out) / "run")
        ours = run.faces().to_pandas()
        matched = {
            i: row
            for i, name in enumerate(theirs["name"])
            for row in np.flatnonzero(ours.key == name)
            if iou(ours.box[row], theirs["box"][i]) > 0.99
        }
        landmarks = np.stack(ours.landmarks68.to_numpy()).reshape(-1, 68, 3)
        rows, faces = list(matched.values()), list(matched)
        error = np.linalg.norm(
            landmarks[rows, :, :2] - theirs["landmarks68"][faces].transpose(0, 2, 1)[..., :2], axis=2
        )
        dense, depth = [], []
        for name, index, mesh in zip(theirs["dense_name"], theirs["dense_face"], theirs["dense"], strict=True):
            (i,) = np.flatnonzero((theirs["name"] == name) & (theirs["face"] == index))
            found = run.vertices([ours.face_id[matched[int(i)]]])[0].T
            dense.append(np.abs(found[:2] - mesh[:2]).ravel())
            depth.append(np.ptp(found[2] - mesh[2]))
    print(f"boxes: {len(matched)} of {len(theirs['name'])} matched, {len(ours) - len(set(rows))} extra")
    print(
        f"landmarks: median {np.median(error):.6f} px, 99 % below {np.quantile(error, 0.99):.6f} px, "
        f"largest {error.max():.6f} px"
    )
    print(
        f"meshes: median {np.median(np.concatenate(dense)):.6f} px; z differs from theirs by a constant to within "
        f"{max(depth):.6f} px"
    )


if __name__ == "__main__":
    main()
