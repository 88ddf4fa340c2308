"""What a training can be told, and what is refused: methods, stages, learning rates."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")

from small_training import CONFIG  # noqa: E402

from ddfa_batch.schemas.errors import TrainingError  # noqa: E402
from ddfa_batch.tasks.training.options import Sampling, TrainConfig  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def test_vdc_from_fwpdc_changes_over_once() -> None:
    config = replace(CONFIG, method="vdc-from-fwpdc", iterations=10, switch=0.6)
    assert [config.branches(i) for i in range(10)] == [("fwpdc",)] * 6 + [("vdc",)] * 4


def test_the_learning_rate_warms_up_and_falls_to_nothing() -> None:
    config = replace(CONFIG, look_ahead=10, iterations=10, warmup=5)
    rates = [config.lr_at(i) for i in range(100)]
    assert max(rates) == pytest.approx(config.learning_rate, rel=0.05)
    assert rates[0] < rates[4]
    assert all(a > b for a, b in pairwise(rates[5:]))
    assert rates[-1] <= 0.0101 * config.learning_rate


def test_half_a_cosine_stays_high_for_longer_and_ends_as_low() -> None:
    config = replace(CONFIG, look_ahead=10, iterations=10, warmup=1)
    line, cosine = ([replace(config, schedule=kind).lr_at(i) for i in range(101)] for kind in ("line", "cosine"))
    assert all(c > one for c, one in zip(cosine[1:50], line[1:50], strict=True))
    assert all(c < one for c, one in zip(cosine[51:100], line[51:100], strict=True))
    assert cosine[50] == pytest.approx(config.learning_rate / 2)
    assert cosine[100] == 0


def test_every_stage_has_a_learning_rate_of_its_own() -> None:
    stages = ((0.5, 32), (0.8, 64))
    config = replace(CONFIG, look_ahead=10, iterations=10, warmup=2, stages=stages, sampling=Sampling(2, 2, size=120))
    rates = [config.lr_at(i) for i in range(100)]
    for start, stop, share in ((0, 50, 1.0), (50, 80, 0.5), (80, 100, 0.25)):
        part = rates[start:stop]
        assert part[0] < part[1]
        assert max(part) == pytest.approx(share * config.learning_rate, rel=0.06)
        assert part[-1] < 0.06 * part[1]


@pytest.mark.parametrize(
    "bad",
    [
        {"method": "magic"},
        {"landmarks": "some"},
        {"schedule": "steps"},
        {"ema": 1.0},
        {"steadiness": 1.0, "sampling": Sampling(2, 1)},
        {"look_ahead": 0},
    ],
)
def test_unknown_options_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(TrainingError):
        TrainConfig(**bad)  # type: ignore[arg-type]
