"""Crops of what is no face, from which a net learns beside its parameters what a face is."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_training import CONFIG, SIZE, SPACE, begin, same_weights, weights_of_net  # noqa: E402
from training_faces import STILLS  # noqa: E402

from ddfa_batch.schemas.errors import InputError  # noqa: E402
from ddfa_batch.tasks.training import distractors, meta_joint, options  # noqa: E402
from ddfa_batch.tasks.training.options import Sampling  # noqa: E402
from ddfa_batch.tasks.training.state import TrainingState  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

CHEQUERED = (np.indices((8, SIZE, SIZE, 3))[1:3].sum(axis=0) // 4 % 2 * 200 + 20).astype(np.uint8)
OTHERS = distractors.without_labels(CHEQUERED, STILLS.coefficients.shape[2])
TOLD = replace(CONFIG, method="vdc", face_weight=1.0)


def test_pictures_of_any_size_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, (height, width), grey in (("b.png", (90, 40), 200), ("a.webp", (24, 24), 50)):
        cv2.imwrite(str(tmp_path / name), np.full((height, width, 3), grey, np.uint8))
    clips = distractors.read(tmp_path, SIZE, 50)
    assert clips.images.shape == (2, 1, SIZE, SIZE, 3)
    assert [int(image.mean()) for image in clips.images] == [50, 200]
    assert not clips.weights.any()


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match="holds no pictures of what is no face"):
            distractors.read(folder, SIZE, 50)
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(InputError, match=r"notes\.txt cannot be used as a picture of no face"):
        distractors.read(tmp_path, SIZE, 50)


def test_the_loss_is_the_mean_cross_entropy() -> None:
    odds = torch.tensor([2.0, -1.0, 3.0])
    wanted = np.mean([np.log1p(np.exp(-2.0)), np.log1p(np.exp(-1.0)), np.log1p(np.exp(3.0))])
    assert float(distractors.face_loss(odds, 1)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("made", options.PIXEL_MAKERS)
def test_a_net_learns_to_tell_faces_and_goes_on_to_the_bit(made: str) -> None:
    sampling = Sampling(4, 2, size=SIZE)
    config = replace(TOLD, pixels_made=made, look_ahead=30, learning_rate=5e-3, sampling=sampling, face_weight=10.0)
    kept: list[TrainingState] = []

    def stop(training: TrainingState, best: bool) -> None:
        kept.append(copy.deepcopy(training))

    done = meta_joint.run(begin(config), STILLS, SPACE, others=OTHERS, keep=stop)
    again = meta_joint.run(kept[1], STILLS, SPACE, others=OTHERS)
    assert same_weights(weights_of_net(done), weights_of_net(again))
    batch = next(meta_joint.batches_from(STILLS, replace(config, seed=9), 0, others=OTHERS))
    assert batch.distractors is not None
    with torch.no_grad():
        odds = done.net.face_odds(done.net.train().features(torch.cat([batch.crops, batch.distractors])))
    assert odds[: len(batch.crops)].mean() > odds[len(batch.crops) :].mean() + 1


def test_distractors_change_no_batch_of_faces() -> None:
    config = replace(TOLD, iterations=1)
    plain, beside = (list(meta_joint.batches_from(STILLS, config, 0, others=others)) for others in (None, OTHERS))
    assert all(torch.equal(one.crops, other.crops) for one, other in zip(plain, beside, strict=True))
    assert [batch.distractors is None for batch in beside] == [False] * TOLD.look_ahead + [True]  # judged by faces


def test_without_their_weight_nothing_is_learnt_from_them() -> None:
    config = replace(TOLD, face_weight=0.0, iterations=1)
    told = meta_joint.run(begin(config), STILLS, SPACE, others=OTHERS)
    assert torch.equal(told.net.fc_face.bias, begin(config).net.fc_face.bias)
