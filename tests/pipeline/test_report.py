"""A report tells what a run found, in one file that asks nothing of anybody, whatever the inputs are called."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import html_pages
import numpy as np
import pyarrow as pa
import pytest
from conftest import wanted

from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.report import report_content, write_report
from ddfa_batch.pipeline.report_again import commands
from ddfa_batch.pipeline.report_choice import ReportChoice
from ddfa_batch.pipeline.report_numbers import ReportNumbers
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.schemas.config import Execution
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.rendering.report_page import ReportContent, report_page

#: Names that would do harm where a page takes them for HTML, or show otherwise than they are.
HOSTILE = (
    "<script>alert(1)</script>.jpg",
    "'\"><img src=x onerror=alert(1)>.jpg",
    "a\u202egpj.exe.jpg",
    "a\nb\x1b[2J.jpg",
)


@pytest.fixture(scope="module")
def run(photos: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Twelve pictures, and files of hostile names that hold none or one."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(photos, folder / "in")
    for i, name in enumerate(HOSTILE):
        target = folder / "in" / name.replace("/", "\u2215")
        target.write_bytes(b"" if i else next(iter(sorted(photos.iterdir()))).read_bytes())
    process(wanted(folder / "in", folder / "out", bundle, vertices="none"), Execution("in-process"))
    return open_run(folder / "out")


@pytest.fixture(scope="module")
def html(run: Results) -> str:
    return write_report(run.path).read_text("utf-8")


@pytest.fixture(scope="module")
def content(run: Results) -> ReportContent:
    return report_content(run, viewer=False)


@pytest.fixture(scope="module")
def page(html: str) -> html_pages.Page:
    return html_pages.read(html)


def test_it_lies_in_the_run_and_is_one_of_its_files(run: Results, html: str, bundle: Bundle, tmp_path: Path) -> None:
    assert (run.path / "report.html").read_text() == html
    copy = shutil.copytree(run.path, tmp_path / "copy")
    process(wanted(Path(run.run.root), copy, bundle, vertices="none"), Execution("in-process"), overwrite=True)
    assert not (copy / "report.html").exists()


def test_it_asks_nothing_of_anybody(page: html_pages.Page, html: str) -> None:
    assert page.fetched() == []
    assert page.run() == []
    assert page.unclosed == []
    assert "http:" not in html.replace("http-equiv", "")
    assert "https:" not in html


def test_its_policy_allows_its_own_style_and_script_and_nothing_else(page: html_pages.Page) -> None:
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    rules = dict(rule.split(" ", 1) for rule in policy.attributes["content"].split("; "))
    assert rules.pop("default-src") == rules.pop("base-uri") == rules.pop("form-action") == "'none'"
    (style,), (script,) = page.all("style"), [s for s in page.all("script") if "type" not in s.attributes]
    for rule, part in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(part.text.encode()).digest()).decode()
        assert rules.pop(rule) == f"'sha256-{digest}'"
    assert rules == {"img-src": "data:"}


def test_hostile_names_are_text(page: html_pages.Page, html: str) -> None:
    told = [cell.text for cell in page.all("th")] + [c.text for c in page.all("figcaption")]
    assert "'\"><img src=x onerror=alert(1)>.jpg" in told
    assert "a\\u202egpj.exe.jpg" in told
    assert "a\\nb\\x1b[2J.jpg" in told
    assert any("<script>alert(1)<" in text for text in told)
    assert "\u202e" not in html
    assert "<script>alert" not in html


def test_its_counts_are_those_of_the_tables(run: Results, page: html_pages.Page) -> None:
    told = dict(zip((e.text for e in page.all("dt")), (e.text for e in page.all("dd")), strict=True))
    status = run.images(["status"]).to_pandas().status.value_counts()
    assert told == {
        "inputs": str(status.sum()),
        "faces": str(len(run.faces(["face_id"]))),
        "with faces": str(status["ok"]),
        "without": str(status["no_face"]),
        "errors": str(status["error"]),
    }


def test_stages_tell_times_as_the_images_table_has_them(run: Results, content: ReportContent) -> None:
    stages = {row[0]: row for row in content.stages}
    times = np.asarray(run.images(["decode_ms"])["decode_ms"].drop_null(), np.float64)
    _, n, _, median, most, rate = stages["read and decode"]
    assert (int(n), median, most) == (
        len(times),
        f"{np.percentile(times, 50):.2f} ms",
        f"{np.percentile(times, 95):.2f} ms",
    )
    assert float(rate.replace(",", "")) == pytest.approx(1000 / times.mean(), abs=0.06)


def test_best_and_worst_are_those_with_the_most_and_the_least_score(run: Results, content: ReportContent) -> None:
    faces = run.faces(["face_id", "score"]).to_pandas()
    (_, _, best), (_, _, worst), _ = content.sheets
    scores = [[float(re.search(r"score ([\d.]+)", tile.title)[1]) for tile in tiles] for tiles in (best, worst)]  # type: ignore[index]
    assert scores[0] == pytest.approx(faces.score.sort_values(ascending=False)[: len(best)].tolist(), abs=6e-4)
    assert scores[1] == pytest.approx(faces.score.sort_values()[: len(worst)].tolist(), abs=6e-4)


def test_equal_seeds_make_equal_pages(run: Results, html: str, tmp_path: Path) -> None:
    assert write_report(run.path, tmp_path / "again.html").read_text() == html


def test_of_many_faces_a_sample_is_shown_and_said(run: Results, content: ReportContent) -> None:
    numbers = ReportNumbers.of(run)
    many = replace(numbers, faces=pa.concat_tables([numbers.faces] * 300))
    choice = ReportChoice.of(many, np.random.default_rng(0))
    assert [len(rows) for rows in (choice.best, choice.worst, choice.random)] == [24, 24, 24]
    assert len(choice.posed) == len(set(choice.posed.tolist())) == 2000
    other = ReportChoice.of(many, np.random.default_rng(1))
    assert other.random.tolist() != choice.random.tolist()
    assert other.pictured.tolist() == choice.pictured.tolist()
    few = replace(content, poses=replace(content.poses, n_faces=1_000_000))
    assert f"A sample of {len(numbers.faces)} of 1,000,000 faces." in report_page(few)


def test_faces_can_be_turned_and_their_number_is_that_of_their_button(page: html_pages.Page) -> None:
    (held,) = page.all("script", id="heads")
    heads = json.loads(held.text)
    buttons = {int(e.attributes["data-face"]) for e in page.all("button") if "data-face" in e.attributes}
    assert buttons == set(range(len(heads["faces"])))
    assert len(page.all("option")) == len(heads["faces"]) == 12


def test_everything_has_a_name_for_those_who_do_not_see_it(page: html_pages.Page) -> None:
    assert all(image.attributes.get("alt") for image in page.all("img"))
    assert all(svg.attributes.get("aria-label") for svg in page.all("svg"))
    assert all(head.attributes.get("scope") for head in page.all("th"))
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    levels = [int(e.name[1]) for e in page.elements if re.fullmatch(r"h\d", e.name)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert {a.attributes["href"][1:] for a in page.all("a")} <= set(ids)


def test_without_photographs_the_numbers_stay(run: Results, tmp_path: Path) -> None:
    moved = shutil.move(run.run.root, tmp_path / "away")
    try:
        told = html_pages.read(write_report(run.path, tmp_path / "r.html").read_text())
    finally:
        shutil.move(moved, run.run.root)
    assert not told.all("img")
    assert not told.all("canvas")
    assert "photograph not found" in [e.text for e in told.all("span")]
    assert told.all("dd")[1].text == str(len(run.faces(["face_id"])))


def test_a_run_without_a_face_is_reported(bundle: Bundle, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(sorted(photos.iterdir())[2], tmp_path / "in")
    process(wanted(tmp_path / "in", tmp_path / "out", bundle), Execution("in-process"))
    told = html_pages.read(write_report(tmp_path / "out").read_text())
    assert [e.text for e in told.all("dd")][:4] == ["1", "0", "0", "1"]
    assert not told.all("canvas")


def test_what_is_no_run_of_process_is_refused(run: Results, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="holds no run"):
        write_report(tmp_path)
    record = json.loads((run.path / "run.json").read_text())
    other = shutil.copytree(run.path, tmp_path / "other")
    (other / "run.json").write_text(json.dumps({**record, "kind": "fit"}))
    with pytest.raises(RunFolderError, match="is a run of fit"):
        write_report(other)


def test_the_command_it_tells_makes_the_run_again(run: Results) -> None:
    first, *others = commands(run.run).splitlines()
    words = shlex.split(first)
    assert words[:4] == ["ddfa-batch", "process", run.run.source, str(run.path)]
    assert words[4:] == ["--model", "small", "--detector", "yunet", "--min-score", "0.9", "--vertices", "none"]
    assert others == [f"ddfa-batch verify {run.path}", f"ddfa-batch status {run.path} --errors"]


def test_tracks_of_videos_get_strips(followed_run: Results) -> None:
    strips = report_content(followed_run, viewer=False).strips
    tracks = followed_run.tracks().to_pandas().sort_values(["n_frames", "track_id"], ascending=[False, True])
    told = [f"clip.mp4: track {t.track_id}, {t.n_frames} frames" for t in tracks.itertuples()]
    assert [strip.title for strip in strips] == told
    for strip in strips:
        assert len(strip.tiles) == min(6, len(strip.times))
        assert all(tile.photograph for tile in strip.tiles)
        assert (np.diff(strip.times) > 0).all()
