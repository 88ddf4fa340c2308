"""The built-in model's own steps, from training data to the wheel's files; `make builtin` runs them in order.

    python benchmarks/builtin.py face-model WORK          the morphable model, in a first bundle with an untrained net
    python benchmarks/builtin.py transfer WORK FROM       a trained net's head, carried over to another face model
    python benchmarks/builtin.py assemble WORK DETECTOR   the bundle in models/builtin; DETECTOR holds fcos.onnx

WORK is what benchmarks/prepare.py, union.py and distil.py made. Between these steps stand `ddfa-batch fit`,
`synth-videos` and `train`: see the Makefile.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.bundle import REGRESSOR, BundleManifest, DetectorSpec
from ddfa_batch.tasks.landmark_files import read_landmarks
from ddfa_batch.tasks.models import load_bundle, load_morphable, write_bundle
from ddfa_batch.tasks.training import export, face_model, meta_joint, nets
from ddfa_batch.tasks.training.data import whitening

NAME = "builtin"
LICENCE = (
    "Code, face model and generator: MIT. Weights: trained on AFLW photographs, which are for research use only; "
    "use them for research."
)
PROVENANCE = (
    "Made by ddfa-batch (make builtin). Regressor: MobileNet x0.5 trained with meta-joint optimisation, landmark "
    "regression and short-video-synthesis on AFLW crops; labels: human landmarks together with the 68 points of "
    "3DDFA_V2's mb05. Face model: designed and measured, no vertex of another. Detector: trained from scratch. "
    "See CARD.md."
)
#: Faces that identities are measured on.
N_MEASURED = 4000


def face_model_step(work: Path) -> None:
    template = face_model.build_template()
    actions = face_model.expressions(template)
    rng = np.random.default_rng(0)
    labels = read_landmarks(work / "aflw" / "distilled.parquet")
    rows = rng.choice(len(labels.keys), min(N_MEASURED, len(labels.keys)), replace=False)
    marks = template.landmarks
    measured = face_model.measure_identities(
        labels.landmarks[rows, :, :2], labels.weights[rows], template.vertices[marks], actions[:, marks]
    )
    model = face_model.build(measured, template)
    torch.manual_seed(0)
    net = nets.build(nets.Architecture(width=0.5, n_params=model.layout.size))
    pose = np.zeros(12)
    manifest = BundleManifest(
        name=NAME, version="1", licence=LICENCE, provenance="Not trained yet.", n_shape=model.layout.n_shape,
        n_expression=model.layout.n_expression, input_size=120, input_mean=meta_joint.INPUT_MEAN,
        input_std=meta_joint.INPUT_STD, param_mean=(*pose.tolist(), *measured.prior.mean.tolist()),
        param_std=(*(pose + 1).tolist(), *measured.prior.std.tolist()), topology=model.topology, default_detector=None,
    )  # fmt: skip
    write_bundle(work / "builtin" / "first", manifest, {REGRESSOR: export.to_onnx(net, 120)}, model)
    deviations = np.sqrt(np.square(measured.moves).sum(axis=2).mean(axis=1))
    print(
        f"{model.n_vertices:,} vertices, {len(model.triangles):,} triangles; 68 points of {len(rows):,} faces fitted "
        f"to {100 * measured.residual:.2f} % of their size; identity modes of {deviations.max():.1f} to "
        f"{deviations.min():.1f} mm"
    )


def transfer_step(work: Path, source: Path) -> None:
    """Faces both face models were fitted to tell how one's parameters follow from the other's."""
    tables = [open_run(work / "aflw" / run).faces(columns=["key", "params"]) for run in ("fit-all", "fit-builtin")]
    by_key = [dict(zip(t["key"].to_pylist(), t["params"].to_pylist(), strict=True)) for t in tables]
    keys = sorted(by_key[0].keys() & by_key[1].keys())
    old, new = (np.array([params[key] for key in keys], np.float64) for params in by_key)
    training = meta_joint.load(source)
    z = (old - training.mean) / training.std
    mean, std = whitening(new)
    wanted = (new - mean) / std
    design = np.column_stack([z, np.ones(len(z))])
    ridge = 1e-2 * len(z) * np.eye(design.shape[1])
    ridge[-1, -1] = 0
    solved = np.linalg.solve(design.T @ design + ridge, design.T @ wanted)
    explained = 1 - np.square(wanted - design @ solved).mean(axis=0)
    head = training.net.fc_param
    weight, bias = head.weight.detach().double().numpy(), head.bias.detach().double().numpy()
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(solved[:-1].T @ weight))
        head.bias.copy_(torch.from_numpy(solved[:-1].T @ bias + solved[-1]))
    begun = meta_joint.Training(
        training.architecture, training.config, tuple(mean.tolist()), tuple(std.tolist()), training.net,
        training.optimiser,
    )  # fmt: skip
    meta_joint.save(begun, work / "builtin" / "start.pt")
    pose, shape, expression = (explained[part].mean() for part in (slice(12), slice(12, 52), slice(52, None)))
    print(
        f"{len(keys):,} faces; of the variance of pose {pose:.1%}, of shape {shape:.1%}, of expression "
        f"{expression:.1%} follows from the other's"
    )


def assemble_step(work: Path, detector: Path) -> None:
    """The chosen checkpoint, the face model and the detector as the bundle that is shipped."""
    training = meta_joint.load(work / "builtin" / "trained" / "best.pt")
    first = load_bundle(work / "builtin" / "first")
    described = json.loads((detector / "fcos.json").read_text())
    described.pop("sha256")
    spec = DetectorSpec(**{**described, "file": f"detectors/{NAME}.onnx", "fit": tuple(described["fit"])})
    detectors = export.Detectors({NAME: spec}, {spec.file: (detector / "fcos.onnx").read_bytes()}, NAME)
    target = Path(__file__).resolve().parent.parent / "models" / NAME
    card = (target / "CARD.md").read_bytes() if (target / "CARD.md").exists() else None
    origin = export.Origin(NAME, "1", LICENCE, PROVENANCE)
    bundle = export.to_bundle(training, load_morphable(first), origin, detectors, target)
    if card is not None:
        (target / "CARD.md").write_bytes(card)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    last = training.history[-1]
    print(f"{bundle.folder}: {size / 1e6:.1f} MB; checkpoint of iteration {training.iteration}, validation "
          f"{last.validation:.2f} %")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("face-model", "transfer", "assemble"))
    parser.add_argument("work", type=Path)
    parser.add_argument("other", type=Path, nargs="?")
    arguments = parser.parse_args()
    if arguments.step == "face-model":
        face_model_step(arguments.work)
    elif arguments.step == "transfer":
        transfer_step(arguments.work, arguments.other)
    else:
        assemble_step(arguments.work, arguments.other)


if __name__ == "__main__":
    main()
