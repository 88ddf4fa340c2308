"""The morphable model in a first bundle, with an untrained net: `fit` and `synth-videos` need no other.

python -m recipes.builtin.first_bundle WORK [--faces 4000]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ddfa_batch.schemas.bundle import REGRESSOR, BundleManifest
from ddfa_batch.schemas.config import BUILTIN
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.schemas.parameters import N_POSE
from ddfa_batch.tasks.bundles.model_bundle import write_bundle
from ddfa_batch.tasks.files.landmark_files import read_landmarks
from ddfa_batch.tasks.fitting.prior import Prior
from ddfa_batch.tasks.training import architectures, export
from ddfa_batch.tasks.training.branches import INPUT_MEAN, INPUT_STD
from recipes.builtin.face_model.build import build
from recipes.builtin.face_model.expressions import expressions
from recipes.builtin.face_model.identities import measure_identities
from recipes.builtin.face_model.template import build_template
from recipes.builtin.terms import LICENCE, SIZE

#: Faces that identities are measured on.
N_MEASURED = 4000


def first_bundle(work: Path, n_faces: int) -> None:
    """Build the face model, its identities measured on so many faces of distilled.parquet, into WORK/builtin/first."""
    template = build_template()
    actions = expressions(template)
    rng = np.random.default_rng(0)
    labels = read_landmarks(work / "aflw" / "distilled.parquet")
    rows = rng.choice(len(labels.keys), min(n_faces, len(labels.keys)), replace=False)
    marks = template.landmarks
    measured = measure_identities(
        labels.landmarks[rows, :, :2], labels.weights[rows], template.vertices[marks], actions[:, marks]
    )
    model = build(measured, template)
    torch.manual_seed(0)
    net = architectures.build(architectures.Architecture(width=0.5, n_params=model.layout.size))
    manifest = untrained_manifest(model, measured.prior)
    write_bundle(work / "builtin" / "first", manifest, {REGRESSOR: export.to_onnx(net, SIZE)}, model)
    deviations = np.sqrt(np.square(measured.moves).sum(axis=2).mean(axis=1))
    print(
        f"{model.n_vertices:,} vertices, {len(model.triangles):,} triangles; 68 points of {len(rows):,} faces fitted "
        f"to {100 * measured.residual:.2f} % of their size; identity modes of {deviations.max():.1f} to "
        f"{deviations.min():.1f} mm"
    )


def untrained_manifest(model: MorphableModel, prior: Prior) -> BundleManifest:
    """A manifest whose whitening is the prior of the coefficients, and none of the pose."""
    return BundleManifest(
        name=BUILTIN,
        version="1",
        licence=LICENCE,
        provenance="Not trained yet.",
        n_shape=model.layout.n_shape,
        n_expression=model.layout.n_expression,
        input_size=SIZE,
        input_mean=INPUT_MEAN,
        input_std=INPUT_STD,
        param_mean=(*[0.0] * N_POSE, *prior.mean.tolist()),
        param_std=(*[1.0] * N_POSE, *prior.std.tolist()),
        topology=model.topology,
        default_detector=None,
    )


def main(words: Sequence[str] | None = None) -> None:
    """The step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--faces", type=int, default=N_MEASURED)
    arguments = parser.parse_args(words)
    first_bundle(arguments.work, arguments.faces)


if __name__ == "__main__":
    main()
