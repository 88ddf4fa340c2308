"""Checkpoints: what they hold, that a killed training goes on to the bit, and which files are refused."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from small_training import CONFIG, NET, SPACE, begin, same_weights, weights_of_net  # noqa: E402
from training_faces import STILLS  # noqa: E402

from ddfa_batch.schemas.errors import TrainingError  # noqa: E402
from ddfa_batch.tasks.training import meta_joint, state  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


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
    assert same_weights(weights_of_net(resumed), weights_of_net(whole))
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
    assert same_weights(weights_of_net(one), weights_of_net(other))


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


def test_a_training_can_start_from_another_ones_weights() -> None:
    other = meta_joint.run(begin(), STILLS, SPACE)
    anew = state.start_from(other, NET, replace(CONFIG, seed=5))
    assert anew.iteration == 0
    assert not anew.optimiser.state
    assert same_weights(weights_of_net(anew), weights_of_net(other))
    with pytest.raises(TrainingError, match="backbone"):
        state.start_from(other, replace(NET, width=0.125), CONFIG)


def test_the_average_follows_the_weights_and_goes_on_to_the_bit(tmp_path: Path) -> None:
    """Against the mean written out: a · (kept) + w · (1 − kept), step by step."""
    config = replace(CONFIG, ema=0.75, method="vdc", look_ahead=1, iterations=3)
    training = begin(config)
    wanted = {name: tensor.double() for name, tensor in weights_of_net(training).items()}
    batches = meta_joint.batches_from(STILLS, config, 0)
    for _ in range(3):
        training = meta_joint.advance(training, SPACE, batches)
        now = weights_of_net(training)
        wanted = {name: 0.75 * wanted[name] + 0.25 * now[name].double() for name in wanted}
    assert training.average is not None
    assert training.answering is training.average
    for name, tensor in training.average.state_dict().items():
        if tensor.is_floating_point():
            assert torch.allclose(tensor.double(), wanted[name], atol=1e-6), name
    state.save(training, tmp_path / "t.pt")
    again = state.load(tmp_path / "t.pt")
    assert again.average is not None
    assert same_weights(again.average.state_dict(), training.average.state_dict())
    anew = state.start_from(again, NET, replace(config, ema=0.0))
    assert anew.average is None
    assert same_weights(weights_of_net(anew), training.average.state_dict())


def test_the_branch_that_wins_keeps_its_own_average() -> None:
    config = replace(CONFIG, ema=0.5)
    batches = meta_joint.batches_from(STILLS, config, 0)
    joint = meta_joint.advance(begin(config), SPACE, batches)
    alone = replace(config, method=joint.history[0].selected)
    other = meta_joint.advance(begin(alone), SPACE, meta_joint.batches_from(STILLS, config, 0))
    assert joint.average is not None
    assert other.average is not None
    assert same_weights(joint.average.state_dict(), other.average.state_dict())
