"""The detector's training: which cell answers for which face, what the loss wants, and that it learns and resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest

torch = pytest.importorskip("torch")

from ddfa_batch.schemas.detectors import FCOS_STRIDES  # noqa: E402
from ddfa_batch.tasks.bundles import onnx_graphs  # noqa: E402
from ddfa_batch.tasks.inference.fcos import decode_fcos  # noqa: E402
from recipes.builtin.detector import batches, collage, network, warping  # noqa: E402
from recipes.builtin.detector.pictures import (  # noqa: E402
    Layer,
    Pictures,
    Sources,
    boxes_of,
    inside,
    points_in_box,
    seen_from_the_side,
    sizes_of,
)
from recipes.builtin.detector.trainer import DetectorTraining  # noqa: E402

RNG = np.random.default_rng(5)


pytestmark = pytest.mark.usefixtures("one_thread")


# ---------------------------------------------------------------------------------------------------------- targets


def boxes_within(n: int, side: int) -> np.ndarray:
    size = np.exp(RNG.uniform(np.log(16), np.log(0.9 * side), (n, 1))) * RNG.uniform(0.85, 1.15, (n, 2))
    corner = RNG.uniform(0, 1, (n, 2)) * np.maximum(side - size, 0)
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32)


def test_every_face_by_itself_is_some_cells_business() -> None:
    centres, strides = network.level_of_cells(320, 320)
    for box in boxes_within(300, 320):
        owner = network.owners(box[None], np.zeros(1, bool), 320, 320)
        mine = owner == 0
        assert 1 <= mine.sum() <= 18
        assert ((centres[mine] > box[:2]) & (centres[mine] < box[2:])).all()
        away = np.abs(centres[mine] - (box[:2] + box[2:]) / 2).max(axis=1)
        assert (away <= network.CENTRE_RADIUS * strides[mine]).all()


def test_the_smaller_face_gets_a_cell_that_two_claim() -> None:
    boxes = np.array([[0, 0, 60, 60], [10, 10, 50, 50]], np.float32)
    both = network.owners(boxes, np.zeros(2, bool), 64, 64)
    swapped = network.owners(boxes[::-1].copy(), np.zeros(2, bool), 64, 64)
    alone = network.owners(boxes[1:], np.zeros(1, bool), 64, 64)
    assert ((both == 1) == (alone == 0)).all()
    assert ((swapped == 0) == (alone == 0)).all()


def test_an_ignored_box_frees_its_cells_but_takes_none_from_a_face() -> None:
    boxes = np.array([[40, 40, 80, 80], [0, 0, 128, 128]], np.float32)
    owner = network.owners(boxes, np.array([False, True]), 256, 256)
    alone = network.owners(boxes[:1], np.zeros(1, bool), 256, 256)
    centres, _ = network.level_of_cells(256, 256)
    within = (centres < 128).all(axis=1)
    assert ((owner == 0) == (alone == 0)).all()
    assert (owner[within & (owner != 0)] == network.IGNORED).all()
    assert (owner[~within] == network.BACKGROUND).all()


def test_no_face_leaves_background_everywhere() -> None:
    owner = network.owners(np.zeros((0, 4), np.float32), np.zeros(0, bool), 100, 70)
    assert len(owner) == sum(-(-100 // s) * -(-70 // s) for s in FCOS_STRIDES)
    assert (owner == network.BACKGROUND).all()


# ------------------------------------------------------------------------------------------------------------- loss


def perfect(boxes: np.ndarray, owner: np.ndarray, side: int) -> list[torch.Tensor]:
    """The answer that puts each owned cell's box on its face and scores 1 there, 0 elsewhere."""
    centres, strides = network.level_of_cells(side, side)
    rows = np.zeros((5, len(owner)), np.float32)
    rows[0] = np.where(owner >= 0, 20, -20)
    mine = owner >= 0
    face = boxes[owner[mine]]
    distances = np.concatenate([centres[mine] - face[:, :2], face[:, 2:] - centres[mine]], axis=1)
    rows[1:, mine] = np.log(distances / strides[mine, None]).T
    parts, at = [], 0
    for stride in FCOS_STRIDES:
        n = -(-side // stride)
        parts.append(torch.from_numpy(rows[:, at : at + n * n].reshape(1, 5, n, n).copy()).requires_grad_())
        at += n * n
    return parts


def loss_of(levels: list[torch.Tensor], boxes: np.ndarray, owner: np.ndarray, side: int) -> torch.Tensor:
    centres, strides = (torch.from_numpy(a) for a in network.level_of_cells(side, side))
    return network.detection_loss(
        levels, torch.from_numpy(owner[None]), torch.from_numpy(boxes[None]), centres, strides
    )


def test_what_targets_encode_the_detector_decodes() -> None:
    boxes = boxes_within(6, 320)
    owner = network.owners(boxes, np.zeros(6, bool), 320, 320)
    levels = perfect(boxes, owner, 320)
    found, scores = decode_fcos([level.detach().numpy() for level in levels], 0.5)
    assert len(found) == (owner >= 0).sum()
    assert (scores > 0.99).all()
    np.testing.assert_allclose(found, boxes[owner[owner >= 0]], atol=1e-2)
    assert float(loss_of(levels, boxes, owner, 320).detach()) < 1e-3


def test_a_worse_answer_costs_more() -> None:
    boxes = np.array([[40, 40, 110, 120]], np.float32)
    owner = network.owners(boxes, np.zeros(1, bool), 256, 256)
    best = float(loss_of(perfect(boxes, owner, 256), boxes, owner, 256).detach())
    moved = perfect(boxes + 12, owner, 256)
    assert float(loss_of(moved, boxes, owner, 256).detach()) > best + 0.2
    silence = torch.tensor([40.0, 0, 0, 0, 0]).reshape(1, 5, 1, 1)
    missed = [level.detach() - silence for level in perfect(boxes, owner, 256)]
    assert float(loss_of(missed, boxes, owner, 256)) > best + 1
    alarm = perfect(boxes, owner, 256)
    with torch.no_grad():
        alarm[0][0, 0, 20:24, 20:24] = 20
    assert float(loss_of(alarm, boxes, owner, 256).detach()) > best + 1


def test_ignored_cells_teach_nothing() -> None:
    boxes = np.array([[40, 40, 110, 120], [130, 130, 240, 240]], np.float32)
    owner = network.owners(boxes, np.array([False, True]), 256, 256)
    levels = [torch.randn(1, 5, -(-256 // s), -(-256 // s), requires_grad=True) for s in FCOS_STRIDES]
    loss_of(levels, boxes, owner, 256).backward()
    gradient = torch.cat([level.grad.flatten(2) for level in levels], dim=2)[0].abs()
    ignored = torch.from_numpy(owner == network.IGNORED)
    assert ignored.any()
    assert float(gradient[:, ignored].max()) == 0
    assert float(gradient[0, torch.from_numpy(owner == network.BACKGROUND)].min()) > 0
    assert float(gradient[1:, torch.from_numpy(owner < 0)].max()) == 0


def test_overlaps_are_those_of_the_definition() -> None:
    a, b = (torch.from_numpy(boxes_within(50, 200)).double() for _ in range(2))
    iou, giou = network.overlaps(a, b)
    for i in range(50):
        (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a[i].tolist(), b[i].tolist()
        shared = max(min(ax1, bx1) - max(ax0, bx0), 0) * max(min(ay1, by1) - max(ay0, by0), 0)
        union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - shared
        hull = (max(ax1, bx1) - min(ax0, bx0)) * (max(ay1, by1) - min(ay0, by0))
        assert float(iou[i]) == pytest.approx(shared / union, abs=1e-9)
        assert float(giou[i]) == pytest.approx(shared / union - (hull - union) / hull, abs=1e-9)


# -------------------------------------------------------------------------------------------------------------- net


def stirred() -> network.FaceDetector:
    """A net whose normalisations have seen something, so that nothing folds to the identity by chance."""
    torch.manual_seed(0)
    net = network.FaceDetector()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.6, 1.4)
                module.bias.uniform_(-0.2, 0.4)
                module.running_mean.uniform_(-0.3, 0.3)
                module.running_var.uniform_(0.5, 2)
    return net.eval()


@pytest.mark.parametrize("shape", [(96, 160), (256, 224), (32, 32)])
def test_the_graph_answers_what_the_net_does(shape: tuple[int, int]) -> None:
    net = stirred()
    graph = onnx_graphs.fcos({name: tensor.numpy() for name, tensor in net.state_dict().items()})
    planes = RNG.uniform(0, 255, (1, 3, *shape)).astype(np.float32)
    found = ort.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, {"input": planes})
    with torch.no_grad():
        expected = net(torch.from_numpy(planes / 255))
    assert [f.shape for f in found] == [tuple(e.shape) for e in expected]
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e.numpy(), rtol=1e-3, atol=1e-3)


def test_the_file_is_small_enough_for_a_wheel() -> None:
    graph = onnx_graphs.fcos({name: tensor.numpy() for name, tensor in stirred().state_dict().items()})
    assert len(graph) < 1_500_000


def squares(n: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey pictures with one bright square each, and its box (n, 1, 4)."""
    images = np.full((n, side, side, 3), 90, np.uint8)
    boxes = np.zeros((n, 1, 4), np.float32)
    for image, box in zip(images, boxes, strict=True):
        size = int(RNG.integers(30, 60))
        x, y = (int(v) for v in RNG.integers(0, side - size, 2))
        image[y : y + size, x : x + size] = (40, 200, 240)
        box[:] = x, y, x + size, y + size
    return images, boxes


def test_a_few_pictures_are_learnt_by_heart() -> None:
    images, boxes = squares(8, 128)
    owner = np.stack([network.owners(b, np.zeros(1, bool), 128, 128) for b in boxes])
    batch = batches.CollageBatch(images, owner, boxes)
    training = DetectorTraining.begin(0, 80)
    losses = [training.learn(batch) for _ in range(80)]
    assert np.mean(losses[-5:]) < 0.4 * np.mean(losses[:5])
    net = ort.InferenceSession(onnx_graphs.fcos(training.weights()), providers=["CPUExecutionProvider"])
    for image, box in zip(images, boxes, strict=True):
        planes = image.transpose(2, 0, 1)[None].astype(np.float32)
        found, scores = decode_fcos(net.run(None, {"input": planes}), 0.0)
        np.testing.assert_allclose(found[scores.argmax()], box[0], atol=8)


# --------------------------------------------------------------------------------------------------------- pictures


def layer(height: int, width: int, boxes: list[list[float]]) -> Layer:
    image = RNG.integers(0, 60, (height, width, 3)).astype(np.uint8)
    for x0, y0, x1, y1 in np.int64(boxes).reshape(-1, 4):
        image[y0:y1, x0:x1] = (0, 0, 255)
    points = points_in_box(np.array(boxes, np.float32).reshape(-1, 4))
    return Layer(image, points, np.zeros(len(boxes), bool))


@pytest.fixture(scope="module")
def sources() -> Sources:
    crops = Pictures.of([layer(120, 120, [[20, 20, 100, 100]]) for _ in range(3)])
    return Sources(
        crops,
        crops.chosen([2]),
        Pictures.of([layer(210, 190, [[60, 50, 130, 130]]) for _ in range(3)]),
        Pictures.of([layer(300, 400, [[30, 40, 60, 75], [200, 100, 260, 170]]), layer(100, 90, [])]),
        Pictures.of([layer(150, 260, []), layer(64, 64, [])]),
    )


def test_pictures_come_back_from_their_file(sources: Sources, tmp_path: Path) -> None:
    sources.scenes.save(tmp_path / "scenes.npz")
    again = Pictures.load(tmp_path / "scenes.npz")
    assert len(again) == 2
    for i in range(2):
        np.testing.assert_array_equal(again.picture(i).image, sources.scenes.picture(i).image)
        np.testing.assert_array_equal(again.picture(i).points, sources.scenes.picture(i).points)


def test_a_source_may_be_empty() -> None:
    none = Pictures.of([])
    assert len(none) == 0
    assert none.points.shape == (0, 68, 2)


@pytest.mark.parametrize("side", [64, 160, 320])
def test_collages_hold_their_boxes(sources: Sources, side: int) -> None:
    faces = 0
    for seed in range(40):
        image, boxes, ignored = collage.collage(sources, side, np.random.default_rng(seed))
        assert image.shape == (side, side, 3)
        assert image.dtype == np.uint8
        assert len(boxes) == len(ignored)
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (inside(boxes[~ignored], (0, 0, side, side)) > 0.57).all()
        assert (sizes_of(boxes[~ignored]) >= 12).all()
        faces += int((~ignored).sum())
    assert faces > 20


def test_a_collage_is_a_function_of_its_generator(sources: Sources) -> None:
    first, second = (batches.make_batch(sources, 7, 2) for _ in range(2))
    np.testing.assert_array_equal(first.pictures, second.pictures)
    np.testing.assert_array_equal(first.owner, second.owner)
    assert not np.array_equal(first.pictures, batches.make_batch(sources, 7, 6).pictures)


def test_a_framed_face_lies_where_its_box_says(sources: Sources) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        framed = collage.framed(sources.crops.picture(0), sources, 200, rng)
        x0, y0, x1, y1 = boxes_of(framed.points)[0]
        x, y = int(x0 + x1) // 2, int(y0 + y1) // 2
        inner = framed.image[y - 15 : y + 15, x - 15 : x + 15]
        assert (inner == (0, 0, 255)).mean() > 0.95
        assert 0.25 * 200 * 0.9 <= x1 - x0 <= 0.65 * 200 * 1.2


def test_profiles_are_told_by_the_nose_tip() -> None:
    face = np.zeros((3, 68, 2), np.float32)
    face[:, 16] = (100, 20)  # from ear to ear, slightly turned
    face[:, 30] = [(50, 40), (95, 40), (-30, 10)]
    assert seen_from_the_side(face).tolist() == [False, True, True]


def test_pictures_without_faces_have_none(sources: Sources) -> None:
    for seed in range(5):
        empty = collage.without_faces(sources, 100, np.random.default_rng(seed))
        assert len(empty.points) == 0
        assert empty.image.shape == (100, 100, 3)


def test_points_turn_with_their_picture() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    cv2.circle(image, (70, 30), 6, (255, 255, 255), -1)
    spot = Layer(image, points_in_box(np.float32([[64, 24, 76, 36]])), np.zeros(1, bool))
    matrix = warping.similarity_about(0.5, 30, np.float32([50, 50]), np.float32([40, 60]))
    moved = warping.warp(spot.image, matrix, 90, 90, cv2.BORDER_CONSTANT, [0, 0, 0])
    y, x = np.nonzero(moved[..., 0] > 127)
    x0, y0, x1, y1 = boxes_of(warping.moved_points(spot.points, matrix))[0]
    np.testing.assert_allclose([x.mean(), y.mean()], [(x0 + x1) / 2, (y0 + y1) / 2], atol=0.5)


def test_no_picture_that_was_given_is_changed(sources: Sources) -> None:
    before = [replace(p, pixels=p.pixels.copy()).pixels for p in vars(sources).values()]
    for seed in range(20):
        collage.collage(sources, 128, np.random.default_rng(seed))
    for pictures, pixels in zip(vars(sources).values(), before, strict=True):
        np.testing.assert_array_equal(pictures.pixels, pixels)


# ----------------------------------------------------------------------------------------------------------- resume


def test_a_training_that_goes_on_is_one_that_never_stopped(sources: Sources) -> None:
    drawn = [batches.make_batch(sources, 0, step) for step in (2, 2, 7)]
    straight = DetectorTraining.begin(0, 3)
    losses = [straight.learn(batch) for batch in drawn]
    stopped = DetectorTraining.begin(0, 3)
    stopped.learn(drawn[0])
    resumed = DetectorTraining.begin(9, 3)
    resumed.restore(stopped.state())
    assert [resumed.learn(batch) for batch in drawn[1:]] == pytest.approx(losses[1:], rel=1e-5)
    assert (resumed.step, resumed.pictures) == (straight.step, straight.pictures)
    for name, weight in resumed.weights().items():
        np.testing.assert_allclose(weight, straight.weights()[name], rtol=1e-4, atol=1e-6)


def test_batches_made_ahead_are_those_made_here(sources: Sources) -> None:
    state = torch.get_rng_state()
    for step, batch in zip((2, 3), batches.batches(sources, 3, 2, 4), strict=True):
        here = batches.make_batch(sources, 3, step)
        np.testing.assert_array_equal(batch.pictures, here.pictures)
        np.testing.assert_array_equal(batch.owner, here.owner)
        np.testing.assert_array_equal(batch.boxes, here.boxes)
    assert torch.equal(torch.get_rng_state(), state)  # what draws weights is left alone


def test_a_fault_in_the_process_that_makes_batches_is_raised_here(sources: Sources) -> None:
    nothing = replace(sources, empty=Pictures.of([layer(8, 8, [])]).chosen([0]))
    object.__setattr__(nothing.empty, "sizes", np.zeros((0, 2), np.int64))
    with pytest.raises(ValueError, match="high <= 0"):
        list(batches.batches(nothing, 3, 2, 8))
