"""Runs made of other runs have the same rows, are proven as any run, and tell where they come from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_model
from compared_runs import same_tables
from conftest import wanted

import ddfa_batch
from ddfa_batch.pipeline.derived_plan import derived_request
from ddfa_batch.pipeline.photographs import photographs
from ddfa_batch.pipeline.plan import read_shard
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.regroup_plan import Made, merge_request
from ddfa_batch.pipeline.render import render
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.pipeline.selected_faces import Selection
from ddfa_batch.pipeline.verification import verify_run
from ddfa_batch.schemas.config import Execution, RenderOptions
from ddfa_batch.schemas.errors import OptionError, RunFolderError
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files import store

HERE = Execution("in-process")
#: What is of the place of a row, not of the face.
PLACES = ["face_id", "image_id", "key", "video", "vertices_file", "vertices_row"]


@pytest.fixture(scope="module")
def run(photos: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Twelve pictures in three shards, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("regroup")
    shutil.copytree(photos, folder / "in")
    (folder / "in/broken.jpg").write_bytes(b"\xff\xd8\xff")
    process(wanted(folder / "in", folder / "out", bundle), HERE)
    return open_run(folder / "out")


@pytest.fixture(scope="module")
def film(followed_run: Results) -> Results:
    return followed_run


def whole(run: Results) -> bool:
    found = verify_run(run.run)
    assert found.faults == []
    return found.sealed and not found.pending


@pytest.mark.parametrize("how", ["compact", "select", "merge"])
def test_runs_behind_urls_become_runs_behind_urls(run: Results, tmp_path: Path, how: str) -> None:
    """What is made there is what is made of folders, and knows where it comes from."""
    stored = fsspec.filesystem("memory")
    second = ddfa_batch.select(run.path, tmp_path / "second", "n_faces > 2")
    for name, source in (("first", run), ("second", second)):
        stored.put(str(source.path), f"/regroup/{name}", recursive=True)
    makes: dict[str, Callable[[str, str], Results]] = {
        "compact": lambda at, new: ddfa_batch.compact(f"{at}/first", new, sort="yaw", shard_size=5),
        "select": lambda at, new: ddfa_batch.select(f"{at}/first", new, "n_faces = 1", shard_size=5),
        "merge": lambda at, new: ddfa_batch.merge([f"{at}/second", f"{at}/first"], new, shard_size=5),
    }
    shutil.copytree(run.path, tmp_path / "first")
    here, there = (makes[how](at, f"{at}/new") for at in (str(tmp_path), "memory://regroup"))
    assert whole(there)
    assert there.run.n_shards > 1
    same_tables(here.path, "memory://regroup/new")
    assert Made.of_run(there.run).of[-1] == "memory://regroup/first"  # type: ignore[union-attr]
    with pytest.raises(OptionError, match="is the run itself"):
        ddfa_batch.compact("memory://regroup/first", "memory://regroup/first/")
    stored.rm("/regroup", recursive=True)


def in_order(table: pa.Table) -> pa.Table:
    return table.sort_by("face_id")


# ---------------------------------------------------------------------------------------------- compact


@pytest.fixture(scope="module")
def compacted(run: Results) -> Results:
    return ddfa_batch.compact(run.path, run.path.parent / "compact")


def test_a_compact_run_has_the_same_rows_in_one_file(run: Results, compacted: Results) -> None:
    new = compacted
    assert whole(new)
    assert new.run.n_shards == 1 < run.run.n_shards
    assert new.images().equals(run.images())
    left_out = ["vertices_file", "vertices_row"]
    assert in_order(new.faces()).drop_columns(left_out).equals(in_order(run.faces()).drop_columns(left_out))
    assert new.faces()["vertices_file"].null_count == len(new.faces())


def test_its_meshes_are_rebuilt_bit_for_bit(run: Results, compacted: Results) -> None:
    ids = run.faces(["face_id"])["face_id"].to_pylist()
    assert np.array_equal(compacted.vertices(ids), run.vertices(ids))


def test_sorted_by_a_column_its_files_say_so(run: Results, tmp_path: Path) -> None:
    new = ddfa_batch.compact(run.path, tmp_path / "new", sort="yaw", shard_size=7)
    assert whole(new)
    assert new.run.n_shards == 2
    for shard in range(2):
        file = pq.ParquetFile(new.path / store.table_name("faces", shard))
        yaw = file.read(["yaw"])["yaw"].to_numpy()
        assert (np.diff(yaw) >= 0).all()
        (column,) = file.metadata.row_group(0).sorting_columns
        assert file.schema_arrow.names[0] == "face_id"
        assert file.metadata.row_group(0).column(column.column_index).path_in_schema == "yaw"
    assert in_order(new.faces(["face_id", "score"])).equals(in_order(run.faces(["face_id", "score"])))


def test_small_row_groups_of_sorted_rows_let_readers_pass_over_most(tmp_path: Path) -> None:
    yaw = np.sort(np.random.default_rng(0).uniform(-90, 90, 10_000).astype(np.float32))
    store.put_table(tmp_path / "t.parquet", pa.table({"yaw": yaw}), 500, "yaw")
    metadata = pq.read_metadata(tmp_path / "t.parquet")
    greatest = [metadata.row_group(i).column(0).statistics.max for i in range(metadata.num_row_groups)]
    assert sum(value > 80 for value in greatest) == 2
    assert metadata.num_row_groups == 20


def test_what_faces_cannot_be_sorted_by_is_refused(run: Results, tmp_path: Path) -> None:
    for column in ("yow", "key", "params"):
        with pytest.raises(OptionError, match="column of numbers"):
            ddfa_batch.compact(run.path, tmp_path / "new", sort=column)


def test_a_video_keeps_its_tracks(film: Results, tmp_path: Path) -> None:
    new = ddfa_batch.compact(film.path, tmp_path / "new", sort="yaw")
    assert whole(new)
    assert len(film.tracks()) >= 2
    assert new.tracks().equals(film.tracks())
    assert new.videos().equals(film.videos())


def test_runs_made_before_there_were_videos_are_regrouped_and_reported(run: Results, tmp_path: Path) -> None:
    old = shutil.copytree(run.path, tmp_path / "old")
    for path in [*(old / "images").iterdir(), *(old / "faces").iterdir()]:
        table = pq.read_table(path)
        later = {"video", "frame", "time_s", "track_id", "sharpness"} & set(table.column_names)
        store.put_table(path, table.drop_columns(sorted(later)))
    small = ddfa_batch.select(old, tmp_path / "small", "n_faces = 1")
    merged = ddfa_batch.merge([small.path, old], tmp_path / "new")
    assert len(merged.faces()) == len(run.faces())
    assert "yaw" in ddfa_batch.report(merged.path).read_text()


def test_what_was_cut_short_is_finished_and_what_is_whole_is_left_alone(run: Results, tmp_path: Path) -> None:
    new = ddfa_batch.compact(run.path, tmp_path / "new", shard_size=5)
    before = {p: p.read_bytes() for p in sorted((tmp_path / "new/faces").iterdir())}
    (tmp_path / "new/shards/000001.json").unlink()
    (tmp_path / "new/faces/000002.parquet").write_bytes(b"")
    stamp = (tmp_path / "new/faces/000000.parquet").stat().st_mtime_ns
    assert whole(ddfa_batch.compact(run.path, tmp_path / "new", shard_size=5))
    assert {p: p.read_bytes() for p in sorted((tmp_path / "new/faces").iterdir())} == before
    assert (tmp_path / "new/faces/000000.parquet").stat().st_mtime_ns == stamp
    assert new.run.n_shards == 3


def test_process_does_not_go_on_with_it(run: Results, compacted: Results, bundle: Bundle) -> None:
    with pytest.raises(RunFolderError, match=r"made\.command \(there compact, not asked for\)"):
        process(wanted(Path(run.run.root), compacted.path, bundle, vertices="none"), HERE)


# ----------------------------------------------------------------------------------------------- select


def test_a_selection_has_the_faces_that_were_chosen_and_their_inputs(run: Results, tmp_path: Path) -> None:
    new = ddfa_batch.select(run.path, tmp_path / "new", "score > 0.95 and face_index <> 1", shard_size=3)
    assert whole(new)
    all_faces = in_order(run.faces()).to_pandas()
    expected = all_faces[(all_faces.score > 0.95) & (all_faces.face_index != 1)]
    found = in_order(new.faces()).to_pandas()
    assert found.drop(columns=PLACES).to_dict("list").keys() == expected.drop(columns=PLACES).to_dict("list").keys()
    for name in ("key", "face_index", "yaw", "score"):
        assert found[name].tolist() == expected[name].tolist()
    assert np.array_equal(np.stack(found.params), np.stack(expected.params))
    images = new.images().to_pandas()
    assert images.key.tolist() == expected.key.unique().tolist()
    assert images.n_faces.tolist() == expected.groupby("image_id").size().tolist()
    assert images.image_id.tolist() == list(range(len(images)))


def test_its_plan_tells_which_inputs_they_were(run: Results, tmp_path: Path) -> None:
    new = ddfa_batch.select(run.path, tmp_path / "new", "n_faces > 1")
    source = pq.read_table(new.path / "plan.parquet", columns=["source"])["source"].to_pylist()
    had = run.images(["image_id", "n_faces"]).to_pandas()
    assert source == had[had.n_faces > 1].image_id.tolist()
    image_id, index = (new.faces()[name].to_numpy() for name in ("image_id", "face_index"))
    old = np.array(source)[image_id] * 10000 + index
    assert np.array_equal(new.vertices(), run.vertices(old.tolist()))


def test_errors_can_be_selected(run: Results, tmp_path: Path) -> None:
    new = ddfa_batch.select(run.path, tmp_path / "new", errors=True)
    assert whole(new)
    assert new.images(["key", "status"]).to_pylist() == [{"key": "broken.jpg", "status": "error"}]
    assert len(new.faces()) == 0


def test_it_can_be_drawn(run: Results, tmp_path: Path) -> None:
    new = ddfa_batch.select(run.path, tmp_path / "new", worst=2)
    options = RenderOptions(("mesh",), "png", None, False, str(new.path), new.run.created, 10**8, {})
    drawn, totals = render(derived_request("render", new, tmp_path / "p", options, Selection()), HERE)
    assert totals.count("pictures") == new.run.n_inputs
    assert not open_run(drawn.folder).images(["error_kind"])["error_kind"].drop_null().to_pylist()


def test_tracks_are_told_of_the_frames_that_are_left(film: Results, tmp_path: Path) -> None:
    new = ddfa_batch.select(film.path, tmp_path / "new", "track_id = 1 and frame between 2 and 8")
    assert whole(new)
    had = film.faces(["track_id", "frame"]).to_pandas()
    frames = had[(had.track_id == 1) & had.frame.between(2, 8)].frame
    (track,) = new.tracks().to_pylist()
    assert (track["track_id"], track["n_frames"]) == (1, len(frames))
    assert (track["first_frame"], track["last_frame"]) == (frames.min(), frames.max())
    (video,) = new.videos().to_pylist()
    assert (video["n_frames"], video["n_taken"], video["n_faces"]) == (12, len(frames), len(frames))


def test_everything_is_no_selection(run: Results, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="compact takes everything"):
        ddfa_batch.select(run.path, tmp_path / "new")


# ------------------------------------------------------------------------------------------------ merge


@pytest.fixture(scope="module")
def other(bundle: Bundle, run: Results) -> Results:
    """Three more pictures, in a folder beside the first; two are called as some there."""
    folder = run.path.parent
    small_model.pictures(folder / "more", [2, 1, 1])
    process(wanted(folder / "more", folder / "other", bundle, shard_size=2), HERE)
    return open_run(folder / "other")


@pytest.fixture(scope="module")
def merged(run: Results, other: Results) -> Results:
    return ddfa_batch.merge([run.path, other.path], run.path.parent / "merged", shard_size=8)


def test_merged_runs_have_all_rows_under_ids_of_their_own(run: Results, other: Results, merged: Results) -> None:
    new = merged
    assert whole(new)
    assert len(new.images()) == len(run.images()) + len(other.images())
    faces = in_order(new.faces()).to_pandas()
    assert faces.face_id.is_unique
    n = len(run.faces())
    assert np.array_equal(np.stack(faces.params[:n]), np.stack(in_order(run.faces()).to_pandas().params))
    assert np.array_equal(np.stack(faces.params[n:]), np.stack(in_order(other.faces()).to_pandas().params))
    keys = new.images()["key"].to_pylist()
    assert keys == [f"in/{k}" for k in run.images()["key"].to_pylist()] + [
        f"more/{k}" for k in other.images()["key"].to_pylist()
    ]


def test_photographs_of_merged_runs_are_found(merged: Results) -> None:
    rows = [row for shard in range(merged.run.n_shards) for row in read_shard(merged.path, shard)]
    found = [isinstance(image, np.ndarray) for _, image in photographs(merged.run, rows, 10**8)]
    assert found == [status != "error" for status in merged.images(["status"])["status"].to_pylist()]


def test_of_an_input_that_both_have_the_first_ones_rows_are_taken(run: Results, tmp_path: Path) -> None:
    some = ddfa_batch.select(run.path, tmp_path / "some", "n_faces = 1")
    new = ddfa_batch.merge([some.path, run.path], tmp_path / "new")
    assert whole(new)
    assert sorted(new.images()["key"].to_pylist()) == sorted(run.images()["key"].to_pylist())
    assert len(new.faces()) == len(run.faces())
    (note,) = new.run.notes
    assert note.startswith(f"{len(some.images())} of the inputs of {run.path} are in a run named before")


def test_tracks_of_merged_runs_do_not_mix(film: Results, tmp_path: Path) -> None:
    shutil.copytree(film.run.root, tmp_path / "again")
    again = shutil.copytree(film.path, tmp_path / "out")
    record = json.loads((again / "run.json").read_text())
    (again / "run.json").write_text(json.dumps({**record, "root": str(tmp_path / "again")}))
    new = ddfa_batch.merge([film.path, again], tmp_path / "new", shard_size=16)
    assert whole(new)
    n = len(film.tracks())
    assert new.tracks()["track_id"].to_pylist() == list(range(2 * n))
    assert new.videos()["n_tracks"].to_pylist() == [n, n]
    assert new.tracks()["mean_score"].to_pylist() == film.tracks()["mean_score"].to_pylist() * 2


def test_runs_of_two_models_are_refused_and_so_is_one_run_twice(run: Results, film: Results, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"model small .* with builtin .*two models do not go into one table"):
        merge_request([run, film], tmp_path / "new")
    with pytest.raises(OptionError, match="two runs or more, each once"):
        merge_request([run, run], tmp_path / "new")


def test_runs_with_other_columns_are_refused(bundle: Bundle, run: Results, tmp_path: Path) -> None:
    process(wanted(run.path.parent / "in", tmp_path / "out", bundle, smooth="one-euro"), HERE)
    with pytest.raises(RunFolderError, match=r"not the same columns \(landmarks68_smooth, "):
        merge_request([run, open_run(tmp_path / "out")], tmp_path / "new")


def test_the_run_itself_is_not_written_over(run: Results) -> None:
    with pytest.raises(OptionError, match="is the run itself"):
        ddfa_batch.compact(run.path, run.path, overwrite=True)
