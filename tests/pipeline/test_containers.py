"""The same pictures as files, in a tar, in a ZIP, in a Parquet table: the same tables but for keys."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import packed_pictures
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import call
from compared_runs import TIMES
from conftest import options

from ddfa_batch.pipeline.plan import RunRequest
from ddfa_batch.pipeline.preview import draw_faces
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.schemas.config import Execution
from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.inputs import Ignored, SourceOptions, list_inputs, resolve_sources

HERE = Execution("in-process")


def run(out: Path, bundle: Bundle, *names: object, sample_json: bool = False) -> Results:
    """A run of what is named, four inputs a shard."""
    source = resolve_sources([str(name) for name in names], SourceOptions(sample_json=sample_json))
    chosen = options(sample_json=sample_json, vertices="none")
    process(RunRequest("process", source, out, chosen, bundle, None, 4), HERE)
    return open_run(out)


def without_keys(table: pa.Table) -> pa.Table:
    return table.drop_columns(["key", *(name for name in TIMES if name in table.column_names)])


@pytest.fixture(scope="module")
def as_files(photos: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run(tmp_path_factory.mktemp("run") / "out", bundle, photos)


@pytest.fixture(params=["tar", "zip", "bytes", "structs"])
def packed(request: pytest.FixtureRequest, photos: Path, tmp_path: Path) -> Path:
    """The pictures in a container of each form."""
    files = packed_pictures.files_in(photos)
    if request.param == "tar":
        return packed_pictures.tar(tmp_path / "all.tar", files)
    if request.param == "zip":
        return packed_pictures.zipped(tmp_path / "all.zip", files)
    return packed_pictures.table(tmp_path / "all.parquet", files, struct=request.param == "structs")


def test_the_same_pictures_give_the_same_tables(as_files: Results, packed: Path, bundle: Bundle) -> None:
    found = run(packed.parent / "out", bundle, packed)
    assert without_keys(found.images()).equals(without_keys(as_files.images()))
    assert without_keys(found.faces()).equals(without_keys(as_files.faces()))
    assert all(key.startswith(f"{packed.name}#") for key in found.images()["key"].to_pylist())
    assert found.run.root == str(packed.parent)
    assert Path(draw_faces(found.run, 3)[0]).is_file()


def test_several_of_any_kind_are_one_run(as_files: Results, photos: Path, tmp_path: Path, bundle: Bundle) -> None:
    files = packed_pictures.files_in(photos)
    names = list(files)
    (tmp_path / "a").mkdir()
    for name in names[:3]:
        (tmp_path / "a" / name).write_bytes(files[name])
    (tmp_path / "one.png").write_bytes(files[names[3]])
    packed_pictures.tar(tmp_path / "b.tar", {name: files[name] for name in names[4:6]})
    packed_pictures.table(tmp_path / "part-0.parquet", {name: files[name] for name in names[6:8]})
    packed_pictures.table(tmp_path / "part-1.parquet", {name: files[name] for name in names[8:10]})
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "list.txt").write_text(f"{names[10]}\n{photos / names[11]}\n")
    (tmp_path / "sub" / names[10]).write_bytes(files[names[10]])
    given = ("a", "one.png", "b.tar", "part-*.parquet", "sub/list.txt")
    found = run(tmp_path / "out", bundle, *(tmp_path / name for name in given))
    assert found.images()["key"].to_pylist() == [
        *(f"a/{name}" for name in names[:3]),
        "one.png",
        *(f"b.tar#{name}" for name in names[4:6]),
        *(f"part-{part}.parquet#{row:06d}" for part in (0, 1) for row in (0, 1)),
        f"sub/{names[10]}",
        str(photos / names[11]),
    ]
    assert without_keys(found.faces()).equals(without_keys(as_files.faces()))


def test_an_input_that_two_names_stand_for_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.jpg").touch()
    source = resolve_sources([str(tmp_path / "a"), str(tmp_path / "a/*.jpg")])
    with pytest.raises(InputError, match=r"'1.jpg' is named twice|'a/1.jpg' is named twice"):
        list(list_inputs(source, tmp_path / "out", Ignored()))


def test_the_samples_json_goes_into_the_images_table(photos: Path, tmp_path: Path, bundle: Bundle) -> None:
    files = packed_pictures.files_in(photos)
    labelled = {"000.png": files["000.png"], "000.json": b'{"caption": "a"}', "001.png": b"broken", "001.json": b"{}"}
    path = packed_pictures.tar(tmp_path / "s.tar", {**labelled, "002.png": files["002.png"]})
    rows = run(tmp_path / "out", bundle, path, sample_json=True).images().to_pylist()
    assert [row["status"] for row in rows] == ["ok", "error", "no_face"]
    assert [row["meta_json"] for row in rows] == ['{"caption": "a"}', "{}", None]
    assert "meta_json" not in run(tmp_path / "without", bundle, path).images().column_names


def test_every_awkward_file_behaves_in_a_tar_as_it_does_alone(shared: Path, tmp_path: Path, bundle: Bundle) -> None:
    folder = shared / "data/awkward"
    path = packed_pictures.tar(tmp_path / "awkward.tar", packed_pictures.files_in(folder))
    alone, packed = run(tmp_path / "a", bundle, folder), run(tmp_path / "b", bundle, path)
    assert without_keys(packed.faces()).equals(without_keys(alone.faces()))
    columns = ["status", "error_kind", "width", "height", "n_faces"]
    assert packed.images(columns).equals(alone.images(columns))
    assert packed.images().num_rows == len(packed_pictures.files_in(folder))


def test_a_plan_made_before_archives_were_read_goes_on(photos: Path, tmp_path: Path, bundle: Bundle) -> None:
    before = run(tmp_path / "out", bundle, photos)
    plan = pq.ParquetFile(tmp_path / "out" / store.PLAN)
    groups = [plan.read_row_group(i) for i in range(plan.num_row_groups)]
    old = [group.drop_columns(["form", "container", "numbers", "column", "sample"]) for group in groups]
    with pq.ParquetWriter(tmp_path / "out" / store.PLAN, old[0].schema) as writer:
        for group in old:
            writer.write_table(group)
    (tmp_path / "out/shards/000001.json").unlink()
    again = run(tmp_path / "out", bundle, photos)
    assert again.faces().equals(before.faces())


def test_an_archive_that_changed_is_another_run(photos: Path, tmp_path: Path, bundle: Bundle) -> None:
    files = packed_pictures.files_in(photos)
    path = packed_pictures.tar(tmp_path / "all.tar", files)
    run(tmp_path / "out", bundle, path)
    packed_pictures.tar(path, {**files, "000.png": files["001.png"]})
    answer = call("process", path, tmp_path / "out", "--detector", "yunet", models=bundle.folder.parent)
    assert answer.code == 1
    assert "differs in" in answer.stderr


def test_the_command_takes_patterns_columns_and_a_list_on_standard_input(
    photos: Path, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = packed_pictures.files_in(photos)
    for i in (8, 9, 10):
        packed_pictures.tar(tmp_path / f"{i:03d}.tar", {f"{i}.png": files["001.png"], f"{i}.json": b"{}"})
    pq.write_table(pa.table({"id": ["x"], "photo": [files["003.png"]]}), tmp_path / "p.parquet")
    shards = tmp_path / "{008..010}.tar"
    answer = call("process", shards, tmp_path / "o1", "--sample-json", models=models)
    assert answer.code == 0
    assert f"3 images in {shards};" in answer.stdout
    images = open_run(tmp_path / "o1").images().to_pydict()
    assert images["key"] == ["008.tar#8.png", "009.tar#9.png", "010.tar#10.png"]
    assert images["meta_json"] == ["{}"] * 3
    words = ("--image-column", "photo", "--key-column", "id", "--quiet")
    assert call("process", tmp_path / "p.parquet", tmp_path / "o2", *words, models=models).code == 0
    assert open_run(tmp_path / "o2").images()["key"].to_pylist() == ["p.parquet#x"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{photos}/000.png\n".encode())))
    assert call("process", "-", tmp_path / "o3", "--quiet", models=models).code == 0
    assert open_run(tmp_path / "o3").images()["key"].to_pylist() == [f"{photos}/000.png"]
    record = json.loads((tmp_path / "o3/run.json").read_text())
    assert record["source"] == "standard input"
