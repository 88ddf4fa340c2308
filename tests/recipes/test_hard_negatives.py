"""Pictures without a face that a detector mistakes, faces that wear something, and a net that is trained on."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ddfa_batch.schemas.arrays import F32, U8  # noqa: E402
from ddfa_batch.schemas.detectors import DetectorSpec  # noqa: E402
from ddfa_batch.schemas.errors import InputError  # noqa: E402
from ddfa_batch.schemas.faces import Detections  # noqa: E402
from ddfa_batch.tasks.bundles import onnx_graphs  # noqa: E402
from recipes.builtin import distractors  # noqa: E402
from recipes.builtin.detector import mining, restarting, wearing, without_faces  # noqa: E402
from recipes.builtin.detector.background_formats import (  # noqa: E402
    embedded_pictures,
    gimp_pattern,
    on_plain_ground,
)
from recipes.builtin.detector.backgrounds import reserved, unpacked  # noqa: E402
from recipes.builtin.detector.export import last_graph  # noqa: E402
from recipes.builtin.detector.pictures import Layer, Pictures, Sources, boxes_of, no_faces, points_in_box  # noqa: E402
from recipes.builtin.detector.trainer import DetectorTraining  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def grey(height: int, width: int, value: int = 120) -> U8:
    return np.full((height, width, 3), value, np.uint8)


def drawn_face(side: int = 120) -> F32:
    """68 points of an upright face: an oval of jaw and brows, eyes, a nose and a mouth where they belong."""
    points = points_in_box(np.array([[20, 20, 100, 110]], np.float32))[0] * side / 120
    angle = np.linspace(np.pi, 0, 17)
    points[:17] = np.stack([60 + 40 * np.cos(angle), 55 + 55 * np.sin(angle)], axis=1) * side / 120
    points[27:31] = np.stack([np.full(4, 60), np.linspace(50, 72, 4)], axis=1) * side / 120
    for eye, x in ((slice(36, 42), 44), (slice(42, 48), 76)):
        points[eye] = np.array([x, 50]) * side / 120
    return points.astype(np.float32)


# ------------------------------------------------------------------------------------------------------ distractors


def test_distractors_are_crops_of_what_was_found_and_is_no_face() -> None:
    face = Layer(grey(120, 120, 200), drawn_face()[None], np.zeros(1, bool))
    empty = Pictures.of([Layer(grey(300, 400, 20), no_faces(), np.zeros(0, bool))])
    faces = Pictures.of([face])
    part = Sources(faces, faces.chosen([]), faces, faces, empty)
    shown: list[U8] = []

    def detect(image: U8) -> Detections:
        shown.append(image)
        box = np.array([[10, 10, 50, 60]], np.float32).repeat(6, axis=0)
        return Detections(box, np.linspace(0.9, 0.2, 6).astype(np.float32))

    crops = list(distractors.distractors(part, detect, DetectorSpec("fcos", "", 0.5, (720, 1080)), 5))
    assert len(shown) == 5
    assert {crop.shape for crop in crops} == {(120, 120, 3)}
    assert len(crops) <= 5 * distractors.MOST
    assert len(crops) % distractors.MOST == 0


# ---------------------------------------------------------------------------------------------------------- formats


def pattern_file(depth: int, width: int = 3, height: int = 2) -> bytes:
    pixels = np.arange(width * height * depth, dtype=np.uint8)
    return struct.pack(">5I", 28, 1, width, height, depth) + b"GPAT" + b"abc\0" + pixels.tobytes()


def test_a_gimp_pattern_is_its_pixels_repeated() -> None:
    image = gimp_pattern(pattern_file(3))
    assert image is not None
    assert image.shape[0] >= 300
    assert image.shape[1] >= 400
    assert image[0, 1].tolist() == [5, 4, 3]  # BGR of the second pixel
    np.testing.assert_array_equal(image[:2], image[2:4])
    assert gimp_pattern(pattern_file(1)) is not None


@pytest.mark.parametrize("content", [b"", b"GPAT", pattern_file(3)[:-1], b"x" * 60])
def test_what_is_no_gimp_pattern_is_none(content: bytes) -> None:
    assert gimp_pattern(content) is None


def test_photographs_are_found_in_a_resource_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (110, 130, 3)).astype(np.uint8)
    files = [cv2.imencode(suffix, noise)[1].tobytes() for suffix in (".png", ".jpg", ".webp")]
    icon = cv2.imencode(".png", noise[:40, :40])[1].tobytes()
    content = b"qres" + b"".join(struct.pack(">I", len(file)) + file for file in (*files, icon))
    (tmp_path / "erase.rcc").write_bytes(content + struct.pack(">I", 2000) + b"\xff\xd8\xff\xe0cut")
    found = dict(embedded_pictures(tmp_path / "erase.rcc"))
    assert [image.shape for image in found.values()] == [(110, 130, 3)] * 3
    assert next(iter(found)) == "erase-8"
    np.testing.assert_array_equal(found["erase-8"], noise)


def test_a_clear_ground_gets_a_colour() -> None:
    image = np.dstack([grey(4, 4, 200), np.array([[0, 255]] * 2).repeat(2, axis=0).repeat(2, axis=1)]).astype(np.uint8)
    found = on_plain_ground(image, (1, 2, 3))
    assert found[0, 0].tolist() == [1, 2, 3]
    assert found[0, 3].tolist() == [200, 200, 200]


def test_half_of_the_photographs_of_animals_train_and_the_others_test(tmp_path: Path) -> None:
    share, folder = tmp_path / "share", tmp_path / "out"
    folder.mkdir()
    (share / "gcompris-qt/rcc").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3)).astype(np.uint8)
    file = cv2.imencode(".jpg", noise)[1].tobytes()
    (share / "gcompris-qt/rcc/erase.rcc").write_bytes(b"qres" + (struct.pack(">I", len(file)) + file) * 12)
    unpacked(share, folder)
    training = {path.stem for path in folder.iterdir()}
    testing = {name for name, _ in without_faces.of_debian(share)}
    assert len(training) + len(testing) == 12
    assert not training & testing
    assert training
    assert all(reserved(name) for name in testing)


# ----------------------------------------------------------------------------------------------------------- wearing


def test_a_mask_hides_the_mouth_and_glasses_the_eyes_and_nothing_else() -> None:
    face, image = drawn_face(), grey(120, 120)
    for cover, hidden, seen in (
        (wearing.masked, [60, 90], [60, 30]),
        (wearing.shaded, [44, 50], [60, 100]),
    ):
        found = cover(image, face, np.random.default_rng(0))
        assert (found[hidden[1], hidden[0]] != 120).any()
        assert (found[seen[1], seen[0]] == 120).all()
        assert (image == 120).all()


def test_some_faces_wear_something_and_keep_their_points() -> None:
    layer = Layer(grey(120, 120), drawn_face()[None], np.zeros(1, bool))
    worn = [wearing.worn(layer, np.random.default_rng(seed)) for seed in range(300)]
    changed = sum(not np.array_equal(each.image, layer.image) for each in worn)
    assert 10 < changed < 60
    assert all(each.points is layer.points for each in worn)


def test_a_covered_head_is_no_face_and_shoulders_stay() -> None:
    portrait = Layer(grey(200, 200), points_in_box(np.array([[70, 50, 130, 120]], np.float32)), np.zeros(1, bool))
    found = wearing.headless(portrait, grey(50, 50, 0), np.random.default_rng(1))
    assert len(found.points) == 0
    assert (found.image[50:120, 75:125] != 120).all()
    assert (found.image[190:, :] == 120).all()


# ------------------------------------------------------------------------------------------------------------ mining


def bright_spot(image: U8, pass_scale: float = 1.0) -> Detections:
    """A detector that takes what is white for faces."""
    y, x = np.nonzero(image.min(axis=2) > 200)
    if not len(x):
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    return Detections(np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], np.float32), np.float32([0.9]))


def test_mistakes_are_cut_out_and_faces_are_not() -> None:
    spot = grey(300, 300, 50)
    spot[100:160, 100:160] = 255
    face = Layer(spot, points_in_box(np.array([[100, 100, 160, 160]], np.float32)), np.zeros(1, bool))
    nothing = Layer(spot, no_faces(), np.zeros(0, bool))
    none = Pictures.of([])
    portraits = Pictures.of([face])
    pieces = list(mining.mistakes(bright_spot, Sources(none, none, portraits, portraits, Pictures.of([nothing]))))
    assert len(pieces) == 12 + 1  # an empty picture at three sizes and four turns, and the covered head's grey ground
    for piece in pieces[:12]:
        assert max(piece.image.shape[:2]) <= 160
        assert 0.1 < (piece.image.min(axis=2) > 200).mean() < 0.35
    assert list(mining.mistakes(bright_spot, Sources(none, none, none, portraits, none))) == []


def test_what_was_mistaken_is_shown_again() -> None:
    empty, mistaken = (Pictures.of([Layer(grey(50, 50, v), no_faces(), np.zeros(0, bool))]) for v in (0, 255))
    none = Pictures.of([])
    sources, rng = Sources(none, none, none, none, empty, mistaken), np.random.default_rng(0)
    drawn = [int(sources.nothing(rng).image[0, 0, 0]) for _ in range(400)]
    assert set(drawn) == {0, 255}
    assert 0.3 < np.mean(drawn) / 255 < 0.5
    assert Sources(none, none, none, none, empty).nothing(rng).image[0, 0, 0] == 0


# -------------------------------------------------------------------------------------------------------- restarting


def test_a_net_taken_up_from_its_graph_answers_as_that_does_and_can_learn() -> None:
    graph = onnx_graphs.fcos(DetectorTraining.begin(4, 1).weights())
    pictures = [np.random.default_rng(i).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8) for i in range(3)]
    net = restarting.unfolded(graph, pictures)
    planes = torch.from_numpy(pictures[0]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        plain = restarting.net_of_graph(graph)(planes)
        unfolded = net.eval()(planes)
        learning = net.train()(planes)
    for one, other, third in zip(plain, unfolded, learning, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
        assert float((third - one).abs().mean()) < 0.5
    assert float(net.bn1.running_var.std()) > 0  # it holds statistics, and no longer the identity


def test_without_a_checkpoint_one_is_told_to_train(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train first"):
        last_graph(tmp_path)


def test_boxes_of_a_drawn_face_hold_its_eyes() -> None:
    x0, y0, x1, y1 = boxes_of(drawn_face()[None])[0]
    assert x0 < 44 < x1
    assert y0 < 50 < y1
