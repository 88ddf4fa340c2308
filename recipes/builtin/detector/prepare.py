"""The detector's pictures of every source, split into those that train and those that validate."""

from __future__ import annotations

import hashlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq

from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.arrays import U8
from ddfa_batch.tasks.geometry.boxes import overlap
from recipes.builtin.detector.backgrounds import backgrounds
from recipes.builtin.detector.pictures import (
    Layer,
    Pictures,
    boxes_of,
    inside,
    points_in_box,
    read_picture,
    scaled,
)
from recipes.builtin.detector.teachers import (
    Boxes,
    Teacher,
    agreed,
    at_scales,
    bordered,
    conversion,
    converted,
    teachers,
)

#: Pictures of people of `crowds` that validate; the hash of so few names would leave chance too much.
HELD_OUT_SCENES = ("crowds/10.jpg", "crowds/18.jpg", "crowds/24.jpg", "boxes_dlib/2008_002079.jpg")
#: Sum of the teachers' scores from which a box is a face, and from which it may be one; each gives up to 1.
AGREED, DOUBTFUL = 1.5, 0.6
#: A crop must hold this share of its face's box: a few fits went astray.
HELD = 0.9
#: A picture of `boxes_dlib` without any.
NO_PEOPLE = "dogs.jpg"
#: Black pixels around a picture in which neighbours are looked for.
_BORDER = 20
#: Longest side of a photograph of people, pixels; larger ones are made smaller.
_LONGEST_SIDE = 1100
#: Scales at which the teachers look at a photograph of people.
_SCALES = (0.25, 0.5, 1, 1.5, 2)
#: Pictures of a source from which is learnt how the teachers' boxes differ.
_N_CONVERSION = 300


def validates(name: str) -> bool:
    """Whether a picture, or a person, of this name is kept from training: one in ten."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10 == 0


def person_of(name: str) -> str:
    """Whom a frame of YouTube Faces shows: all frames of a person train, or all validate."""
    return re.sub(r"_\d+\.jpg$", "", name)


def prepare(shared: Path, work: Path) -> None:
    """Write WORK/detector/SOURCE-PART.npz of every source and both parts."""
    target = work / "detector"
    target.mkdir(parents=True, exist_ok=True)
    find = teachers(shared)
    every = {"crops": list(crops(work)), "portraits": list(portraits(shared))}
    sample = np.random.default_rng(0)
    for name in ("crops", "portraits"):
        chosen = sample.choice(len(every[name]), min(_N_CONVERSION, len(every[name])), replace=False)
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


def crops(work: Path) -> Iterator[tuple[str, Layer]]:
    """AFLW's crops with the 68 points of their fits, by name."""
    table = open_run(work / "aflw/fit-all").faces(columns=["key", "landmarks68"])
    points = table["landmarks68"].combine_chunks().flatten().to_numpy().reshape(-1, 68, 3)[..., :2]
    for key, face in zip(table["key"].to_pylist(), points, strict=True):
        image = read_picture(work / "aflw/images" / key)
        if inside(boxes_of(face[None]), (0, 0, *image.shape[1::-1]))[0] >= HELD:
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
            if inside(boxes_of(points), (0, 0, *image.shape[1::-1]))[0] >= HELD:
                yield person_of(row["key"]), Layer(image, points, np.zeros(1, bool))


def portraits(shared: Path) -> Iterator[tuple[str, Layer]]:
    """Frames of YouTube Faces with their own 68 points, by person."""
    table = pq.read_table(shared / "data/youtube_faces/frames.parquet")
    for name, jpeg, points in zip(*(table[c].to_pylist() for c in ("name", "jpeg", "pts68")), strict=True):
        image = np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)
        yield person_of(name), Layer(image, np.array(points, np.float32).reshape(1, 68, 2), np.zeros(1, bool))


def with_neighbours(layer: Layer, find: Teacher, how: np.ndarray) -> Layer:
    """The layer, with whatever else looks like a face in it marked as ignored."""
    boxes, _ = find(bordered(layer.image, _BORDER))
    boxes = converted(np.asarray(boxes, np.float64).reshape(-1, 4) - _BORDER, how)
    others = boxes[overlap(boxes[:, None], boxes_of(layer.points).astype(np.float64)).max(axis=1) < 0.2]
    points = np.concatenate([layer.points, points_in_box(others)])
    return Layer(layer.image, points, np.concatenate([layer.ignored, np.ones(len(others), bool)]))


def scenes(shared: Path, find: dict[str, Teacher], how: dict[str, np.ndarray]) -> Iterator[tuple[str, Layer]]:
    """Photographs of people with the boxes on which two teachers agree; those of one alone are ignored."""
    by_hand = hand_boxes(shared / "data/boxes_dlib")
    for folder in ("crowds", "boxes_dlib"):
        for path in sorted((shared / "data" / folder).glob("*.jpg")):
            image = read_picture(path)
            longest = max(image.shape[:2])
            if longest > _LONGEST_SIDE:
                image = scaled(image, _LONGEST_SIDE / longest, cv2.INTER_AREA)
            boxes, votes = voted(image, find, how)
            if path.name == NO_PEOPLE:
                boxes, votes = boxes[:0], votes[:0]
            faces, doubtful = (votes >= AGREED).sum(), (votes < AGREED).sum()
            told = f"{faces} faces, {doubtful} doubtful; by hand {by_hand.get(path.name, 0)}"
            print(f"{folder}/{path.name}: {told}", flush=True)
            boxes, votes = boxes[votes >= DOUBTFUL], votes[votes >= DOUBTFUL]
            yield f"{folder}/{path.name}", Layer(image, points_in_box(boxes), votes < AGREED)


def hand_boxes(folder: Path) -> dict[str, int]:
    """How many faces dlib's XML files tell of each picture."""
    roots = (ET.parse(folder / file).getroot() for file in ("training.xml", "testing.xml"))
    return {image.attrib["file"]: len(image.findall("box")) for root in roots for image in root.iter("image")}


def voted(image: U8, find: dict[str, Teacher], how: dict[str, np.ndarray]) -> tuple[Boxes, np.ndarray]:
    """The teachers' boxes (N, 4) as the landmarks', and their votes (N,); 0 for a part of a face with more votes."""
    found = {}
    for name, one in find.items():
        boxes, scores = at_scales(one, image, _SCALES)
        found[name] = converted(boxes, how[name]), scores
    boxes, votes = agreed(found)
    for i in range(len(boxes)):
        around = (inside(boxes[[i]], boxes[j]) > 0.75 for j in range(len(boxes)) if votes[j] > votes[i])
        votes[i] = 0 if any(share[0] for share in around) else votes[i]
    return boxes, votes
