"""A run's report as one HTML page that needs nothing else: no network, no other file, no script but its own.

Whatever comes from the run is escaped; the page's policy forbids everything that is not in it, by hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from importlib import resources

from ddfa_batch.schemas.arrays import Floats
from ddfa_batch.tasks.rendering.face_viewer import ViewerContent, viewer_data
from ddfa_batch.tasks.rendering.svg_charts import Distribution, Thumbnail, curves, histogram, pose_scatter, summary

#: What lies beside this module.
_STYLE, _SCRIPT = "report.css", "report.js"
#: Characters of a name or message that are shown at most.
_LONGEST = 300
#: Errors of a kind that are shown without being asked for.
_OPEN = 10


@dataclass(frozen=True)
class ErrorGroup:
    """The inputs that ended as errors of one kind."""

    #: `error_kind`, and what it means.
    kind: str
    meaning: str
    #: How many there are.
    n: int
    #: Some of them: name and message.
    named: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class FaceTile:
    """A face of a contact sheet."""

    #: Data URLs of the photograph and of the mesh over it; None where the photograph cannot be read.
    photograph: str | None
    meshed: str | None
    #: What stands below it, and what is told besides.
    caption: str
    title: str
    #: Its number in the viewer; None where it is not in there.
    viewed: int | None = None


@dataclass(frozen=True)
class TrackStrip:
    """A face followed through a video."""

    #: Who and where, in words.
    title: str
    #: Pictures of it in order, with their times in words.
    tiles: Sequence[FaceTile]
    #: (N,) seconds, and its angles (N,) in degrees, by name.
    times: Floats
    angles: Mapping[str, Floats]


@dataclass(frozen=True)
class PoseContent:
    """Faces by yaw and pitch."""

    #: (N,) degrees, of a sample.
    yaw: Floats
    pitch: Floats
    #: How many faces the sample is of.
    n_faces: int
    #: Some of them as pictures.
    thumbnails: Sequence[Thumbnail]


@dataclass(frozen=True)
class ReportContent:
    """All that a report tells."""

    #: What the run is of, and a sentence of what became of it.
    title: str
    said: str
    #: Numbers people ask for first: what, how many.
    counts: Sequence[tuple[str, str]]
    #: Of every stage: name, inputs, total, median, 95 %, how many a second.
    stages: Sequence[Sequence[str]]
    errors: Sequence[ErrorGroup]
    distributions: Sequence[Distribution]
    poses: PoseContent
    #: Contact sheets: title, what is in it, faces.
    sheets: Sequence[tuple[str, str, Sequence[FaceTile]]]
    strips: Sequence[TrackStrip]
    #: Meshes that can be turned; None for none.
    viewer: ViewerContent | None
    #: Name and value.
    settings: Sequence[tuple[str, str]]
    licence: str
    #: How to make the run again, as one types it; and how to read it: program, code.
    commands: str
    readings: Sequence[tuple[str, str]]


def report_page(content: ReportContent) -> str:
    """The page."""
    style, script = _part(_STYLE), _part(_SCRIPT)
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    sections = [
        _section("faces", "Faces", _sheets(content)),
        _section("viewer", "In 3-D", _viewer(content.viewer)),
        _section("poses", "Poses", _poses(content.poses)),
        _section("distributions", "Distributions", _distributions(content.distributions)),
        _section("tracks", "Videos", "".join(map(_strip, content.strips))),
        _section("stages", "Time by stage", _stages(content.stages)),
        _section("errors", "Errors", "".join(map(_error, content.errors))),
        _section("settings", "Settings and licence", _settings(content)),
        _section("again", "Make it again", _code(content.commands, "Command")),
        _section("read", "Read the data", "".join(f"<h3>{n}</h3>{_code(c, n)}" for n, c in content.readings)),
    ]
    shown = [section for section in sections if section is not None]
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title, _ in shown)
    body = "".join(html for _, _, html in shown)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="referrer" content="no-referrer">'
        f'<link rel="icon" href="data:,"><title>{_text(content.title)}: ddfa-batch report</title>'
        f"<style>{style}</style></head><body>"
        f"<header><h1>{_name(content.title)}</h1><p>{_text(content.said)}</p></header>"
        f'<nav aria-label="Sections">{links}</nav><main>{_counts(content.counts)}{body}</main>'
        f"<footer><p>Made by ddfa-batch. This page asks nothing of the network.</p></footer>"
        f"{_data(content.viewer)}<script>{script}</script></body></html>\n"
    )


@lru_cache
def _part(name: str) -> str:
    return resources.files("ddfa_batch.tasks.rendering").joinpath("page", name).read_text("utf-8")


def _hash(part: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()


def _text(text: str) -> str:
    """Text of a stranger: on one line, nothing invisible, nothing that is HTML."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
    return escape(shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…")


def _name(text: str) -> str:
    """A file's name, whose writing direction is its own."""
    return f"<bdi>{_text(text)}</bdi>"


def _section(name: str, title: str, body: str) -> tuple[str, str, str] | None:
    if not body:
        return None
    heading = f'<h2 id="{name}-title">{title}</h2>'
    return name, title, f'<section id="{name}" aria-labelledby="{name}-title">{heading}{body}</section>'


def _counts(counts: Sequence[tuple[str, str]]) -> str:
    return f'<dl class="counts">{"".join(f"<div><dt>{_text(n)}</dt><dd>{_text(v)}</dd></div>" for n, v in counts)}</dl>'


# ------------------------------------------------------------------------------------------------- sections


def _sheets(content: ReportContent) -> str:
    if not any(tiles for _, _, tiles in content.sheets):
        return ""
    layers = (
        '<fieldset class="layers"><legend>Show</legend><label><input type="radio" name="layer" checked> photographs'
        '</label><label><input type="radio" name="layer" id="meshes"> meshes</label></fieldset>'
    )
    return layers + "".join(
        f'<h3>{_text(title)}</h3><p>{_text(said)}</p><div class="sheet">{"".join(map(_tile, tiles))}</div>'
        for title, said, tiles in content.sheets
        if tiles
    )


def _tile(tile: FaceTile) -> str:
    if tile.photograph is None or tile.meshed is None:
        pictures = '<span class="gone">photograph not found</span>'
    else:
        alt = _text(tile.title)
        pictures = (
            f'<img class="photograph" src="{tile.photograph}" alt="{alt}">'
            f'<img class="meshed" src="{tile.meshed}" alt="mesh: {alt}">'
        )
    if tile.viewed is not None:
        pictures = f'<button type="button" data-face="{tile.viewed}" title="Turn this face">{pictures}</button>'
    return f'<figure title="{_text(tile.title)}">{pictures}<figcaption>{_name(tile.caption)}</figcaption></figure>'


def _viewer(viewer: ViewerContent | None) -> str:
    if viewer is None:
        return ""
    options = "".join(f'<option value="{i}">{_text(face.title)}</option>' for i, face in enumerate(viewer.faces))
    views = "".join(
        f'<button type="button" data-view="{view}">{words}</button>'
        for view, words in (("photograph", "as photographed"), ("front", "front"), ("left", "left"), ("right", "right"))
    )
    return (
        '<div class="viewer"><canvas id="head" tabindex="0" role="application" aria-describedby="head-help" '
        'aria-label="A face in three dimensions"></canvas><div class="controls">'
        f'<label>Face <select id="face">{options}</select></label><div class="views">{views}</div>'
        '<label><input type="checkbox" id="coloured"> colours of the photograph</label>'
        '<p id="head-help">Drag, or press the arrow keys, to turn; plus and minus, or the wheel once it has the focus, '
        'to come nearer; 0 for the pose of the photograph.</p><p id="head-fault" role="status"></p></div></div>'
    )


def _data(viewer: ViewerContent | None) -> str:
    if viewer is None:
        return ""
    data = json.dumps(viewer_data(viewer), separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="heads">{data}</script>'


def _poses(poses: PoseContent) -> str:
    if not len(poses.yaw):
        return ""
    sampled = "" if len(poses.yaw) == poses.n_faces else f" A sample of {len(poses.yaw):,} of {poses.n_faces:,} faces."
    said = f"<p>Yaw: which way the nose points in the picture; pitch: up or down.{sampled}</p>"
    return said + _scrolled("Faces by yaw and pitch", pose_scatter(poses.yaw, poses.pitch, poses.thumbnails))


def _distributions(found: Sequence[Distribution]) -> str:
    if not any(len(d.values) for d in found):
        return ""
    charts = "".join(
        f'<figure class="distribution"><figcaption><b>{_text(d.name)}</b> {_text(summary(d))}</figcaption>'
        f"{histogram(d)}</figure>"
        for d in found
        if len(d.values)
    )
    return f'<div class="distributions">{charts}</div>'


def _strip(strip: TrackStrip) -> str:
    keys = "".join(f'<span class="key {escape(name)}">{_text(name)}</span>' for name in strip.angles)
    tiles = "".join(map(_tile, strip.tiles))
    chart = curves(strip.times, strip.angles) if len(strip.times) else ""
    return f'<h3>{_name(strip.title)}</h3><div class="sheet">{tiles}</div><p class="keys">{keys}</p>{chart}'


def _stages(stages: Sequence[Sequence[str]]) -> str:
    head = ("stage", "inputs", "in all", "median", "95 % within", "a second of one core")
    return _table("Time by stage, table", head, stages) if stages else ""


def _error(group: ErrorGroup) -> str:
    rest = group.n - len(group.named)
    more = f"<p>and {rest:,} more: <code>ddfa-batch status OUT --errors</code></p>" if rest else ""
    names = _table(f"Inputs: {group.kind}", ("input", "reason"), group.named)
    title = f"{group.n:,} {_text(group.kind)}: {_text(group.meaning)}"
    return f"<details{' open' if group.n <= _OPEN else ''}><summary>{title}</summary>{names}{more}</details>"


def _settings(content: ReportContent) -> str:
    rows = _table("Settings", ("setting", "value"), content.settings)
    return f"{rows}<h3>Licence</h3><p>{_text(content.licence)}</p>"


def _table(label: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{_text(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{_name(row[0])}</th>{"".join(f"<td>{_name(value)}</td>" for value in row[1:])}</tr>'
        for row in rows
    )
    return _scrolled(label, f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>")


def _scrolled(label: str, body: str) -> str:
    """What may be wider than the window, and is scrolled by keys, too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{_text(label)}">{body}</div>'


def _code(code: str, label: str) -> str:
    return f'<pre tabindex="0" role="region" aria-label="{_text(label)}"><code>{escape(code)}</code></pre>'
