"""The bundle that is shipped: the chosen checkpoint, the face model, the detector, and the regressor's say in faces.

    python -m recipes.builtin.assemble WORK DETECTOR [--model builtin] [--target FOLDER] [--pictures 6000]
        [--keep-regressor]

DETECTOR holds fcos.onnx and fcos.json. The regressor's say is a small head on what its last blocks see, fitted together
with the detector's log odds to boxes found in so many training pictures. Validation pictures make its answer a
probability and choose the thresholds. The larger model's weights are stored in half precision. --keep-regressor takes
regressor and face model from the bundle that lies in the target's place, so that detector and say alone are replaced.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.bundle import CARD, REGRESSOR, BundleManifest
from ddfa_batch.schemas.config import BUILTIN, BUILTIN_MODELS, MIRROR, NO_AVERAGE
from ddfa_batch.schemas.detectors import DetectorSpec
from ddfa_batch.tasks.bundles.half_weights import stores_halves, with_half_weights
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import builtin_folder, load_bundle, write_bundle
from ddfa_batch.tasks.inference.face_finder import FaceFinder
from ddfa_batch.tasks.inference.regressor import Regressor
from ddfa_batch.tasks.training import export, state
from recipes.builtin.apart import check_apart
from recipes.builtin.calibration import Reliability, platt, scaled_head
from recipes.builtin.detector.export import exported_spec
from recipes.builtin.detector.teachers import session
from recipes.builtin.detector.validation import sources
from recipes.builtin.face_boxes import (
    CANDIDATE_THRESHOLD,
    boxes_seen,
    calibration_pictures,
    teaching_pictures,
)
from recipes.builtin.face_head import FaceHead, fit_face_head
from recipes.builtin.head_model.expressions import EXPRESSIONS
from recipes.builtin.regressor_graph import Seen, seen_by_graph, with_face_head
from recipes.builtin.terms import LICENCE, SIZE, VERSION, provenance
from recipes.builtin.thresholds import PASSES, with_thresholds

#: Pictures from which the regressor learns what is a face (see `teaching_pictures`), and those kept from training that
#: make it a probability, for one of them.
N_PICTURES, CALIBRATING = 6000, 0.25


#: Of the heads' first weights and of the order in which they see boxes.
_SEED = 7


@dataclass(frozen=True)
class FaceFinderParts:
    """What finds faces: a detector, and the regressor's say."""

    #: The detector with its thresholds.
    spec: DetectorSpec
    #: Its network.
    content: bytes
    #: The regressor's say.
    head: FaceHead


def assemble(name: str, work: Path, detector: Path, n_pictures: int, target: Path) -> None:
    """Write the bundle of the model `name` to `target`; a card that lies there stays."""
    training = state.load(work / "builtin" / f"{name}-taught-again" / "best.pt")
    trained_on = open_run(work / "aflw" / "fit-turned").faces(columns=["key"])["key"].to_pylist()
    print(check_apart(work / "aflw", trained_on))
    first = load_bundle(work / "builtin" / "first")
    graph = export.to_onnx(training.answering.eval(), SIZE)
    manifest = replace(first.manifest, param_mean=training.mean, param_std=training.std)
    parts = face_finder_parts(graph, manifest, work, detector, n_pictures)
    card = (target / CARD).read_bytes() if (target / CARD).exists() else None
    origin = export.Origin(
        name,
        VERSION,
        LICENCE,
        provenance(training.architecture.width),
        expression_names=tuple(EXPRESSIONS),
        average=NO_AVERAGE if name == BUILTIN else MIRROR,
    )
    detectors = export.Detectors({BUILTIN: parts.spec}, {parts.spec.file: parts.content}, BUILTIN)

    def finished(network: bytes) -> bytes:
        whole = with_face_head(network, parts.head)
        return whole if name == BUILTIN else with_half_weights(whole)

    bundle = export.to_bundle(training, load_morphable(first), origin, detectors, target, finished)
    if card is not None:
        (target / CARD).write_bytes(card)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    error = training.history[-1].validation
    told = "" if error is None else f", validation {error:.2f} %"
    print(f"{bundle.folder}: {size / 1e6:.1f} MB; checkpoint of iteration {training.iteration}{told}")


def replace_detector(work: Path, detector: Path, n_pictures: int, target: Path) -> None:
    """Give the bundle in `target` another detector, and its regressor another say in what is a face."""
    bundle = load_bundle(target)
    graph = (target / REGRESSOR).read_bytes()
    parts = face_finder_parts(graph, bundle.manifest, work, detector, n_pictures)
    network = with_face_head(graph, parts.head)
    manifest = replace(bundle.manifest, version=VERSION, detectors={BUILTIN: parts.spec}, default_detector=BUILTIN)
    files = {REGRESSOR: with_half_weights(network) if stores_halves(graph) else network, parts.spec.file: parts.content}
    card = {CARD: (target / CARD).read_bytes()} if (target / CARD).exists() else {}
    write_bundle(target, manifest, files, load_morphable(bundle), card)
    print(f"{target}: another detector, the same regressor")


def face_finder_parts(
    graph: bytes, manifest: BundleManifest, work: Path, detector: Path, n_pictures: int
) -> FaceFinderParts:
    """The detector of a folder, its thresholds, and the say of the regressor in `graph` in what is a face."""
    content = (detector / "fcos.onnx").read_bytes()
    spec = replace(exported_spec(detector), file=f"detectors/{BUILTIN}.onnx", candidate_threshold=CANDIDATE_THRESHOLD)
    held = sources(work, "validation")
    head = face_head(seen_by_graph(graph), spec, content, work, n_pictures)
    spec = replace(spec, detector_weight=head.trust, passes=PASSES)
    asked = Regressor(session(with_face_head(graph, head)), manifest)
    return FaceFinderParts(with_thresholds(FaceFinder(spec, session(content), asked, 0), spec, held), content, head)


def face_head(see: Seen, spec: DetectorSpec, content: bytes, work: Path, n_pictures: int) -> FaceHead:
    """What of all the regressor sees tells faces, as log odds that pictures kept from training bear out."""
    train = boxes_seen(see, spec, content, teaching_pictures(sources(work, "train"), n_pictures))
    head = fit_face_head(train.seen, train.odds, train.is_face, _SEED)
    pictures = calibration_pictures(sources(work, "validation"), max(1, int(CALIBRATING * n_pictures)))
    held = boxes_seen(see, spec, content, pictures)
    slope, offset = platt(head(held.seen, held.odds), held.is_face)
    head = scaled_head(head, slope, offset)
    scores = 1 / (1 + np.exp(-head(held.seen, held.odds)))
    told = f"Face head from {len(train.is_face):,} boxes, {train.is_face.mean():.0%} faces; weight {head.trust:.2f}"
    off = Reliability.of(scores, held.is_face).error
    print(f"{told}; scaled by {slope:.2f}, moved by {offset:+.2f}: {off:.1%} off on {len(scores):,} boxes held back")
    return head


def main(words: Sequence[str] | None = None) -> None:
    """The step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("detector", type=Path)
    parser.add_argument("--pictures", type=int, default=N_PICTURES)
    parser.add_argument("--model", choices=BUILTIN_MODELS, default=BUILTIN)
    parser.add_argument("--target", type=Path, help="its folder in models/ where none is given")
    parser.add_argument("--keep-regressor", action="store_true", help="replace the detector of the target alone")
    arguments = parser.parse_args(words)
    target = arguments.target or builtin_folder(arguments.model)
    if arguments.keep_regressor:
        replace_detector(arguments.work, arguments.detector, arguments.pictures, target)
    else:
        assemble(arguments.model, arguments.work, arguments.detector, arguments.pictures, target)


if __name__ == "__main__":
    main()
