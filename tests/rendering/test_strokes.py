"""Lines cover as much of each pixel as lies under them."""

from __future__ import annotations

import numpy as np
import pytest

from ddfa_batch.tasks.rendering.strokes import dots, lines

WHITE = np.array([255.0, 255.0, 255.0])


def drawn(first: list[float], last: list[float], radius: float) -> np.ndarray:
    picture = np.zeros((40, 60, 3), np.uint8)
    lines(np.array([first]), np.array([last]), radius, WHITE).draw(picture)
    return picture[..., 0] / 255.0


@pytest.mark.parametrize("radius", [0.6, 1.5, 4.0])
@pytest.mark.parametrize("end", [[45.0, 20.0], [45.3, 31.7], [10.2, 35.0]])
def test_a_line_covers_its_area(radius: float, end: list[float]) -> None:
    start = [10.2, 8.4] if end[0] < 20 else [12.4, 20.0]
    length = float(np.hypot(*(np.array(end) - start)))
    assert drawn(start, end, radius).sum() == pytest.approx(2 * radius * length + np.pi * radius**2, rel=0.08)


def test_a_thin_line_fades_and_stays_whole() -> None:
    half, quarter = drawn([10, 20], [50, 20], 0.5), drawn([10, 20], [50, 20], 0.25)
    np.testing.assert_allclose(quarter[20, 12:48], half[20, 12:48] / 2, atol=0.01)


def test_a_line_lies_where_it_should() -> None:
    picture = drawn([10.5, 20.0], [30.5, 20.0], 1.0)
    rows, columns = np.nonzero(picture > 0.9)
    assert set(rows) == {20}
    assert (columns.min(), columns.max()) == (10, 31)


def test_what_lies_outside_or_is_no_number_draws_nothing() -> None:
    picture = np.zeros((10, 10, 3), np.uint8)
    dots(np.array([[np.nan, 3.0], [-50.0, 5.0], [1e9, 5.0]]), 2.0, WHITE).draw(picture)
    assert not picture.any()
