"""Charts of a report: counts add up, ticks are round, strangers' words are text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from ddfa_batch.tasks.rendering.svg_charts import (
    Distribution,
    Thumbnail,
    curves,
    histogram,
    nice_numbers,
    pose_scatter,
    summary,
)


def counted(svg: str) -> int:
    return sum(int(n.replace(",", "")) for n in re.findall(r": ([\d,]+)</title>", svg))


@pytest.mark.parametrize("bounds", [None, (-90.0, 90.0)])
def test_every_value_is_in_a_bar_those_beyond_the_bounds_too(bounds: tuple[float, float] | None) -> None:
    values = np.random.default_rng(0).normal(0, 60, 5000)
    svg = histogram(Distribution("yaw", "degrees", values, bounds))
    ET.fromstring(svg)
    assert counted(svg) == 5000


def test_bars_are_as_high_as_their_counts() -> None:
    svg = histogram(Distribution("x", "", np.array([0.0] * 30 + [1.0] * 10), (0.0, 1.0)), 2)
    tall, low = (float(h) for h in re.findall(r'class="bar".*?height="([\d.]+)"', svg))
    assert tall == pytest.approx(3 * low, abs=0.2)


def test_a_logarithmic_axis_has_equal_steps_for_equal_factors() -> None:
    svg = histogram(Distribution("size", "pixels", np.geomspace(1, 1000, 3000), None, logarithmic=True), 3)
    assert re.findall(r": ([\d,]+)</title>", svg) == ["1,000"] * 3
    assert [t for t in (">1<", ">10<", ">100<") if t in svg] == [">1<", ">10<", ">100<"]


@pytest.mark.parametrize("low, high", [(-90, 90), (0.952, 0.999), (3, 100_000), (0, 1)])
def test_ticks_are_few_round_and_within(low: float, high: float) -> None:
    found = nice_numbers(low, high)
    assert 2 <= len(found) <= 7
    assert (found >= low - 1e-9).all()
    assert (found <= high + 1e-9).all()
    assert all(len(f"{v:.10g}") <= 8 for v in found)


def test_one_value_and_none_make_a_chart() -> None:
    assert counted(histogram(Distribution("x", "", np.array([3.0])))) == 1
    ET.fromstring(histogram(Distribution("x", "", np.zeros(0))))
    assert summary(Distribution("x", "", np.zeros(0))) == "no values"


def test_a_face_that_looks_to_the_images_left_is_on_the_left_and_one_that_looks_down_below() -> None:
    svg = pose_scatter(np.array([60.0, -60.0]), np.array([40.0, -40.0]), [])
    (left, low), (right, high) = ((int(x), int(y)) for x, y in re.findall(r"M(\d+) (\d+)h0", svg))
    assert left < right
    assert low > high


def test_titles_are_text() -> None:
    svg = pose_scatter(np.zeros(1), np.zeros(1), [Thumbnail(0, 0, "data:,", "<script>alert(1)</script>&\"'")])
    root = ET.fromstring(svg)
    assert [t.text for t in root.iter("title")] == ["<script>alert(1)</script>&\"'"]
    assert not list(root.iter("script"))


def test_long_curves_are_drawn_with_few_points() -> None:
    times = np.linspace(0, 100, 10_000)
    svg = curves(times, {"yaw": np.sin(times), "roll": np.cos(times)})
    root = ET.fromstring(svg)
    assert all(100 < len(line.attrib["points"].split()) <= 240 for line in root.iter("polyline"))
    assert len(list(root.iter("polyline"))) == 2


def test_one_frame_is_a_curve() -> None:
    ET.fromstring(curves(np.array([2.0]), {"yaw": np.array([3.0])}))
