"""Figures of lines; drawn with matplotlib, as those of the ablation in docs/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ddfa_batch.schemas.arrays import Floats
from ddfa_batch.tasks.files.atomic import whole_file


@dataclass(frozen=True)
class Curve:
    """One line of a figure."""

    #: (n,), along the figure.
    x: Floats
    #: (n,), up the figure.
    y: Floats
    #: matplotlib's format string: "-" a line, "o" dots.
    style: str = "-"


def draw_curves(
    path: Path, curves: Mapping[str, Curve], title: str, x_label: str, y_label: str, top: float | None = None
) -> None:
    """Draw lines with their legend to a PNG, whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, curve in curves.items():
        axes.plot(curve.x, curve.y, curve.style, label=name, linewidth=1.5, markersize=4)
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.set_ylim(0, top)
    axes.grid(alpha=0.3)
    if curves:
        axes.legend()
    with whole_file(path) as work:
        figure.savefig(work, format="png")
