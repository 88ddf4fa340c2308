"""Make the project's face detector from the private reference files, and measure it.

    python -m recipes.builtin.detector.make SHARED WORK prepare  pictures, boxes, backgrounds: WORK/detector (2 minutes)
    python -m recipes.builtin.detector.make SHARED WORK train    goes on where it stopped; checkpoint.pt, train.log
    python -m recipes.builtin.detector.make SHARED WORK export   fcos.onnx, and by validation its least score and roi
    python -m recipes.builtin.detector.make SHARED WORK report   test photographs, once; times beside FaceBoxes

WORK/aflw/images comes from `prepare`, WORK/aflw/fit-all from `ddfa-batch fit` of them, WORK/turned from
`ddfa-batch synth-videos` of the portraits (recipes/builtin/builtin_model.py has the commands). Backgrounds are
scikit-image's pictures and the wallpapers and stamps of four Debian packages, fetched with apt-get where that is there;
other pictures without a face may be put into WORK/backgrounds. Where a picture came from decides, by a hash of its
name, whether it trains or validates. Nothing of WORK may be published but fcos.onnx.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import re
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from math import ceil
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pyarrow.parquet as pq
import torch

from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.bundle import DetectorSpec
from ddfa_batch.tasks.bundles import onnx_graphs
from ddfa_batch.tasks.bundles.checkpoints import read_arrays
from ddfa_batch.tasks.bundles.model_bundle import builtin_folder, load_bundle, loaded_model
from ddfa_batch.tasks.evaluation.landmark_errors import match_box
from ddfa_batch.tasks.files.atomic import whole_file, write_json
from ddfa_batch.tasks.geometry.crop import overlap, roi_from_boxes, roi_from_landmarks
from ddfa_batch.tasks.inference.detectors import Detector, make_detector, non_maximum_suppression
from ddfa_batch.tasks.inference.face_finder import Finder
from ddfa_batch.tasks.inference.regressor import Regressor
from ddfa_batch.tasks.training import host
from recipes.builtin.detector import collage, trainer
from recipes.builtin.detector.collage import Layer, Pictures, Sources, boxes_of, no_faces, points_in_box

DEBIAN = ("mate-backgrounds", "gnome-backgrounds", "plasma-workspace-wallpapers", "tuxpaint-stamps-default")
#: Stamps that show a face, even a drawn one, or none but letters.
NOT_THESE = ("cartoon", "faces", "people", "money", "monuments", "halloween", "alphabets", "christmas", "hanukkah",
             "easter", "flags", "operators", "statue")  # fmt: skip
#: scikit-image's pictures without a face. `astronaut` is for tests, `camera` and `lfw_subset` show faces.
SKIMAGE = ("brick", "cell", "chelsea", "clock_motion", "coffee", "coins", "color", "grass", "gravel", "horse",
           "hubble_deep_field", "ihc", "logo", "moon", "motorcycle_left", "motorcycle_right", "page", "retina",
           "rocket", "text")  # fmt: skip
#: Pictures of people of `crowds` that validate; the hash of so few names would leave chance too much.
HELD_OUT_SCENES = ("crowds/10.jpg", "crowds/18.jpg", "crowds/24.jpg", "boxes_dlib/2008_002079.jpg")
#: Training steps, and how many lie between two checkpoints.
STEPS, EVERY = 28400, 400
#: Largest picture (height, width), and the side of the validation pictures of one face or none.
FIT, VALIDATION_SIDE = (720, 1080), 450
#: How many of the last checkpoints are compared.
LAST = 4
#: How often each is timed.
REPEATS = 200
#: Scores at which validation is shown.
SHOWN = (0.3, 0.4, 0.5, 0.6)
#: Sum of the teachers' scores from which a box is a face, and from which it may be one; each gives up to 1.
SURE, DOUBTFUL = 1.5, 0.6
#: A crop must hold this share of its face's box: a few fits went astray.
HELD = 0.9
#: A picture of `boxes_dlib` without any.
NO_PEOPLE = "dogs.jpg"

Boxes = np.ndarray
Teacher = Callable[[np.ndarray], tuple[Boxes, np.ndarray]]


def validates(name: str) -> bool:
    """Whether a picture, or a person, of this name is kept from training: one in ten."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10 == 0


def session(content: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


# ------------------------------------------------------------------------------------ boxes of well-known detectors


def teachers(shared: Path) -> dict[str, Teacher]:
    """Detectors that label what nobody has labelled: boxes (N, 4) and scores (N,) of a picture, each."""
    upstream = shared / "upstream"
    weights = read_arrays(upstream / "3DDFA_V2/FaceBoxes/weights/FaceBoxesProd.pth")
    nets = {
        "faceboxes": (onnx_graphs.faceboxes(weights), "faceboxes"),
        "yunet_s": ((upstream / "yunet/yunet_s_dynamic.onnx").read_bytes(), "yunet"),
    }
    found: dict[str, Teacher] = {}
    for name, (content, kind) in nets.items():
        detector = make_detector(DetectorSpec(kind, "", 0.3, (4000, 4000)), session(content), 0.3, None)

        def one(image: np.ndarray, detector: object = detector) -> tuple[Boxes, np.ndarray]:
            faces = detector(image)  # type: ignore[operator]
            return faces.boxes, faces.scores

        found[name] = one
    net = session((upstream / "retinaface/retinaface_mbnet0.25.onnx").read_bytes())
    found["retinaface"] = lambda image: retinaface(net, image, 0.3)
    return found


def retinaface(net: ort.InferenceSession, image: np.ndarray, min_score: float) -> tuple[Boxes, np.ndarray]:
    """RetinaFace (Deng et al., 2019) with MobileNet ×0.25: its anchors and decoding."""
    h, w = image.shape[:2]
    planes = (image.astype(np.float32) - (104, 117, 123)).transpose(2, 0, 1)[None].astype(np.float32)
    loc, conf, _ = net.run(None, {"input": planes})
    priors = np.array([
        ((j + 0.5) * step / w, (i + 0.5) * step / h, side / w, side / h)
        for step, sides in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
        for i, j in product(range(ceil(h / step)), range(ceil(w / step)))
        for side in sides
    ])  # fmt: skip
    chosen = conf[0, :, 1] > min_score
    p, d, scores = priors[chosen], loc[0, chosen], conf[0, chosen, 1]
    centre, half = p[:, :2] + d[:, :2] * 0.1 * p[:, 2:], p[:, 2:] * np.exp(d[:, 2:] * 0.2) / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1) * (w, h, w, h)
    kept = non_maximum_suppression(boxes.astype(np.float32), scores, 0.4)
    return boxes[kept], scores[kept]


def at_scales(find: Teacher, image: np.ndarray, scales: Sequence[float]) -> tuple[Boxes, np.ndarray]:
    """What `find` finds on the picture at several scales, suppressed together."""
    boxes, scores = [], []
    for scale in scales:
        if not 32 <= max(image.shape[:2]) * scale <= 2200:
            continue
        found, score = find(cv2.resize(image, None, fx=scale, fy=scale) if scale != 1 else image)
        boxes.append(np.asarray(found, np.float64).reshape(-1, 4) / scale)
        scores.append(score)
    every, score = np.concatenate(boxes), np.concatenate(scores)
    kept = non_maximum_suppression(every.astype(np.float32), score, 0.4)
    return every[kept], score[kept]


def conversion(find: Teacher, layers: Sequence[Layer]) -> np.ndarray:
    """The matrix (4, 4) from a detector's box to the landmarks': of (cx, cy, w, h) in units of its own size.

    Least squares over the faces of `layers` that it finds.
    """
    theirs, ours = [], []
    for layer in layers:
        image = cv2.copyMakeBorder(layer.image, 40, 40, 40, 40, cv2.BORDER_CONSTANT)
        boxes, _ = find(image)
        true = boxes_of(layer.points[:1]) + 40
        if len(boxes) and (best := overlap(np.asarray(boxes), true)).max() > 0.45:
            theirs.append(boxes[best.argmax()])
            ours.append(true[0])
    a, b = np.array(theirs), np.array(ours)
    size = (a[:, 2:] - a[:, :2]).mean(axis=1, keepdims=True)
    offset = ((b[:, :2] + b[:, 2:]) - (a[:, :2] + a[:, 2:])) / 2 / size
    ratio = (b[:, 2:] - b[:, :2]) / (a[:, 2:] - a[:, :2])
    return np.concatenate([np.median(offset, axis=0), np.median(ratio, axis=0)])


def converted(boxes: Boxes, how: np.ndarray) -> Boxes:
    """A detector's boxes (N, 4) as the landmarks' boxes; `how` of `conversion`."""
    size = boxes[:, 2:] - boxes[:, :2]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + how[:2] * size.mean(axis=1, keepdims=True)
    return np.concatenate([centre - size * how[2:] / 2, centre + size * how[2:] / 2], axis=1)


def agreed(found: dict[str, tuple[Boxes, np.ndarray]]) -> tuple[Boxes, np.ndarray]:
    """Boxes (N, 4) of all teachers together, and the sum of the scores (N,) of those that agree on each."""
    boxes = np.concatenate([b for b, _ in found.values()])
    scores = np.concatenate([s for _, s in found.values()])
    teacher = np.concatenate([np.full(len(s), i) for i, (_, s) in enumerate(found.values())])
    merged, votes = [], []
    left = np.argsort(-scores)
    while len(left):
        near = overlap(boxes[left[:1]], boxes[left]) > 0.4
        group = left[near]
        best = [group[teacher[group] == t][0] for t in np.unique(teacher[group])]
        merged.append(np.average(boxes[best], axis=0, weights=scores[best]))
        votes.append(scores[best].sum())
        left = left[~near]
    return np.array(merged).reshape(-1, 4), np.array(votes)


# ----------------------------------------------------------------------------------------------------- preparation


def crops(work: Path) -> Iterator[tuple[str, Layer]]:
    table = open_run(work / "aflw/fit-all").faces(columns=["key", "landmarks68"])
    points = table["landmarks68"].combine_chunks().flatten().to_numpy().reshape(-1, 68, 3)[..., :2]
    for key, face in zip(table["key"].to_pylist(), points, strict=True):
        image = cv2.imread(str(work / "aflw/images" / key))
        if collage.inside(boxes_of(face[None]), (0, 0, *image.shape[1::-1]))[0] >= HELD:
            yield key, Layer(image, face[None].astype(np.float32), np.zeros(1, bool))


def turned(work: Path) -> Iterator[tuple[str, Layer]]:
    """The portraits with their heads turned, profiles most of all: the last frame of each clip of WORK/turned."""
    run = open_run(work / "turned")
    table = run.frames(columns=["clip_id", "frame", "key", "landmarks68"])
    last = np.asarray(table["frame"]).max()
    for row in table.to_pylist():
        if row["frame"] == last:
            points = np.array(row["landmarks68"], np.float32).reshape(1, 68, 3)[..., :2]
            image = run.clip(row["clip_id"])[last]
            if collage.inside(boxes_of(points), (0, 0, *image.shape[1::-1]))[0] >= HELD:
                yield person_of(row["key"]), Layer(image, points, np.zeros(1, bool))


def portraits(shared: Path) -> Iterator[tuple[str, Layer]]:
    table = pq.read_table(shared / "data/youtube_faces/frames.parquet")
    for name, jpeg, points in zip(*(table[c].to_pylist() for c in ("name", "jpeg", "pts68")), strict=True):
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        yield person_of(name), Layer(image, np.array(points, np.float32).reshape(1, 68, 2), np.zeros(1, bool))


def person_of(name: str) -> str:
    """Whom a frame of YouTube Faces shows: all frames of a person train, or all validate."""
    return re.sub(r"_\d+\.jpg$", "", name)


def with_neighbours(layer: Layer, find: Teacher, how: np.ndarray) -> Layer:
    """The layer, with whatever else looks like a face in it marked as ignored."""
    boxes, _ = find(cv2.copyMakeBorder(layer.image, 20, 20, 20, 20, cv2.BORDER_CONSTANT))
    boxes = converted(np.asarray(boxes, np.float64).reshape(-1, 4) - 20, how)
    others = boxes[overlap(boxes[:, None], boxes_of(layer.points).astype(np.float64)).max(axis=1) < 0.2]
    return Layer(layer.image, np.concatenate([layer.points, points_in_box(others)]),
                 np.concatenate([layer.ignored, np.ones(len(others), bool)]))  # fmt: skip


def scenes(shared: Path, find: dict[str, Teacher], how: dict[str, np.ndarray]) -> Iterator[tuple[str, Layer]]:
    """Photographs of people with the boxes on which two teachers agree; those of one alone are ignored."""
    data = shared / "data"
    by_hand = {}
    for file in ("training.xml", "testing.xml"):
        for image in ET.parse(data / "boxes_dlib" / file).getroot().iter("image"):
            sides = [[int(box.attrib[k]) for k in ("left", "top", "width", "height")] for box in image.iter("box")]
            by_hand[image.attrib["file"]] = np.array(sides, np.float64).reshape(-1, 4)
    for path in sorted((data / "crowds").glob("*.jpg")) + sorted((data / "boxes_dlib").glob("*.jpg")):
        image = cv2.imread(str(path))
        if max(image.shape[:2]) > 1100:
            scale = 1100 / max(image.shape[:2])
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        found = {}
        for name, one in find.items():
            boxes, scores = at_scales(one, image, (0.25, 0.5, 1, 1.5, 2))
            found[name] = converted(boxes, how[name]), scores
        boxes, votes = agreed(found)
        for i in range(len(boxes)):  # a part of a face for a face
            around = (collage.inside(boxes[[i]], boxes[j]) > 0.75 for j in range(len(boxes)) if votes[j] > votes[i])
            votes[i] = 0 if any(share[0] for share in around) else votes[i]
        if path.name == NO_PEOPLE:
            boxes, votes = boxes[:0], votes[:0]
        print(f"{path.parent.name}/{path.name}: {(votes >= SURE).sum()} faces, {(votes < SURE).sum()} doubtful; "
              f"by hand {len(by_hand.get(path.name, []))}", flush=True)  # fmt: skip
        boxes, votes = boxes[votes >= DOUBTFUL], votes[votes >= DOUBTFUL]
        yield f"{path.parent.name}/{path.name}", Layer(image, points_in_box(boxes), votes < SURE)


def fetch_backgrounds(folder: Path) -> None:
    """Unpack the Debian packages' pictures into `folder`, stamps on plain ground, once."""
    if folder.is_dir() and any(folder.iterdir()):
        return
    folder.mkdir(parents=True, exist_ok=True)
    packages = folder.parent / "debian"
    packages.mkdir(exist_ok=True)
    try:
        subprocess.run(["apt-get", "download", "-q", *DEBIAN], cwd=packages, check=True)
        for package in packages.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, packages / "root"], check=True)
    except (OSError, subprocess.CalledProcessError) as fault:
        print(f"No Debian packages here ({fault}): put pictures without a face into {folder} yourself.")
        return
    share = packages / "root/usr/share"
    wallpapers = [min(f.iterdir(), key=lambda p: p.stat().st_size) for f in share.glob("wallpapers/*/contents/images")]
    rng = np.random.default_rng(0)
    for path in sorted([*share.glob("backgrounds/*/**/*"), *wallpapers, *share.glob("tuxpaint/stamps/**/*.png")]):
        stamp = "stamps" in path.parts
        if not path.is_file() or (stamp and any(word in str(path) for word in NOT_THESE)):
            continue
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED if stamp else cv2.IMREAD_COLOR)
        if image is None or image.ndim != 3 or min(image.shape[:2]) < 64 or (stamp and image.shape[2] != 4):
            continue
        scale = min(1.0, (350 if stamp else 800) / max(image.shape[:2]))
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if stamp:
            alpha = image[..., 3:] / np.float32(255)
            image = (image[..., :3] * alpha + rng.integers(0, 256, 3) * (1 - alpha)).astype(np.uint8)
        name = re.sub(r"\W", "_", str(path.relative_to(share).with_suffix("")))[-80:]
        cv2.imwrite(str(folder / f"{name}.png"), image)


def backgrounds(work: Path) -> Iterator[tuple[str, Layer]]:
    import skimage

    fetch_backgrounds(work / "backgrounds")
    data = Path(skimage.__file__).parent / "data"
    paths = [path for stem in SKIMAGE for path in data.glob(f"{stem}.*")]
    for path in sorted([*paths, *(work / "backgrounds").iterdir()]):
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is not None and min(image.shape[:2]) >= 32:
            yield path.name, Layer(image, no_faces(), np.zeros(0, bool))


def prepare(shared: Path, work: Path) -> None:
    target = work / "detector"
    target.mkdir(parents=True, exist_ok=True)
    find = teachers(shared)
    every = {"crops": list(crops(work)), "portraits": list(portraits(shared))}
    sample = np.random.default_rng(0)
    for name, size in (("crops", 300), ("portraits", 300)):
        chosen = sample.choice(len(every[name]), size, replace=False)
        layers = [every[name][i][1] for i in chosen]
        how = {teacher: conversion(one, layers) for teacher, one in find.items()}
        print(name, {k: np.round(v, 3).tolist() for k, v in how.items()}, flush=True)
    for name in ("crops", "portraits"):
        every[name] = [(key, with_neighbours(layer, find["yunet_s"], how["yunet_s"])) for key, layer in every[name]]
        print(name, len(every[name]), "others ignored:", sum(int(x.ignored.sum()) for _, x in every[name]), flush=True)
    every["portraits"] += list(turned(work))
    every["scenes"] = list(scenes(shared, find, how))
    every["empty"] = list(backgrounds(work))
    for name, rows in every.items():
        held = [key in HELD_OUT_SCENES if name == "scenes" else validates(key) for key, _ in rows]
        for part, wanted in (("train", False), ("validation", True)):
            layers = [layer for (_, layer), is_held in zip(rows, held, strict=True) if is_held == wanted]
            Pictures.of(layers).save(target / f"{name}-{part}.npz")
            print(f"{name}-{part}: {len(layers)} pictures", flush=True)


# --------------------------------------------------------------------------------------------------------- training


def sources(work: Path, part: str) -> Sources:
    names = ("crops", "portraits", "scenes", "empty")
    crops, *others = (Pictures.load(work / f"detector/{name}-{part}.npz") for name in names)
    side = collage.seen_from_the_side(crops.points[crops.first[:-1]])
    return Sources(crops, crops.chosen(np.flatnonzero(side)), *others)


def train(work: Path, steps: int, seed: int) -> None:
    """Train to `steps`, going on from the checkpoint if there is one; validate and save every `EVERY` steps."""
    host.prepare("cpu", 1)
    cv2.setNumThreads(0)
    folder = work / "detector"
    training = trainer.Training.begin(seed, steps)
    if (folder / "checkpoint.pt").exists():
        training.restore(torch.load(folder / "checkpoint.pt", weights_only=True))
    pictures = validation_pictures(sources(work, "validation"))
    begun, first = time.monotonic(), training.step
    with trainer.loader(sources(work, "train"), seed, first, steps) as batches:
        for batch in batches:
            loss = training.learn(batch)
            if training.step % 50 == 0:
                speed = (time.monotonic() - begun) / (training.step - first)
                seen = f"{training.pictures:,} pictures, {speed:.3f} s a step"
                say(folder, f"step {training.step}, loss {loss:.4f}, {seen}")
            if training.step % EVERY == 0 or training.step == steps:
                with whole_file(folder / "checkpoint.pt") as work_file:
                    torch.save(training.state(), work_file)
                content = onnx_graphs.fcos(training.weights())
                (folder / f"step{training.step:06d}.onnx").write_bytes(content)
                say(folder, f"step {training.step}: {validated(content, pictures)}")


def say(folder: Path, line: str) -> None:
    with (folder / "train.log").open("a") as log:
        log.write(line + "\n")
    print(line, flush=True)


# ------------------------------------------------------------------------------------------------------- validation


@dataclass(frozen=True)
class Tally:
    """What a detector said about pictures: of each true face the best matching score, of each other box its score."""

    matched: np.ndarray
    extra: np.ndarray
    pictures: int

    def recall(self, score: float) -> float:
        return float((self.matched > score).mean()) if len(self.matched) else 1.0

    def extras(self, score: float) -> float:
        """Extra boxes a picture."""
        return float((self.extra > score).sum() / self.pictures)


def validation_pictures(held: Sources) -> dict[str, list[Layer]]:
    """Pictures that no training saw: one face amid its surroundings, collages, none, and photographs of people."""
    rng = np.random.default_rng(0)
    portraits = []
    for source, n in ((held.portraits, 250), (held.crops, 500)):
        for i in rng.choice(len(source), n, replace=False):
            portraits.append(collage.framed(source.picture(i), held, VALIDATION_SIDE, rng))
    empty = [collage.without_faces(held, VALIDATION_SIDE, rng) for _ in range(300)]
    portraits, empty = (
        [Layer(collage.photometric_jitter(layer.image, rng), layer.points, layer.ignored) for layer in layers]
        for layers in (portraits, empty)
    )
    collages = []
    for _ in range(150):
        image, boxes, ignored = collage.collage(held, 384, rng)
        collages.append(Layer(image, points_in_box(boxes), ignored))
    scenes = [held.scenes.picture(i) for i in range(len(held.scenes))]
    return {"portraits": portraits, "collages": collages, "empty": empty, "scenes": scenes}


def told_apart(boxes: Boxes, layer: Layer) -> tuple[list[int | None], np.ndarray]:
    """Which of the boxes (N, 4), best first, is each face that is not ignored, and which (N,) are extra.

    A face is found by the best box that overlaps it by half; a box on an ignored face counts for nothing.
    """
    true = boxes_of(layer.points)
    free = np.ones(len(boxes), bool)
    found: list[int | None] = []
    for face in true[~layer.ignored]:
        hit = np.flatnonzero(free & (overlap(boxes, face) >= 0.5))[:1]
        free[hit] = False
        found.append(int(hit[0]) if len(hit) else None)
    for face in true[layer.ignored]:
        free &= (overlap(boxes, face) <= 0.2) & (collage.inside(boxes, face) <= 0.5)
    return found, free


def tally(detect: Detector, layers: Sequence[Layer]) -> Tally:
    """What the detector says about the faces of `layers`, and what else it says."""
    matched, extra = [], []
    for layer in layers:
        found = detect(layer.image)
        faces, others = told_apart(found.boxes, layer)
        matched += [0.0 if i is None else found.scores[i] for i in faces]
        extra += list(found.scores[others])
    return Tally(np.array(matched), np.array(extra), len(layers))


def validated(content: bytes, pictures: dict[str, list[Layer]]) -> str:
    """Recall and extra boxes a picture of each kind of picture, at three scores."""
    detect = make_detector(DetectorSpec("fcos", "", 0.1, FIT), session(content), 0.1, None)
    parts = []
    for name, layers in pictures.items():
        t = tally(detect, layers)
        at = " ".join(f"{t.recall(s):.2%}/{t.extras(s):.3f}" for s in SHOWN)
        parts.append(f"{name} {at}")
    return "; ".join(parts)


# ----------------------------------------------------------------------------------------------------------- export


def export(work: Path) -> None:
    """Choose the checkpoint, its least score and its roi by validation, and write fcos.onnx and fcos.json."""
    folder = work / "detector"
    pictures = validation_pictures(sources(work, "validation"))
    judged = {}
    for path in sorted(folder.glob("step*.onnx"))[-LAST:]:
        detect = make_detector(DetectorSpec("fcos", "", 0.05, FIT), session(path.read_bytes()), 0.05, None)
        tallies = {name: tally(detect, layers) for name, layers in pictures.items()}
        judged[path] = faults, score = least_faults(tallies["portraits"], tallies["empty"])
        shown = "; ".join(f"{n} {t.recall(score):.2%}/{t.extras(score):.3f}" for n, t in tallies.items())
        print(f"{path.name}: least score {score:.2f}, misses and extra boxes {faults:.2%}: {shown}", flush=True)
    path = min(judged, key=lambda p: judged[p][0])
    content, score = path.read_bytes(), judged[path][1]
    detect = make_detector(DetectorSpec("fcos", "", score, FIT), session(content), score, None)
    scale, shift, error = fitted_roi(detect, sources(work, "train"))
    (folder / "fcos.onnx").write_bytes(content)
    spec = DetectorSpec("fcos", "detectors/fcos.onnx", score, FIT, scale, shift)
    write_json(folder / "fcos.json", {**asdict(spec), "sha256": hashlib.sha256(content).hexdigest()})
    print(f"{path.name} becomes fcos.onnx: {len(content):,} bytes, min_score {score}, roi_scale {scale}, "
          f"roi_shift {shift}; its rois are {error:.1%} of a side off those of the landmarks (median)")  # fmt: skip


def described(folder: Path) -> DetectorSpec:
    """What `export` wrote of fcos.onnx."""
    said = json.loads((folder / "fcos.json").read_text())
    del said["sha256"]
    return DetectorSpec(**{**said, "fit": tuple(said["fit"])})


def least_faults(portraits: Tally, empty: Tally) -> tuple[float, float]:
    """The fewest faults, and the least score, in steps of 0.01, that makes them.

    Faults: the share of faces that are missed and the extra boxes a picture, counted alike.
    """
    pictures = portraits.pictures + empty.pictures
    extra = np.concatenate([portraits.extra, empty.extra])
    scores = np.round(np.arange(0.2, 0.9, 0.01), 2)
    faults = [1 - portraits.recall(score) + (extra > score).sum() / pictures for score in scores]
    return float(np.min(faults)), float(scores[np.argmin(faults)])


def fitted_roi(detect: Detector, train: Sources) -> tuple[float, float, float]:
    """roi_scale and roi_shift by least squares, so that `roi_from_boxes` gives what `roi_from_landmarks` would.

    Over training crops that stand in a picture; with the median distance of the corners, in sides of the roi.
    """
    rng = np.random.default_rng(1)
    found, wanted = [], []
    for i in rng.choice(len(train.crops), 1500, replace=False):
        layer = collage.framed(train.crops.picture(i), train, VALIDATION_SIDE, rng)
        boxes = detect(layer.image).boxes
        if len(boxes) and (iou := overlap(boxes, boxes_of(layer.points[:1]))).max() >= 0.5:
            found.append(boxes[iou.argmax()])
            wanted.append(roi_from_landmarks(layer.points[:1])[0])
    box, roi = np.array(found, np.float64), np.array(wanted)
    size = ((box[:, 2] - box[:, 0]) + (box[:, 3] - box[:, 1])) / 2
    side = roi[:, 2] - roi[:, 0]
    lower = (roi[:, 1] + roi[:, 3] - box[:, 1] - box[:, 3]) / 2
    # Divided by the side, so that every face counts alike: side ≈ scale·size and lower ≈ shift·size.
    scale = float((size / side).sum() / ((size / side) ** 2).sum())
    shift = float((lower * size / side**2).sum() / ((size / side) ** 2).sum())
    scale, shift = round(scale, 3), round(shift, 3)
    error = np.abs(roi_from_boxes(box, scale, shift) - roi).max(axis=1) / side
    return scale, shift, float(np.median(error))


# ----------------------------------------------------------------------------------------------------------- report


def report(shared: Path, work: Path) -> None:
    """What the detector does on photographs that neither trained it nor chose anything, beside FaceBoxes."""
    folder = work / "detector"
    spec = described(folder)
    ours = make_detector(spec, session((folder / "fcos.onnx").read_bytes()), spec.min_score, None)
    weights = read_arrays(shared / "upstream/3DDFA_V2/FaceBoxes/weights/FaceBoxesProd.pth")
    theirs = make_detector(DetectorSpec("faceboxes", "", 0.5, FIT), session(onnx_graphs.faceboxes(weights)), 0.5, None)
    both = {"fcos": ours, "faceboxes": theirs}
    find = {name: one for name, one in teachers(shared).items() if name != "faceboxes"}
    for name, detect in {**both, "built-in model, its regressor asked": together()}.items():
        print(f"\n{name} on aflw2000_dev\n" + labelled(detect, shared / "data/aflw2000_dev", find))
    print("\nfaces found: fcos, faceboxes")
    for path in photographs(shared):
        image = cv2.imread(str(path))
        print(f"  {path.name}: " + ", ".join(str(len(detect(image).scores)) for detect in both.values()))
    print()
    times(both, session((folder / "fcos.onnx").read_bytes()), session(onnx_graphs.faceboxes(weights)))


def together() -> Detector:
    """The faces of the built-in model: its detector's boxes that its regressor takes for faces too."""
    bundle = load_bundle(builtin_folder())
    model, (_, spec) = loaded_model(str(bundle.folder), bundle.digest), bundle.detector(None)
    find = Finder(spec, model.detector_session(spec), Regressor(model.regressor, bundle.manifest), spec.least)
    return lambda image, shrink=1.0: find(image).found


def labelled(detect: Detector, folder: Path, find: dict[str, Teacher]) -> str:
    """Recall and extra boxes on AFLW2000-3D photographs: a face is found by a box that holds its landmarks' mean."""
    table = pq.read_table(folder / "labels.parquet")
    points = table["pts68"].combine_chunks().flatten().to_numpy().reshape(-1, 3, 68)[:, :2].transpose(0, 2, 1) - 1
    yaws = np.abs(table["yaw_deg"].to_numpy())
    found, halves, ious, missed = np.zeros(len(points), bool), np.zeros(len(points), bool), [], []
    extra = again = 0
    for i, (name, face) in enumerate(zip(table["name"].to_pylist(), points, strict=True)):
        image = cv2.imread(str(folder / name))
        boxes, centre = detect(image).boxes, face.mean(axis=0)
        others = np.arange(len(boxes))
        its = match_box(boxes, centre)
        if its is not None:
            found[i] = True
            others = np.delete(others, its)
            ious.append(overlap(boxes[its], boxes_of(face[None])[0]))
            halves[i] = ious[-1] >= 0.5
        else:
            missed.append(name)
        for j in others:
            extra += 1
            again += any(len(b := at_scales(one, image, (1, 2))[0]) and overlap(boxes[[j]], b).max() > 0.4
                         for one in find.values())  # fmt: skip
    bins = [found[(yaws >= low) & (yaws < low + 30)] for low in (0, 30, 60)]
    return (
        f"  labelled face found in {found.mean():.2%} of {len(found):,} photographs "
        f"(by yaw {', '.join(f'{b.mean():.2%}' for b in bins)}; with an overlap of half, {halves.mean():.2%}; "
        f"median overlap {np.median(ious):.2f})\n"
        f"  {extra} extra boxes ({extra / len(found):.2%}), on {again} of which {' or '.join(find)} finds a face too\n"
        f"  missed: {', '.join(missed)}"
    )


def photographs(shared: Path) -> list[Path]:
    """The example photographs, two portraits that come with Python packages, and two pictures without a face."""
    paths = sorted((shared / "upstream/3DDFA_V2/examples/inputs").glob("*.jpg"))
    inside = {"skimage": ["data/astronaut.png"], "matplotlib": ["mpl-data/sample_data/grace_hopper.jpg"],
              "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"]}  # fmt: skip
    for package, files in inside.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            print(f"{package} is not installed: without {', '.join(files)}")
            continue
        paths += [Path(spec.origin).parent / file for file in files]
    return paths


def times(both: dict[str, Detector], ours: ort.InferenceSession, theirs: ort.InferenceSession) -> None:
    """Medians in ms, one thread, the two by turns: the networks alone on the same input, then all of a call."""
    rng = np.random.default_rng(0)
    for height, width in ((448, 448), (480, 640), (704, 1088)):
        planes = rng.uniform(0, 255, (1, 3, height, width)).astype(np.float32)
        runs = [partial(net.run, None, {"input": planes}) for net in (ours, theirs)]
        print(f"network, {height}×{width}: fcos {{:.2f}}, faceboxes {{:.2f}} ms".format(*by_turns(runs)))
    for height, width in ((450, 450), (720, 1080)):
        image = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3)).astype(np.uint8), (0, 0), 5)
        runs = [partial(detect, image) for detect in both.values()]
        print(f"whole call, {height}×{width}: fcos {{:.2f}}, faceboxes {{:.2f}} ms".format(*by_turns(runs)))


def by_turns(runs: Sequence[Callable[[], object]]) -> list[float]:
    spent: list[list[float]] = [[] for _ in runs]
    for _ in range(REPEATS):
        for run, row in zip(runs, spent, strict=True):
            begun = time.perf_counter()
            run()
            row.append((time.perf_counter() - begun) * 1e3)
    return [float(np.median(row)) for row in spent]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("step", choices=["prepare", "train", "export", "report"])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.step == "prepare":
        prepare(arguments.shared, arguments.work)
    elif arguments.step == "train":
        train(arguments.work, arguments.steps, arguments.seed)
    elif arguments.step == "export":
        export(arguments.work)
    else:
        report(arguments.shared, arguments.work)


if __name__ == "__main__":
    main()
