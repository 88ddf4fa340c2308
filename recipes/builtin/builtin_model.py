"""Make the built-in model, from training data to the wheel's files: `make builtin`.

    python -m recipes.builtin.builtin_model all SHARED WORK
    python -m recipes.builtin.builtin_model face-model WORK
    python -m recipes.builtin.builtin_model transfer WORK FROM
    python -m recipes.builtin.builtin_model assemble WORK DETECTOR

all: every step below and between, those done already left out; face-model: the morphable model, in a first bundle with
an untrained net; transfer: a trained net's head, carried over to another face model; assemble: the bundle in
models/builtin, where DETECTOR holds fcos.onnx.

SHARED holds the official release and the photographs, which may not be published; WORK is where all else goes. The
trainings go on where they were stopped.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.bundle import CARD, REGRESSOR, BundleManifest, DetectorSpec
from ddfa_batch.schemas.config import BUILTIN
from ddfa_batch.tasks.bundles.model_bundle import builtin_folder, load_bundle, load_morphable, write_bundle
from ddfa_batch.tasks.files.landmark_files import read_landmarks
from ddfa_batch.tasks.geometry import crop
from ddfa_batch.tasks.inference.detectors import make_detector
from ddfa_batch.tasks.inference.face_finder import Finder, surest
from ddfa_batch.tasks.inference.regressor import Regressor, log_odds
from ddfa_batch.tasks.training import architectures, export, state
from ddfa_batch.tasks.training.branches import INPUT_MEAN, INPUT_STD
from ddfa_batch.tasks.training.clips import whitening
from ddfa_batch.tasks.training.face_head import FaceHead, fit_face_head
from recipes.builtin import face_model
from recipes.builtin.detector import collage
from recipes.builtin.detector.collage import Layer, Sources, no_faces
from recipes.builtin.detector.make import VALIDATION_SIDE, described, session, sources, told_apart, validation_pictures

LICENCE = (
    "Code, face model and generator: MIT. Weights: trained on photographs of AFLW and YouTube Faces, which are for "
    "research use only; use them for research."
)
PROVENANCE = (
    "Made by ddfa-batch (make builtin). Regressor: MobileNet x0.5 trained with meta-joint optimisation, landmark "
    "regression and short-video-synthesis on AFLW crops; labels: human landmarks together with the 68 points of "
    "3DDFA_V2's mb05. Face model: designed and measured, no vertex of another. Detector: trained from scratch. "
    "See CARD.md."
)
#: Faces that identities are measured on.
N_MEASURED = 4000
#: Boxes of a lower score are not shown to the regressor; extra boxes a validation picture that are borne.
CANDIDATE_SCORE, MOST_EXTRA = 0.25, 0.005
#: Where no face scores more, the picture is looked at again at these shares of its size, then for heads that lie. All
#: chosen by validation: where any face stopped the looks, 98.3 instead of 98.7 % were found with 0.95 instead of 0.67 %
#: extra boxes (least score 0.75).
SURE, AGAIN, TURNED = 0.98, (0.7, 0.5), (90, -90, 180)
#: Share of the pictures that are upside down: what is found there is not to be taken for a face as it stands.
UPSIDE_DOWN = 0.1
#: Pictures from which the regressor learns what is a face; side of its crops.
N_PICTURES, SIZE = 6000, 120
CLIPS = (
    "--frames 6 --speed 2 --yaw-range -50 50 --pitch-range -20 20 --roll 0 0 --scale 1 1 --shift 0 0 --noise 0 0 "
    "--blur 0 0 --format parquet"
)
TURNS = (
    "--frames 2 --yaw-range -80 80 --pitch-range -30 30 --speed 100 --roll -30 30 --scale 1 1 --shift 0 0 --noise 0 0 "
    "--blur 0 0 --format parquet"
)
#: For labels made by hand.
BY_HAND = "--landmarks lrr+lmk --distance plain"
OFFICIAL = "3ddfa-v2-mb05"


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
    net = architectures.build(architectures.Architecture(width=0.5, n_params=model.layout.size))
    pose = np.zeros(12)
    manifest = BundleManifest(
        name=BUILTIN, version="1", licence=LICENCE, provenance="Not trained yet.", n_shape=model.layout.n_shape,
        n_expression=model.layout.n_expression, input_size=120, input_mean=INPUT_MEAN,
        input_std=INPUT_STD, param_mean=(*pose.tolist(), *measured.prior.mean.tolist()),
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
    training = state.load(source)
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
    begun = replace(training, mean=tuple(mean.tolist()), std=tuple(std.tolist()), history=())
    state.save(begun, work / "builtin" / "start.pt")
    pose, shape, expression = (explained[part].mean() for part in (slice(12), slice(12, 52), slice(52, None)))
    print(
        f"{len(keys):,} faces; of the variance of pose {pose:.1%}, of shape {shape:.1%}, of expression "
        f"{expression:.1%} follows from the other's"
    )


@dataclass(frozen=True)
class Seen:
    """Boxes that the detector would show the regressor, and what that saw in them.

    odds (N,): the detector's log odds; features (N, F) of the crop of its roi; is_face (N,), boxes of unsure truth left
    out.
    """

    odds: np.ndarray
    features: np.ndarray
    is_face: np.ndarray


def seen(net: architectures.RegressorNet, spec: DetectorSpec, content: bytes, layers: Iterable[Layer]) -> Seen:
    """What detector and regressor make of the pictures of `layers`."""
    detect = make_detector(spec, session(content), CANDIDATE_SCORE, None)
    odds, features, is_face = [], [], []
    for layer in layers:
        found = detect(layer.image)
        hits, others = told_apart(found.boxes, layer)
        true = [i for i in hits if i is not None]
        rows = np.array([*true, *np.flatnonzero(others)], int)
        odds.append(log_odds(found.scores[rows]))
        features.append(features_of(net, spec, layer, found.boxes[rows]))
        is_face += [True] * len(true) + [False] * (len(rows) - len(true))
    return Seen(np.concatenate(odds), np.concatenate(features), np.array(is_face))


def features_of(net: architectures.RegressorNet, spec: DetectorSpec, layer: Layer, boxes: np.ndarray) -> np.ndarray:
    """The net's last features (N, F) of the crops of boxes (N, 4)."""
    crops = torch.from_numpy(crop.crops(layer.image, crop.roi_from_boxes(boxes, spec.roi_scale, spec.roi_shift), SIZE))
    with torch.no_grad():
        return net.features((crops.permute(0, 3, 1, 2) - INPUT_MEAN) / INPUT_STD).numpy()


def training_pictures(train: Sources, n: int) -> Iterator[Layer]:
    """Pictures such as the detector meets, and collages, of what it was trained on; those upside down show no face."""
    rng = np.random.default_rng(77)
    for layer in right_way_up(train, n, rng):
        if rng.random() < UPSIDE_DOWN:
            yield Layer(np.ascontiguousarray(layer.image[::-1, ::-1]), no_faces(), np.zeros(0, bool))
        else:
            yield layer


def right_way_up(train: Sources, n: int, rng: np.random.Generator) -> Iterator[Layer]:
    for _ in range(n):
        kind = rng.choice(4, p=(0.25, 0.35, 0.2, 0.2))
        if kind == 3:
            image, boxes, ignored = collage.collage(train, VALIDATION_SIDE, rng)
            yield Layer(image, collage.points_in_box(boxes), ignored)
            continue
        if kind == 2:
            layer = collage.without_faces(train, VALIDATION_SIDE, rng)
        else:
            face = train.portrait(rng) if kind == 0 else train.crop(rng)
            layer = collage.framed(face, train, VALIDATION_SIDE, rng)
        yield Layer(collage.photometric_jitter(layer.image, rng), layer.points, layer.ignored)


def face_head_of(
    training: state.TrainingState, spec: DetectorSpec, content: bytes, work: Path, folder: Path
) -> tuple[DetectorSpec, FaceHead]:
    """The regressor's say in what is a face, and the least score with no more than `MOST_EXTRA` extra boxes."""
    net = training.net.eval()
    train = seen(net, spec, content, training_pictures(sources(folder, "train"), N_PICTURES))
    head = fit_face_head(train.features, train.odds, train.is_face)
    spec = replace(spec, candidate_score=CANDIDATE_SCORE, trust=head.trust, again=AGAIN, turned=TURNED, sure=SURE)
    manifest = load_bundle(work / "builtin" / "first").manifest
    manifest = replace(manifest, param_mean=training.mean, param_std=training.std)
    find = Finder(spec, session(content), Regressor(session(export.to_onnx(net, SIZE, head)), manifest), 0)
    pictures = validation_pictures(sources(folder, "validation"))
    layers = pictures["portraits"] + pictures["empty"]
    faces, every = sum(int((~layer.ignored).sum()) for layer in layers), [list(find.looks(x.image)) for x in layers]
    for least in np.round(np.arange(0.2, 1.0, 0.01), 2):
        hits = extra = 0
        for layer, looks in zip(layers, every, strict=True):
            which, others = told_apart(surest(looks, least, SURE).found.boxes, layer)
            hits += sum(i is not None for i in which)
            extra += int(others.sum())
        if extra <= MOST_EXTRA * len(layers):
            break
    print(
        f"Face head from {len(train.is_face):,} boxes, {train.is_face.mean():.0%} faces; trust {head.trust:.2f}. "
        f"Least score {least}: {hits / faces:.2%} of {faces:,} validation faces, {extra / len(layers):.2%} extra boxes."
    )
    return replace(spec, face_score=float(least)), head


def assemble_step(work: Path, detector: Path) -> None:
    """The chosen checkpoint, the face model and the detector as the bundle that is shipped."""
    training = state.load(work / "builtin" / "trained" / "best.pt")
    first = load_bundle(work / "builtin" / "first")
    spec = replace(described(detector), file=f"detectors/{BUILTIN}.onnx")
    content = (detector / "fcos.onnx").read_bytes()
    spec, head = face_head_of(training, spec, content, work, detector.parent)
    target = builtin_folder()
    card = (target / CARD).read_bytes() if (target / CARD).exists() else None
    bundle = export.to_bundle(
        training, load_morphable(first), export.Origin(BUILTIN, "1", LICENCE, PROVENANCE),
        export.Detectors({BUILTIN: spec}, {spec.file: content}, BUILTIN), target, head,
    )  # fmt: skip
    if card is not None:
        (target / CARD).write_bytes(card)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    last = training.history[-1]
    print(f"{bundle.folder}: {size / 1e6:.1f} MB; checkpoint of iteration {training.iteration}, validation "
          f"{last.validation:.2f} %")  # fmt: skip


def recipe(shared: Path, work: Path) -> list[tuple[Path, str]]:
    """Every command in order, each with a file that is there once it has been run."""
    aflw, made, detector = work / "aflw", work / "builtin", work / "detector"
    portraits = work / "portraits"
    ours, first = "python -m recipes.builtin.builtin_model", made / "first"
    find = f"python -m recipes.builtin.detector.make {shared} {work}"
    human = f"ddfa-batch train {aflw}/fit-all {work}/human --model {OFFICIAL} --clips {aflw}/clips-all"
    final = f"ddfa-batch train {aflw}/fit-builtin --model {first} --clips {aflw}/clips-builtin {BY_HAND} --rotation 20"
    return [
        (aflw / "labels21.parquet", f"python -m recipes.builtin.prepare {shared} {work}"),
        (work / "imported", f"ddfa-batch models import 3ddfa-v2 {shared}/upstream/3DDFA_V2"),
        (aflw / "fit21/fits.parquet", f"ddfa-batch fit {aflw}/labels21.parquet {aflw}/images {aflw}/fit21 "
                                      f"--model {OFFICIAL}"),
        (aflw / "labels-all.parquet", f"python -m recipes.builtin.union {work}"),
        (aflw / "fit-all/fits.parquet", f"ddfa-batch fit {aflw}/labels-all.parquet {aflw}/images {aflw}/fit-all "
                                        f"--outline --model {OFFICIAL}"),
        (work / "clips-all", f"ddfa-batch synth-videos {aflw}/images {aflw}/clips-all --params {aflw}/fit-all {CLIPS}"),
        (work / "human/model/model.json", f"{human} --iterations 400 --stage 0.4 40 --stage 0.8 60 {BY_HAND}"),
        (aflw / "distilled.parquet", f"python -m recipes.builtin.distil {work}"),
        (first / "model.json", f"{ours} face-model {work}"),
        (aflw / "fit-builtin/fits.parquet", f"ddfa-batch fit {aflw}/distilled.parquet {aflw}/images {aflw}/fit-builtin "
                                            f"--model {first}"),
        (work / "clips-builtin", f"ddfa-batch synth-videos {aflw}/images {aflw}/clips-builtin --model {first} "
                                 f"--params {aflw}/fit-builtin {CLIPS}"),
        (made / "start.pt", f"{ours} transfer {work} {work}/human/best.pt"),
        (made / "begun/model/model.json", f"{final} {made}/begun --start {made}/start.pt --iterations 110 "
                                          "--stage 0.65 60 --learning-rate 1.5e-3 --seed 11"),
        (made / "trained/model/model.json", f"{final} {made}/trained --start {made}/begun/best.pt --iterations 52 "
                                            "--stage 0.5 80 --learning-rate 1e-3 --seed 12"),
        (portraits / "run/run.json", f"ddfa-batch process {portraits}/images {portraits}/run --model {OFFICIAL} "
                                     "--vertices none --max-faces 1"),
        (work / "turned", f"ddfa-batch synth-videos {portraits}/images {work}/turned --model {OFFICIAL} "
                          f"--params {portraits}/run {TURNS}"),
        (detector / "prepared", f"{find} prepare"),
        (detector / "trained", f"{find} train"),
        (detector / "fcos.onnx", f"{find} export"),
        (work / "assembled", f"{ours} assemble {work} {detector}"),
        (work / "measured", f"python -m recipes.builtin.card {work} --write"),
    ]  # fmt: skip


def all_steps(shared: Path, work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    for made, command in recipe(shared, work):
        if made.exists():
            continue
        print(f"\n$ {command}", flush=True)
        begun = time.monotonic()
        subprocess.run(shlex.split(command), check=True)
        print(f"{(time.monotonic() - begun) / 60:.1f} minutes", flush=True)
        if not made.exists():
            made.touch()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("all", "face-model", "transfer", "assemble"))
    parser.add_argument("work", type=Path, help="for all: SHARED")
    parser.add_argument("other", type=Path, nargs="?", help="for all: WORK")
    arguments = parser.parse_args()
    if arguments.step != "face-model" and arguments.other is None:
        parser.error(f"{arguments.step} takes two folders")
    if arguments.step == "all":
        all_steps(arguments.work, arguments.other)
    elif arguments.step == "face-model":
        face_model_step(arguments.work)
    elif arguments.step == "transfer":
        transfer_step(arguments.work, arguments.other)
    else:
        assemble_step(arguments.work, arguments.other)


if __name__ == "__main__":
    main()
