"""Figures of lines are SVGs that stand alone."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from ddfa_batch.schemas.errors import ShapeError
from ddfa_batch.tasks.rendering.curves import Curve, draw_curves

SVG = "{http://www.w3.org/2000/svg}"


def drawn(path: Path, curves: dict[str, Curve], top: float | None = None) -> ET.Element:
    draw_curves(path, curves, "errors < 10 & more", "NME (%)", "share", top)
    return ET.fromstring(path.read_text())


def points(line: ET.Element) -> np.ndarray:
    return np.array([pair.split(",") for pair in line.attrib["points"].split()], float).reshape(-1, 2)


def test_lines_stand_where_their_values_are(tmp_path: Path) -> None:
    x = np.array([0.0, 5.0, 10.0])
    figure = drawn(tmp_path / "a.svg", {"one": Curve(x, x / 10), "two": Curve(x, x / 20)}, top=1.0)
    one, two = (points(line) for line in figure.iter(f"{SVG}polyline"))
    assert one[0].tolist() == two[0].tolist()  # the origin
    assert one[1] == pytest.approx((one[0] + one[2]) / 2)
    assert two[2].tolist() == [one[2, 0], one[1, 1]]
    words = [text.text for text in figure.iter(f"{SVG}text")]
    assert {"one", "two", "errors < 10 & more", "NME (%)", "share"} <= set(words)


@pytest.mark.parametrize("y", [[], [0.0], [np.nan, 0.5], [0.0, 0.0]], ids=str)
def test_few_values_or_none_make_a_figure(tmp_path: Path, y: list[float]) -> None:
    figure = drawn(tmp_path / "a.svg", {"few": Curve(np.arange(len(y), dtype=float), np.array(y))})
    (line,) = figure.iter(f"{SVG}polyline")
    assert len(points(line)) == np.isfinite(y).sum()


def test_nothing_to_draw_makes_a_figure(tmp_path: Path) -> None:
    assert not list(drawn(tmp_path / "a.svg", {}).iter(f"{SVG}polyline"))


def test_lines_of_other_lengths_along_and_up_are_refused() -> None:
    with pytest.raises(ShapeError):
        Curve(np.zeros(3), np.zeros(4))
