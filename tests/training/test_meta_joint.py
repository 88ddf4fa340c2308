"""Algorithm 1 on a tiny net: what is selected, what survives, and that a killed training goes on to the bit."""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_training import CONFIG, MEAN, NET, SIZE, SPACE, STD  # noqa: E402
from training_faces import MODEL, STILLS  # noqa: E402

from ddfa_batch.schemas.errors import TrainingError  # noqa: E402
from ddfa_batch.tasks.training import losses, meta_joint, options, state  # noqa: E402
from ddfa_batch.tasks.training.losses import FaceSpace  # noqa: E402
from ddfa_batch.tasks.training.options import METHODS, Sampling, TrainConfig  # noqa: E402
from ddfa_batch.tasks.training.state import TrainingState  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def begin(config: TrainConfig = CONFIG) -> TrainingState:
    return state.start(NET, config, MEAN, STD)


def weights(training: TrainingState) -> dict[str, torch.Tensor]:
    return copy.deepcopy(training.net.state_dict())


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("distance", options.DISTANCES)
@pytest.mark.parametrize("landmarks", options.LANDMARK_TERMS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(method: str, landmarks: str, distance: str) -> None:
    config = replace(CONFIG, method=method, landmarks=landmarks, distance=distance, iterations=2)
    heard: list[state.Record] = []
    done = meta_joint.run(begin(config), STILLS, SPACE, report=heard.append)
    assert done.iteration == 2
    assert list(done.history) == heard
    assert not same(weights(begin(config)), weights(done))
    for i, record in enumerate(heard):
        assert set(record.errors) == set(config.branches(i))
        assert record.errors[record.selected] == min(record.errors.values())
        assert all(math.isfinite(v) for v in (*record.losses.values(), *record.errors.values()))


def test_vdc_from_fwpdc_changes_over_once() -> None:
    config = replace(CONFIG, method="vdc-from-fwpdc", iterations=10, switch=0.6)
    assert [config.branches(i) for i in range(10)] == [("fwpdc",)] * 6 + [("vdc",)] * 4


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
    assert same(weights(joint), weights(winner))
    assert not same(weights(joint), weights(loser))
    for one, other in zip(joint.optimiser.state.values(), winner.optimiser.state.values(), strict=True):
        assert torch.equal(one["exp_avg"], other["exp_avg"])
        assert torch.equal(one["exp_avg_sq"], other["exp_avg_sq"])
    assert len(joint.optimiser.state) == len(list(joint.net.parameters()))


def test_either_branch_can_win(monkeypatch: pytest.MonkeyPatch) -> None:
    for wanted in ("fwpdc", "vdc"):
        order = iter([1.0, 2.0] if wanted == "fwpdc" else [2.0, 1.0])
        monkeypatch.setattr(meta_joint, "vertex_error", lambda *_, order=order: next(order))
        joint = meta_joint.advance(begin(), SPACE, meta_joint.batches_from(STILLS, CONFIG, 0))
        assert joint.history[0].selected == wanted
        assert same(weights(joint), weights_of(wanted, monkeypatch))


def weights_of(branch: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    monkeypatch.setattr(meta_joint, "vertex_error", lambda *_: 1.0)
    return weights(alone(branch))


def test_all_methods_see_the_same_batches() -> None:
    streams = [meta_joint.batches_from(STILLS, replace(CONFIG, method=m), 0) for m in ("vdc", "meta-joint")]
    for one, other in zip(*streams, strict=True):
        np.testing.assert_array_equal(one.images, other.images)


def test_a_killed_training_goes_on_to_the_bit(tmp_path: Path) -> None:
    whole = meta_joint.run(begin(), STILLS, SPACE)
    half = begin()
    batches = meta_joint.batches_from(STILLS, CONFIG, 0)
    for _ in range(2):
        half = meta_joint.advance(half, SPACE, batches)
    state.save(half, tmp_path / "training.pt")
    del half
    torch.manual_seed(999)
    resumed = state.load(tmp_path / "training.pt")
    assert resumed.iteration == 2
    resumed = meta_joint.run(resumed, STILLS, SPACE, keep=lambda now, _: state.save(now, tmp_path / "training.pt"))
    assert resumed.history == whole.history
    assert same(weights(resumed), weights(whole))
    assert state.load(tmp_path / "training.pt").history == whole.history


def test_a_checkpoint_brings_torchs_generator_along(tmp_path: Path) -> None:
    torch.manual_seed(5)
    state.save(begin(), tmp_path / "t.pt")
    expected = torch.rand(3)
    torch.manual_seed(6)
    state.load(tmp_path / "t.pt")
    assert torch.equal(torch.rand(3), expected)


def test_starting_does_not_disturb_torchs_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, other = begin(), begin()
    assert torch.equal(torch.rand(3), expected)
    assert same(weights(one), weights(other))


def test_a_save_that_dies_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.pt"
    state.save(begin(), path)
    before = path.read_bytes()

    def dies(_: object, work: Path) -> None:
        work.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        state.save(begin(), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["t.pt"]


def broken(path: Path, fault: str) -> None:
    state.save(begin(), path)
    content = torch.load(path, weights_only=True)
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:2000])
        return
    if fault == "pickle":
        path.write_bytes(pickle.dumps({"format": Path}))
        return
    if fault == "foreign":
        content = {"state_dict": content["net"]}
    elif fault == "version":
        content["version"] = 99
    elif fault == "layout":
        content["architecture"]["width"] = 0.125
    elif fault == "missing":
        del content["optimiser"]
    elif fault == "option":
        content["config"]["colour"] = "blue"
    torch.save(content, path)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("truncated", "not a whole checkpoint"),
        ("pickle", "not a whole checkpoint"),
        ("foreign", "not a checkpoint"),
        ("version", "version 99"),
        ("layout", "another layout"),
        ("missing", "another layout"),
        ("option", "another layout"),
    ],
)
def test_a_wrong_checkpoint_is_refused(tmp_path: Path, fault: str, said: str) -> None:
    broken(tmp_path / "t.pt", fault)
    with pytest.raises(TrainingError, match=said):
        state.load(tmp_path / "t.pt")


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nowhere"):
        state.load(tmp_path / "nowhere.pt")


def test_other_options_are_named() -> None:
    state.check_same(begin(), NET, CONFIG)
    with pytest.raises(TrainingError, match=r"look_ahead \(2, now 3\)"):
        state.check_same(begin(), NET, replace(CONFIG, look_ahead=3))
    with pytest.raises(TrainingError, match="width"):
        state.check_same(begin(), replace(NET, width=1.0), CONFIG)


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


def test_the_learning_rate_warms_up_and_falls_to_nothing() -> None:
    config = replace(CONFIG, look_ahead=10, iterations=10, warmup=5)
    rates = [config.lr_at(i) for i in range(100)]
    assert max(rates) == pytest.approx(config.learning_rate, rel=0.05)
    assert rates[0] < rates[4]
    assert all(a > b for a, b in pairwise(rates[5:]))
    assert rates[-1] <= 0.0101 * config.learning_rate


def test_every_stage_has_a_learning_rate_of_its_own() -> None:
    stages = ((0.5, 32), (0.8, 64))
    config = replace(CONFIG, look_ahead=10, iterations=10, warmup=2, stages=stages, sampling=Sampling(2, 2, size=120))
    rates = [config.lr_at(i) for i in range(100)]
    for start, stop, share in ((0, 50, 1.0), (50, 80, 0.5), (80, 100, 0.25)):
        part = rates[start:stop]
        assert part[0] < part[1]
        assert max(part) == pytest.approx(share * config.learning_rate, rel=0.06)
        assert part[-1] < 0.06 * part[1]


def test_stages_say_how_small_the_images_are() -> None:
    with pytest.raises(TrainingError, match="32 pixels"):
        replace(CONFIG, stages=((0.4, 16),))
    config = replace(CONFIG, iterations=10, stages=((0.4, 32), (0.8, 48)), sampling=Sampling(2, 2, size=64))
    assert [config.pixels(i) for i in range(10)] == [32] * 4 + [48] * 4 + [64] * 2
    first = next(meta_joint.batches_from(STILLS, config, 0))
    assert first.images.shape[1:] == (32, 32, 3)


def test_the_best_is_chosen_among_images_of_the_full_size() -> None:
    config = replace(CONFIG, iterations=6, stages=((0.5, 32),), sampling=Sampling(2, 2, size=64))
    errors = iter([1.0, 1.0, 1.0, 9.0, 7.0, 8.0])
    told: list[bool] = []
    space = FaceSpace.of(MODEL, MEAN, STD, 64)
    done = meta_joint.run(state.start(NET, config, MEAN, STD), STILLS, space, judge=lambda _: next(errors),
                          keep=lambda _, best: told.append(best))  # fmt: skip
    assert told == [False, False, False, True, True, False]
    assert [record.validation for record in done.history] == [1, 1, 1, 9, 7, 8]


def test_a_training_can_start_from_another_ones_weights() -> None:
    other = meta_joint.run(begin(), STILLS, SPACE)
    anew = state.start_from(other, NET, replace(CONFIG, seed=5))
    assert anew.iteration == 0
    assert not anew.optimiser.state
    assert same(weights(anew), weights(other))
    with pytest.raises(TrainingError, match="backbone"):
        state.start_from(other, replace(NET, width=0.125), CONFIG)


def test_it_learns() -> None:
    sampling = Sampling(6, 4, size=SIZE)  # the last maps have one pixel: fewer frames cannot be normalised
    config = replace(CONFIG, iterations=8, look_ahead=10, learning_rate=3e-3, sampling=sampling)
    history = meta_joint.run(begin(config), STILLS, SPACE).history
    first, last = (record.errors[record.selected] for record in (history[0], history[-1]))
    assert last < first


@pytest.mark.parametrize("bad", [{"method": "magic"}, {"landmarks": "some"}, {"look_ahead": 0}])
def test_unknown_options_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(TrainingError):
        TrainConfig(**bad)  # type: ignore[arg-type]
