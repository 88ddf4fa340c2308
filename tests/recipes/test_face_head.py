"""The head that tells faces from what is none: what it learns, and that a network with it says the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from small_training import CONFIG, MEAN, NET, STD  # noqa: E402
from training_faces import STILLS  # noqa: E402

from ddfa_batch.schemas.errors import ShapeError, TrainingError  # noqa: E402
from ddfa_batch.tasks.bundles.half_weights import stores_halves, with_half_weights  # noqa: E402
from ddfa_batch.tasks.inference.regressor import FACE, PARAMS, combined_scores, log_odds  # noqa: E402
from ddfa_batch.tasks.training import export, mini_batches, options, state  # noqa: E402
from ddfa_batch.tasks.training.tensor_batch import INPUT_MEAN, INPUT_STD  # noqa: E402
from recipes.builtin.detector.teachers import session  # noqa: E402
from recipes.builtin.face_head import FaceHead, fit_face_head  # noqa: E402
from recipes.builtin.regressor_graph import BLOCKS, seen_by_graph, with_face_head  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def boxes(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is seen, of which two numbers tell something together, a detector that tells something else, the truth."""
    rng = np.random.default_rng(seed)
    seen, odds = rng.normal(3, 2, (n, 20)), rng.normal(0, 1.5, n)
    truth = 2 * np.abs(seen[:, 0] - seen[:, 1]) - 5 + odds + rng.logistic(0, 0.5, n) > 0
    return seen, odds, truth


def test_it_learns_more_than_the_detector_knows_and_more_than_a_line_could() -> None:
    head = fit_face_head(*boxes(6000, 0), seed=0)
    seen, odds, truth = boxes(3000, 1)
    together = ((head(seen, odds) > 0) == truth).mean()
    assert together > 0.85
    assert ((odds > 0) == truth).mean() < together - 0.1
    line, *_ = np.linalg.lstsq(np.column_stack([seen, odds, np.ones(3000)]), truth - 0.5)
    assert ((np.column_stack([seen, odds, np.ones(3000)]) @ line > 0) == truth).mean() < together - 0.1


def test_a_seed_fits_one_head_and_leaves_other_draws_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (fit_face_head(*boxes(600, 0), seed=seed) for seed in (0, 0, 1))
    assert torch.rand(1) == expected
    np.testing.assert_array_equal(first.hidden_weight, again.hidden_weight)
    assert np.abs(first.hidden_weight - other.hidden_weight).max() > 0


def test_what_never_varied_counts_for_nothing() -> None:
    seen, odds, truth = boxes(600, 0)
    seen[:, 5] = 0
    head = fit_face_head(seen, odds, truth, seed=0)
    seen[:, 5] = 1e3
    assert not head.hidden_weight[:, 5].any()
    assert np.abs(head(seen, odds)).max() < 100


def test_a_detector_that_is_always_wrong_is_not_believed_backwards() -> None:
    seen, odds, truth = boxes(500, 0)
    assert fit_face_head(seen, -np.abs(odds) * np.where(truth, 1, -1), truth, seed=0).trust == 0


def test_one_kind_alone_cannot_be_told_apart() -> None:
    seen, odds, truth = boxes(50, 0)
    for wrong in (np.zeros_like(truth), np.ones_like(truth)):
        with pytest.raises(TrainingError, match="boxes on faces and boxes on what is none"):
            fit_face_head(seen, odds, wrong, seed=0)
    with pytest.raises(ShapeError, match="detector_odds"):
        fit_face_head(seen, odds[:-1], truth, seed=0)


@pytest.fixture(scope="module")
def graph() -> bytes:
    return export.to_onnx(state.start(NET, CONFIG, MEAN, STD).net.eval(), CONFIG.sampling.size)


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return mini_batches.make_batch(STILLS, np.arange(6), CONFIG.sampling, options.Augmentation(), [3]).images


def random_head(n_seen: int, seed: int) -> FaceHead:
    rng = np.random.default_rng(seed)
    hidden, bias, weight = (rng.normal(size=shape).astype(np.float32) for shape in ((8, n_seen), 8, 8))
    return FaceHead(hidden, bias, weight, 0.3, 0.8)


def answers(graph: bytes, crops: np.ndarray, names: list[str]) -> list[np.ndarray]:
    planes = (crops.transpose(0, 3, 1, 2).astype(np.float32) - INPUT_MEAN) / INPUT_STD
    return [np.asarray(answer) for answer in session(graph).run(names, {"input": planes})]


def test_a_head_sees_means_and_maxima_of_the_last_blocks(graph: bytes, crops: np.ndarray) -> None:
    net, maps = state.start(NET, CONFIG, MEAN, STD).net.eval(), []
    for name in ("dw6", "dw5_6", "dw5_5", "dw5_4"):
        net.get_submodule(name).register_forward_hook(lambda _, __, answer: maps.append(answer))
    with torch.no_grad():
        net((torch.from_numpy(crops).permute(0, 3, 1, 2) - INPUT_MEAN) / INPUT_STD)
    assert len(maps) == BLOCKS
    expected = [pool(answer, dim=(2, 3)) for answer in maps[::-1] for pool in (torch.mean, torch.amax)]
    np.testing.assert_allclose(seen_by_graph(graph)(crops), np.concatenate(expected, axis=1), rtol=1e-4, atol=1e-5)


def test_the_network_tells_what_the_head_tells(graph: bytes, crops: np.ndarray) -> None:
    see = seen_by_graph(graph)
    seen = see(crops)
    head = random_head(seen.shape[1], 0)
    params, face = answers(with_face_head(graph, head), crops, [PARAMS, FACE])
    np.testing.assert_array_equal(params, answers(graph, crops, [PARAMS])[0])
    np.testing.assert_allclose(face[:, 0], head(seen, np.zeros(len(seen))), rtol=1e-4, atol=1e-4)
    scores = np.linspace(0, 1, len(face)).astype(np.float32)
    expected = 1 / (1 + np.exp(-head(seen, log_odds(scores))))
    np.testing.assert_allclose(combined_scores(scores, face[:, 0], head.trust), expected, rtol=1e-3, atol=1e-6)


def test_a_head_takes_the_place_of_another_and_nothing_of_that_is_left(graph: bytes, crops: np.ndarray) -> None:
    n_seen = seen_by_graph(graph)(crops).shape[1]
    once = with_face_head(graph, random_head(n_seen, 1))
    twice = with_face_head(with_half_weights(with_face_head(graph, random_head(n_seen, 0))), random_head(n_seen, 1))
    assert stores_halves(twice)
    assert not stores_halves(once)
    for field in ("node", "output"):
        named = [{each.name for each in getattr(onnx.load_from_string(each).graph, field)} for each in (once, twice)]
        assert named[0] == named[1]
    (face,), (again,) = (answers(each, crops, [FACE]) for each in (once, twice))
    np.testing.assert_allclose(again, face, rtol=1e-2, atol=1e-1)


def test_scores_stay_scores() -> None:
    face = np.array([-1e9, -3, 0, 3, 1e9, np.nan], np.float32)
    for score in (0.0, 0.5, 1.0):
        found = combined_scores(np.full(6, score, np.float32), face, 1.0)
        assert ((found[:5] >= 0) & (found[:5] <= 1)).all()
        assert (np.diff(found[:5]) >= 0).all()
        assert not found[5] > 0  # what is no number is no face
    assert combined_scores(np.float32([0.3]), np.float32([0]), 1.0)[0] == pytest.approx(0.3)
