"""Runs that grow: what `extend` takes up, and what stays as it was."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_model
from compared_runs import TIMES, same_tables
from conftest import wanted
from stopped_commands import stopped_at

from ddfa_batch.pipeline import growth, plan
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.receipts import verify_run
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.config import Execution
from ddfa_batch.schemas.errors import InputError, RunFolderError
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files.inputs import resolve_source

HERE = Execution("in-process")


def add(folder: Path, name: str, n_faces: int) -> None:
    cv2.imwrite(str(folder / name), small_model.picture(n_faces, seed=n_faces + 50))


def folder_of(tmp_path: Path) -> Path:
    return small_model.pictures(tmp_path / "in", [1, 2, 0, 1, 3])


def listed(tmp_path: Path, write: Callable[[Path, list[str]], None], name: str) -> Callable[[], Path]:
    """A list of the pictures there are, written anew at each call."""

    def source() -> Path:
        write(tmp_path / name, [f"in/{path.name}" for path in sorted((tmp_path / "in").iterdir())])
        return tmp_path / name

    return source


def as_csv(path: Path, names: list[str]) -> None:
    path.write_text("\n".join(["path", *names]))


def as_parquet(path: Path, names: list[str]) -> None:
    pq.write_table(pa.table({"path": names}), path)


def as_text(path: Path, names: list[str]) -> None:
    path.write_text("\n".join(names))


@pytest.mark.parametrize(
    ("name", "write"),
    [("folder", None), ("list.txt", as_text), ("list.csv", as_csv), ("list.parquet", as_parquet)],
)
def test_what_was_added_goes_into_new_shards_and_nothing_else_changes(
    bundle: Bundle, tmp_path: Path, name: str, write: Callable[[Path, list[str]], None] | None
) -> None:
    folder, out = folder_of(tmp_path), tmp_path / "out"
    source = listed(tmp_path, write, name) if write else lambda: folder
    process(wanted(source(), out, bundle), HERE)
    before, faces = open_run(out).images(), open_run(out).faces()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*/00000*") if path.is_file()}
    add(folder, "000a.png", 6)  # between those that are there
    add(folder, "zzz.png", 1)
    with pytest.raises(RunFolderError, match=r"inputs \(planned 5, now 7, or other names\)\. Use --extend to take up"):
        process(wanted(source(), out, bundle), HERE)
    _, totals = process(wanted(source(), out, bundle), HERE, extend=True)
    assert (totals.images, totals.faces, totals.shards_done) == (7, 14, 3)
    results = open_run(out)
    assert results.images().slice(0, 5).equals(before)
    assert results.faces().slice(0, 7).equals(faces)
    assert [Path(key).name for key in results.images()["key"].to_pylist()[5:]] == ["000a.png", "zzz.png"]
    assert results.images()["image_id"].to_pylist() == list(range(7))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert verify_run(results.run) == []
    assert results.run.parts == [5, 2]
    assert [(entry.what, entry.n_inputs) for entry in results.run.history] == [("extended", 2)]
    ids = results.faces()["face_id"].to_pylist()
    assert np.array_equal(results.vertices(ids[::-1]), results.vertices()[::-1])
    # the plain command goes on with it, and finds nothing to do
    run, totals = process(wanted(source(), out, bundle), HERE)
    assert (run.n_inputs, totals.images, len(run.history)) == (7, 7, 1)


def test_a_run_that_grew_twice_has_the_rows_of_one_that_had_all_at_once(bundle: Bundle, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    for name in ("n1.png", "n2.png", "n3.png"):
        process(wanted(folder, tmp_path / "out", bundle, shard_size=2), HERE, extend=True)
        add(folder, name, 2)
    run, _ = process(wanted(folder, tmp_path / "out", bundle, shard_size=2), HERE, extend=True)
    assert (run.parts, run.n_shards) == ([5, 1, 1, 1], 6)
    process(wanted(folder, tmp_path / "once", bundle, shard_size=2), HERE)
    grown, once = open_run(tmp_path / "out"), open_run(tmp_path / "once")
    assert grown.images().drop_columns(TIMES).equals(once.images().drop_columns(TIMES))
    drop = ["vertices_file", "vertices_row"]
    assert grown.faces().drop_columns(drop).equals(once.faces().drop_columns(drop))
    assert np.array_equal(grown.vertices(), once.vertices())


def test_inputs_that_are_gone_keep_their_rows(bundle: Bundle, tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path), tmp_path / "out"
    process(wanted(folder, out, bundle), HERE)
    faces = open_run(out).faces()
    (folder / "001.png").unlink()
    (folder / "004.png").unlink()
    run, totals = process(wanted(folder, out, bundle), HERE, extend=True)
    assert (run.n_inputs, run.parts, totals.images) == (5, [5], 5)
    assert run.notes == ["2 of the run's inputs are listed no more; the rows stay."]
    assert open_run(out).faces().equals(faces)
    process(wanted(folder, out, bundle), HERE)  # now the list that the run knows


def test_a_name_that_a_list_has_twice_is_two_inputs(bundle: Bundle, tmp_path: Path) -> None:
    folder_of(tmp_path)
    (tmp_path / "list.txt").write_text("in/000.png\n")
    process(wanted(tmp_path / "list.txt", tmp_path / "out", bundle), HERE)
    (tmp_path / "list.txt").write_text("in/001.png\nin/000.png\nin/000.png\n")
    process(wanted(tmp_path / "list.txt", tmp_path / "out", bundle), HERE, extend=True)
    keys = open_run(tmp_path / "out").images()["key"].to_pylist()
    assert keys == ["in/000.png", "in/001.png", "in/000.png"]


def add_to_tar(path: Path, folder: Path, names: list[str], mode: str) -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name in names:
            archive.add(folder / name, name)


def test_an_archive_may_grow_at_its_end_and_be_joined_by_others(bundle: Bundle, tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path), tmp_path / "out"
    (tmp_path / "tars").mkdir()
    pattern = str(tmp_path / "tars/*.tar")
    add_to_tar(tmp_path / "tars/b.tar", folder, ["000.png", "001.png"], "w")
    process(replace(wanted(folder, out, bundle), source=resolve_source(pattern)), HERE)
    faces = open_run(out).faces()
    add_to_tar(tmp_path / "tars/b.tar", folder, ["003.png"], "a")
    add_to_tar(tmp_path / "tars/a.tar", folder, ["004.png"], "w")
    process(replace(wanted(folder, out, bundle), source=resolve_source(pattern)), HERE, extend=True)
    keys = open_run(out).images()["key"].to_pylist()
    assert keys == ["b.tar#000.png", "b.tar#001.png", "a.tar#004.png", "b.tar#003.png"]
    assert open_run(out).faces().slice(0, len(faces)).equals(faces)


def test_an_archive_that_was_written_anew_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    """Its members stand elsewhere, and error rows could not be done again."""
    folder, out = folder_of(tmp_path), tmp_path / "out"
    add_to_tar(tmp_path / "a.tar", folder, ["000.png", "001.png"], "w")
    process(wanted(tmp_path / "a.tar", out, bundle), HERE)
    add_to_tar(tmp_path / "a.tar", folder, ["003.png", "000.png", "001.png"], "w")
    with pytest.raises(RunFolderError, match=r"a\.tar was written anew since .*'a\.tar#000\.png' stands elsewhere"):
        process(wanted(tmp_path / "a.tar", out, bundle), HERE, extend=True)
    assert open_run(out).complete


def test_a_plan_without_the_columns_of_later_versions_grows(bundle: Bundle, tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path), tmp_path / "out"
    process(wanted(folder, out, bundle), HERE)
    with pq.ParquetFile(out / "plan.parquet") as there:
        groups = [there.read_row_group(i, columns=["image_id", "key", "path"]) for i in range(2)]
    with pq.ParquetWriter(out / "plan.parquet", groups[0].schema) as writer:
        for group in groups:
            writer.write_table(group)
    add(folder, "new.png", 2)
    run, totals = process(wanted(folder, out, bundle), HERE, extend=True)
    assert (totals.images, verify_run(run)) == (6, [])


@pytest.mark.parametrize("moment", range(1, 8))
def test_an_extension_that_is_interrupted_is_done_by_the_same_command(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    folder, out = folder_of(tmp_path), tmp_path / "out"
    process(wanted(folder, out, bundle), HERE)
    add(folder, "new.png", 2)
    with stopped_at(moment, monkeypatch):
        process(wanted(folder, out, bundle), HERE, extend=True)
    run, totals = process(wanted(folder, out, bundle), HERE, extend=True)
    assert (totals.images, run.parts, verify_run(run)) == (6, [5, 1], [])
    assert [entry.what for entry in run.history] == ["extended"]
    process(wanted(folder, tmp_path / "once", bundle), HERE)
    assert open_run(out).faces(["face_id"]).num_rows == open_run(tmp_path / "once").faces().num_rows


def test_a_run_that_is_not_done_yet_may_grow(bundle: Bundle, tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path), tmp_path / "out"
    plan.prepare(wanted(folder, out, bundle))
    add(folder, "0.png", 2)
    run, totals = process(wanted(folder, out, bundle), HERE, extend=True)
    assert (totals.images, run.parts, verify_run(run)) == (6, [5, 1], [])


def test_inputs_elsewhere_are_no_extension(bundle: Bundle, tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path), tmp_path / "out"
    process(wanted(folder, out, bundle), HERE)
    other = small_model.pictures(tmp_path / "other", [1] * 7)
    with pytest.raises(RunFolderError, match=f"is a run of inputs in {folder}, and these are in {other}"):
        process(wanted(other, out, bundle), HERE, extend=True)


def test_other_options_are_no_extension(bundle: Bundle, tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path), tmp_path / "out"
    process(wanted(folder, out, bundle), HERE)
    add(folder, "new.png", 2)
    with pytest.raises(RunFolderError, match=r"differs in refine \(there 1, asked for 0\)\. Use the same command"):
        process(wanted(folder, out, bundle, refine=0), HERE, extend=True)


def test_a_folder_that_changes_meanwhile_is_told(bundle: Bundle, tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path), tmp_path / "out"
    run, _ = process(wanted(folder, out, bundle), HERE)
    add(folder, "new.png", 2)
    request = wanted(folder, out, bundle)
    asked = plan.asked_run(request, plan.list_request(request))
    add(folder, "newer.png", 2)
    with pytest.raises(InputError, match="changed while it was listed"):
        growth.extended(run, request, asked)
    assert plan.read_run(out) == run


def test_runs_of_the_first_format_are_read(bundle: Bundle, tmp_path: Path) -> None:
    """Before runs could grow, run.json told neither parts nor history."""
    folder, out = folder_of(tmp_path), tmp_path / "out"
    process(wanted(folder, out, bundle), HERE)
    content = json.loads((out / "run.json").read_text())
    del content["parts"], content["history"]
    (out / "run.json").write_text(json.dumps({**content, "format_version": 1}))
    assert open_run(out).complete
    add(folder, "new.png", 2)
    run, _ = process(wanted(folder, out, bundle), HERE, extend=True)
    assert run.parts == [5, 1]


def test_a_shard_that_is_mended_is_told_in_the_history(bundle: Bundle, tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path), tmp_path / "out"
    process(wanted(folder, out, bundle), HERE)
    copy = Path(shutil.copytree(out, tmp_path / "copy"))
    (copy / "faces/000000.parquet").unlink()
    (copy / "shards/000001.json").write_text("{")
    run, _ = process(wanted(folder, copy, bundle), HERE)
    assert [(entry.what, entry.n_inputs) for entry in run.history] == [("mended", 5)]
    same_tables(copy, out)
    run, _ = process(wanted(folder, copy, bundle), HERE, verify=True)
    assert len(run.history) == 1


def test_shards_of_ids_and_ids_of_shards_agree(bundle: Bundle, tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path), tmp_path / "out"
    process(wanted(folder, out, bundle, shard_size=2), HERE)
    add(folder, "new.png", 0)
    run, _ = process(wanted(folder, out, bundle, shard_size=2), HERE, extend=True)
    assert [list(run.inputs_of(shard)) for shard in range(run.n_shards)] == [[0, 1], [2, 3], [4], [5]]
    assert run.shards_of(np.arange(-1, 7)).tolist() == [-1, 0, 0, 1, 1, 2, 3, -1]
    with pytest.raises(IndexError):
        run.inputs_of(4)
