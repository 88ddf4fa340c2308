"""The face model in a first bundle, with an untrained net: `fit` and `synth-videos` need no other.

    python -m recipes.builtin.first_bundle MAKEHUMAN WORK [--distilled 900] [--human 450]

MAKEHUMAN is a checkout of MakeHuman, of whose base mesh and targets, which are CC0, every vertex and mode is made;
WORK/aflw holds the labels that say how strong the modes are: distilled.parquet, labels68.parquet, fit-all.
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
from ddfa_batch.tasks.fitting.prior import Prior
from ddfa_batch.tasks.training import architectures, export
from ddfa_batch.tasks.training.tensor_batch import INPUT_MEAN, INPUT_STD
from recipes.builtin.head_model.build import Amounts, build
from recipes.builtin.head_model.expressions import EXPRESSIONS
from recipes.builtin.head_model.faces import labelled_faces
from recipes.builtin.terms import LICENCE, SIZE

#: Faces that heads are measured on: with distilled labels, and with human ones.
N_DISTILLED, N_HUMAN = 900, 450


def first_bundle(checkout: Path, work: Path, n_distilled: int, n_human: int, amounts: Amounts) -> None:
    """Build the head model, its modes measured on so many faces, into WORK/builtin/first."""
    faces = labelled_faces(work / "aflw", n_distilled, n_human, np.random.default_rng(amounts.seed))
    built = build(checkout, faces, amounts)
    model = built.model
    torch.manual_seed(0)
    net = architectures.build(architectures.Architecture(width=0.5, n_params=model.layout.size))
    manifest = untrained_manifest(model, built.prior)
    write_bundle(work / "builtin" / "first", manifest, {REGRESSOR: export.to_onnx(net, SIZE)}, model)
    print(
        f"{model.n_vertices:,} vertices, {len(model.triangles):,} triangles; 68 points of {sum(map(len, faces)):,} "
        f"faces fitted to {100 * built.residual:.2f} % of their size; {len(model.basis)} modes hold "
        f"{built.identities_kept:.1%} of the heads' variance and {built.expressions_kept:.1%} of the expressions'"
    )


def untrained_manifest(model: MorphableModel, prior: Prior) -> BundleManifest:
    """A manifest whose whitening is the prior of the coefficients, and none of the pose."""
    return BundleManifest(
        name=BUILTIN,
        version="2",
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
        expression_names=tuple(EXPRESSIONS),
    )


def main(words: Sequence[str] | None = None) -> None:
    """The step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("makehuman", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--distilled", type=int, default=N_DISTILLED)
    parser.add_argument("--human", type=int, default=N_HUMAN)
    parser.add_argument("--heads", type=int, default=Amounts.heads)
    parser.add_argument("--rounds", type=int, default=Amounts.rounds)
    asked = parser.parse_args(words)
    amounts = Amounts(heads=asked.heads, rounds=asked.rounds)
    first_bundle(asked.makehuman, asked.work, asked.distilled, asked.human, amounts)


if __name__ == "__main__":
    main()
