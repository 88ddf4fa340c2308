"""Algorithm 1 on a tiny net: what is selected, what survives, and that a killed training goes on to the bit."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from small_training import CONFIG, MEAN, NET, SIZE, SPACE, STD, begin, same_weights, weights_of_net  # noqa: E402
from training_faces import MODEL, STILLS  # noqa: E402

from ddfa_batch.schemas.errors import TrainingError  # noqa: E402
from ddfa_batch.tasks.training import losses, meta_joint, options, state  # noqa: E402
from ddfa_batch.tasks.training.losses import FaceSpace  # noqa: E402
from ddfa_batch.tasks.training.options import METHODS, Sampling  # noqa: E402
from ddfa_batch.tasks.training.state import TrainingState  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("distance", options.DISTANCES)
@pytest.mark.parametrize("landmarks", options.LANDMARK_TERMS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(method: str, landmarks: str, distance: str) -> None:
    config = replace(CONFIG, method=method, landmarks=landmarks, distance=distance, iterations=2)
    heard: list[state.Record] = []
    done = meta_joint.run(begin(config), STILLS, SPACE, report=heard.append)
    assert done.iteration == 2
    assert list(done.history) == heard
    assert not same_weights(weights_of_net(begin(config)), weights_of_net(done))
    for i, record in enumerate(heard):
        assert set(record.errors) == set(config.branches(i))
        assert record.errors[record.selected] == min(record.errors.values())
        assert all(math.isfinite(v) for v in (*record.losses.values(), *record.errors.values()))


def test_steadiness_changes_what_is_learnt() -> None:
    config = replace(CONFIG, method="vdc", iterations=1)
    plain, steady = (meta_joint.run(begin(replace(config, steadiness=x)), STILLS, SPACE) for x in (0.0, 1.0))
    assert steady.history[0].losses["vdc"] > plain.history[0].losses["vdc"]
    assert not same_weights(weights_of_net(plain), weights_of_net(steady))


@pytest.mark.parametrize("precision", options.PRECISIONS)
def test_a_training_with_pixels_made_on_the_device_learns_and_goes_on_to_the_bit(precision: str) -> None:
    config = replace(CONFIG, method="vdc", pixels_made="device", precision=precision)
    whole = meta_joint.run(begin(config), STILLS, SPACE)
    kept: list[TrainingState] = []

    def stop(training: TrainingState, best: bool) -> None:
        kept.append(copy.deepcopy(training))

    meta_joint.run(begin(config), STILLS, SPACE, keep=stop)
    again = meta_joint.run(kept[1], STILLS, SPACE)
    assert same_weights(weights_of_net(whole), weights_of_net(again))
    assert all(math.isfinite(record.losses["vdc"]) for record in whole.history)
    host = meta_joint.run(begin(replace(config, pixels_made="host")), STILLS, SPACE)
    assert not same_weights(weights_of_net(whole), weights_of_net(host))


def alone(branch: str) -> TrainingState:
    """What a look-ahead with one loss comes to, from the same start on the same batches."""
    config = replace(CONFIG, method=branch)
    return meta_joint.advance(begin(config), SPACE, meta_joint.batches_from(STILLS, CONFIG, 0))


def test_the_winner_is_exactly_the_branch_trained_alone() -> None:
    joint = meta_joint.advance(begin(), SPACE, meta_joint.batches_from(STILLS, CONFIG, 0))
    record = joint.history[0]
    others = {branch: alone(branch) for branch in ("fwpdc", "vdc")}
    assert record.errors == {branch: other.history[0].errors[branch] for branch, other in others.items()}
    winner, loser = others[record.selected], others[({"fwpdc", "vdc"} - {record.selected}).pop()]
    assert same_weights(weights_of_net(joint), weights_of_net(winner))
    assert not same_weights(weights_of_net(joint), weights_of_net(loser))
    for one, other in zip(joint.optimiser.state.values(), winner.optimiser.state.values(), strict=True):
        assert torch.equal(one["exp_avg"], other["exp_avg"])
        assert torch.equal(one["exp_avg_sq"], other["exp_avg_sq"])
    learning = [name for name, _ in joint.net.named_parameters() if not name.startswith("fc_face")]
    assert len(joint.optimiser.state) == len(learning)


def test_either_branch_can_win(monkeypatch: pytest.MonkeyPatch) -> None:
    for wanted in ("fwpdc", "vdc"):
        order = iter([1.0, 2.0] if wanted == "fwpdc" else [2.0, 1.0])
        monkeypatch.setattr(meta_joint, "vertex_error", lambda *_, order=order: next(order))
        joint = meta_joint.advance(begin(), SPACE, meta_joint.batches_from(STILLS, CONFIG, 0))
        assert joint.history[0].selected == wanted
        assert same_weights(weights_of_net(joint), weights_of(wanted, monkeypatch))


def weights_of(branch: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    monkeypatch.setattr(meta_joint, "vertex_error", lambda *_: 1.0)
    return weights_of_net(alone(branch))


def test_all_methods_see_the_same_batches() -> None:
    streams = [meta_joint.batches_from(STILLS, replace(CONFIG, method=m), 0) for m in ("vdc", "meta-joint")]
    for one, other in zip(*streams, strict=True):
        assert torch.equal(one.crops, other.crops)


def test_a_training_that_leaves_the_numbers_is_stopped() -> None:
    training = begin()
    with torch.no_grad():
        training.net.fc_param.bias.fill_(math.nan)
    with pytest.raises(TrainingError, match="diverged in iteration 0"):
        meta_joint.run(training, STILLS, SPACE)


def test_a_training_whose_error_explodes_is_stopped() -> None:
    training = meta_joint.advance(begin(), SPACE, meta_joint.batches_from(STILLS, CONFIG, 0))
    with torch.no_grad():
        training.net.fc_param.bias.fill_(1e4)
    with pytest.raises(TrainingError, match="at its best"):
        meta_joint.run(training, STILLS, SPACE)


def test_one_branch_that_breaks_is_not_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = losses.fwpdc
    monkeypatch.setattr(losses, "fwpdc", lambda *a: whole(*a) * math.nan)
    joint = meta_joint.advance(begin(), SPACE, meta_joint.batches_from(STILLS, CONFIG, 0))
    assert joint.history[0].selected == "vdc"
    assert joint.history[0].errors["fwpdc"] == math.inf


def test_stages_say_how_small_the_images_are() -> None:
    with pytest.raises(TrainingError, match="32 pixels"):
        replace(CONFIG, stages=((0.4, 16),))
    config = replace(CONFIG, iterations=10, stages=((0.4, 32), (0.8, 48)), sampling=Sampling(2, 2, size=64))
    assert [config.pixels(i) for i in range(10)] == [32] * 4 + [48] * 4 + [64] * 2
    first = next(meta_joint.batches_from(STILLS, config, 0))
    assert first.crops.shape[1:] == (3, 32, 32)


def test_the_best_is_chosen_among_images_of_the_full_size() -> None:
    config = replace(CONFIG, iterations=6, stages=((0.5, 32),), sampling=Sampling(2, 2, size=64))
    errors = iter([1.0, 1.0, 1.0, 9.0, 7.0, 8.0])
    told: list[bool] = []
    space = FaceSpace.of(MODEL, MEAN, STD, 64)
    done = meta_joint.run(
        state.start(NET, config, MEAN, STD),
        STILLS,
        space,
        judge=lambda _: next(errors),
        keep=lambda _, best: told.append(best),
    )
    assert told == [False, False, False, True, True, False]
    assert [record.validation for record in done.history] == [1, 1, 1, 9, 7, 8]


def test_it_learns() -> None:
    sampling = Sampling(6, 4, size=SIZE)  # the last maps have one pixel: fewer frames cannot be normalised
    config = replace(CONFIG, iterations=8, look_ahead=10, learning_rate=3e-3, sampling=sampling)
    history = meta_joint.run(begin(config), STILLS, SPACE).history
    first, last = (record.errors[record.selected] for record in (history[0], history[-1]))
    assert last < first
