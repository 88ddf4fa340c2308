"""The main job in this process: counts, resuming, refusals, faults, and what the tables say."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import duckdb
import dying
import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import small_model
from compared_runs import same_tables
from conftest import wanted

from ddfa_batch.pipeline import faces as steps
from ddfa_batch.pipeline import plan, receipts
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.process_request import resolved_options
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.config import FACES_PER_IMAGE, Execution, FaceOptions
from ddfa_batch.schemas.errors import BundleError, InputError, RunFolderError
from ddfa_batch.tasks.bundles.model_bundle import Bundle, load_bundle
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.files.given_boxes import read_boxes
from ddfa_batch.tasks.inference.face_finder import FaceCandidates, FaceFinder

HERE = Execution("in-process")
COUNTS = [1, 2, 0, 1, 3, 1, 0, 2, 6, 1, 1, 1]


@pytest.fixture(scope="module")
def out(photos: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "out"
    process(wanted(photos, folder, bundle), HERE)
    return folder


@pytest.fixture(scope="module")
def results(out: Path) -> Results:
    return open_run(out)


def test_every_input_has_one_row_and_every_face_one(results: Results) -> None:
    images = results.images().to_pandas()
    assert images.key.tolist() == [f"{i:03d}.png" for i in range(12)]
    assert images.n_faces.tolist() == COUNTS
    assert images.status.tolist() == ["ok" if n else "no_face" for n in COUNTS]
    faces = results.faces().to_pandas()
    assert len(faces) == sum(COUNTS)
    assert faces.groupby("key").size().to_dict() == {f"{i:03d}.png": n for i, n in enumerate(COUNTS) if n}
    assert faces.face_id.is_unique
    assert (images[["width", "height"]].to_numpy() == (384, 256)).all()


def test_the_columns_agree_with_each_other(results: Results) -> None:
    faces = results.faces().to_pandas()
    landmarks = np.stack(faces.landmarks68.to_numpy()).reshape(-1, 68, 3)
    dense = results.vertices()
    np.testing.assert_allclose(landmarks, dense[:, results.landmarks68], atol=1e-3)
    size = np.sqrt(np.prod(np.ptp(landmarks[..., :2], axis=1), axis=1))
    np.testing.assert_allclose(faces.face_size, size, rtol=1e-5)
    rotation = np.stack(faces.rotation.to_numpy()).reshape(-1, 3, 3)
    np.testing.assert_allclose(
        rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (len(faces), 1, 1)), atol=1e-5
    )
    # scale · R · (a vertex of the face) + t lands where the mesh is, up to the part of T that is no rotation
    roi = np.stack(faces.roi.to_numpy())
    np.testing.assert_allclose(roi[:, 2] - roi[:, 0], roi[:, 3] - roi[:, 1], rtol=1e-9)
    assert faces.param_distance.between(0.01, 5).all()
    assert faces.roi_outside.between(0, 1).all()
    visible = np.stack(faces.landmarks68_visible.to_numpy())
    assert visible.dtype == bool
    assert 0.3 < visible.mean() <= 1


def test_different_crops_give_different_faces(results: Results) -> None:
    params = np.stack(results.faces()["params"].to_numpy())
    assert len(np.unique(params.round(6), axis=0)) == len(params)


def test_refinement_crops_around_the_landmarks(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    process(wanted(photos, tmp_path / "once", bundle, refine=0), HERE)
    faces = open_run(tmp_path / "once").faces().to_pandas()
    box, roi = np.stack(faces.box.to_numpy()), np.stack(faces.roi.to_numpy())
    np.testing.assert_allclose(roi[:, 2] - roi[:, 0], int(1.58 * small_model.FACE))
    np.testing.assert_allclose((roi[:, 0] + roi[:, 2]) / 2, (box[:, 0] + box[:, 2]) / 2, atol=1e-4)


def test_a_model_may_say_that_answers_are_averaged(bundle: Bundle) -> None:
    averaging = replace(bundle, manifest=replace(bundle.manifest, average="mirror"))
    asked = {said: resolved_options(FaceOptions(average=said), averaging).average for said in (None, "none", "mirror")}
    assert asked == {None: "mirror", "none": "none", "mirror": "mirror"}
    assert resolved_options(FaceOptions(), bundle).average == "none"
    with pytest.raises(ValueError, match="average is one of none, mirror"):
        replace(bundle.manifest, average="median")


def test_a_run_averages_with_the_mirror_image(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    done = {}
    for average in ("none", "mirror"):
        process(wanted(photos, tmp_path / average, bundle, average=average), HERE)
        done[average] = open_run(tmp_path / average)
    plain, averaged = (np.stack(run.faces()["params"].to_numpy()) for run in done.values())
    assert np.abs(plain - averaged).max() > 1e-4
    assert "average" not in done["none"].run.options  # so runs that were begun before there was any go on
    assert done["mirror"].run.options["average"] == "mirror"


def test_vertices_come_in_the_order_asked_for(results: Results) -> None:
    ids = results.faces(columns=["face_id"])["face_id"].to_pylist()
    chosen = [ids[-1], ids[0], ids[5], ids[0]]
    np.testing.assert_array_equal(results.vertices(chosen), results.vertices()[[len(ids) - 1, 0, 5, 0]])
    with pytest.raises(RunFolderError, match="has no face 20000"):
        results.vertices([20000])
    with pytest.raises(RunFolderError, match="has no face 99999999"):
        results.vertices([99999999])


def test_meshes_rebuilt_from_parameters_have_the_same_bits(
    results: Results, photos: Path, bundle: Bundle, tmp_path: Path
) -> None:
    process(wanted(photos, tmp_path / "out", bundle, vertices="none"), HERE)
    lean = open_run(tmp_path / "out")
    assert not (tmp_path / "out/vertices").exists()
    assert not (tmp_path / "out/vertices.h5").exists()
    assert lean.faces()["vertices_file"].null_count == sum(COUNTS)
    assert np.array_equal(lean.vertices(), results.vertices())


def test_the_hdf5_files_need_no_code_of_ours(out: Path, results: Results) -> None:
    with h5py.File(out / "vertices.h5") as file:
        assert file["vertices"].shape == (sum(COUNTS), small_model.head().n_vertices, 3)
        np.testing.assert_array_equal(file["face_id"][:], results.faces()["face_id"].to_numpy())
        np.testing.assert_array_equal(file["triangles"][:], results.triangles)
        np.testing.assert_array_equal(file["vertices"][:], results.vertices())
    with h5py.File(out / "vertices/000000.h5") as file:
        assert file["vertices"].chunks == (1, small_model.head().n_vertices, 3)
        assert "y down" in file["vertices"].attrs["axes"]
    with h5py.File(out / "topology.h5") as file:
        assert file.attrs["topology"] == "small_head"


def test_the_tables_need_no_code_of_ours(out: Path) -> None:
    assert len(pd.read_parquet(out / "faces")) == sum(COUNTS)
    count, widest = duckdb.sql(f"select count(*), max(abs(yaw)) from '{out}/faces/*.parquet'").fetchall()[0]
    assert count == sum(COUNTS)
    assert widest < 90
    metadata = pq.read_schema(out / "faces/000000.parquet").metadata
    assert metadata[b"ddfa_batch.schema"] == b"faces 1"
    assert metadata[b"ddfa_batch.topology"] == b"small_head"
    described = json.loads(metadata[b"ddfa_batch.columns"])
    assert set(described) == set(pq.read_schema(out / "faces/000000.parquet").names)


def test_the_same_command_again_changes_nothing(out: Path, photos: Path, bundle: Bundle) -> None:
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    run, totals = process(wanted(photos, out, bundle), HERE)
    assert totals.images == 12
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before
    assert receipts.verify_run(run) == []


@pytest.mark.parametrize("n_done", [0, 1, 2])
def test_an_interrupted_run_resumes_to_the_same_tables(
    out: Path, photos: Path, bundle: Bundle, tmp_path: Path, n_done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    put_table = store.put_table

    def dies(path: Path, table: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2 * n_done + 2:
            raise KeyboardInterrupt
        put_table(path, table)

    monkeypatch.setattr(store, "put_table", dies)
    with pytest.raises(KeyboardInterrupt):
        process(wanted(photos, tmp_path / "out", bundle), HERE)
    monkeypatch.undo()
    assert len(list((tmp_path / "out/shards").glob("*.json"))) == n_done
    _, totals = process(wanted(photos, tmp_path / "out", bundle), HERE)
    assert totals.images == 12
    same_tables(tmp_path / "out", out)
    assert not list((tmp_path / "out").rglob(".*"))


def test_shard_size_changes_no_row(out: Path, photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    process(wanted(photos, tmp_path / "out", bundle, shard_size=5), HERE)
    a, b = open_run(out).faces().to_pandas(), open_run(tmp_path / "out").faces().to_pandas()
    drop = ["vertices_file", "vertices_row"]
    pd.testing.assert_frame_equal(a.drop(columns=drop), b.drop(columns=drop))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"refine": 0}, r"refine \(there 1, asked for 0\)"),
        ({"min_score": 0.5}, r"min-score \(there 0.9, asked for 0.5\)"),
        ({"vertices": "none"}, "vertices"),
        ({"shard_size": 7}, r"shard-size \(there 4, asked for 7\)"),
    ],
)
def test_another_run_in_the_folder_is_refused_by_name(
    out: Path, photos: Path, bundle: Bundle, change: dict[str, object], named: str
) -> None:
    shard_size = change.pop("shard_size", 4)
    with pytest.raises(RunFolderError, match=named):
        process(wanted(photos, out, bundle, shard_size=shard_size, **change), HERE)  # type: ignore[arg-type]


def test_new_inputs_are_not_quietly_left_out(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(photos, tmp_path / "photos"))
    process(wanted(folder, tmp_path / "out", bundle), HERE)
    cv2.imwrite(str(folder / "new.png"), small_model.picture(1))
    with pytest.raises(RunFolderError, match="inputs \\(planned 12, now 13"):
        process(wanted(folder, tmp_path / "out", bundle), HERE)
    _, totals = process(wanted(folder, tmp_path / "out", bundle), HERE, overwrite=True)
    assert totals.images == 13


def test_another_model_is_refused(out: Path, photos: Path, bundle: Bundle) -> None:
    other = replace(bundle, digest="0" * 64)
    with pytest.raises(RunFolderError, match="model"):
        process(wanted(photos, out, other), HERE)


def test_a_folder_with_other_files_is_never_touched(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(RunFolderError, match=r"holds no run \(it has thesis\.tex\)"):
            process(wanted(photos, tmp_path, bundle), HERE, overwrite=overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_photographs_in_a_folder_called_images_are_never_removed(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    """`process ./data/images ./data --overwrite` is one slip away."""
    inside = Path(shutil.copytree(photos, tmp_path / "data/images"))
    before = sorted(inside.iterdir())
    with pytest.raises(RunFolderError, match="it has images"):
        process(wanted(inside, tmp_path / "data", bundle), HERE, overwrite=True)
    (tmp_path / "data/run.json").write_text('{"somebody": "else"}')
    with pytest.raises(RunFolderError, match="is not a ddfa-batch run"):
        process(wanted(inside, tmp_path / "data", bundle), HERE, overwrite=True)
    assert sorted(inside.iterdir()) == before
    process(wanted(photos, tmp_path / "run", bundle), HERE)
    mine = Path(shutil.copy(photos / "000.png", tmp_path / "run/images/my.png"))
    process(wanted(photos, tmp_path / "run", bundle, refine=0), HERE, overwrite=True)
    assert mine.exists()


def test_overwrite_removes_the_run_and_nothing_else(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    process(wanted(photos, tmp_path / "out", bundle), HERE)
    (tmp_path / "out/my-notes.txt").write_text("keep me")
    process(wanted(photos, tmp_path / "out", bundle, refine=0, shard_size=100), HERE, overwrite=True)
    assert (tmp_path / "out/my-notes.txt").exists()
    assert len(list((tmp_path / "out/shards").iterdir())) == 1


def test_a_crash_while_planning_leaves_a_folder_that_can_be_planned_again(
    photos: Path, bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/plan.parquet").write_bytes(b"half a plan")
    _, totals = process(wanted(photos, tmp_path / "out", bundle), HERE)
    assert totals.images == 12


def test_bad_files_are_rows_and_the_run_goes_on(bundle: Bundle, tmp_path: Path) -> None:
    folder = small_model.pictures(tmp_path / "in", [1, 1])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("no picture")
    (folder / "cut.png").write_bytes((folder / "000.png").read_bytes()[:3000])
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "large.png").write_bytes(cv2.imencode(".png", np.zeros((400, 400, 3), np.uint8))[1])
    _, totals = process(wanted(folder, tmp_path / "out", bundle, max_pixels=120_000), HERE)
    assert totals.images == 7
    assert dict(totals.errors) == {"empty": 1, "not_an_image": 1, "truncated": 1, "missing": 1, "too_large": 1}
    rows = open_run(tmp_path / "out").images().to_pandas().set_index("key")
    assert rows.loc["large.png"].error_message == (
        "The picture has 400 × 400 pixels; the limit is 120,000 (--max-pixels)."
    )
    assert rows.loc["000.png"].status == "ok"


def test_a_run_without_a_single_face(bundle: Bundle, tmp_path: Path) -> None:
    folder = small_model.pictures(tmp_path / "in", [0, 0])
    run, _ = process(wanted(folder, tmp_path / "out", bundle), HERE)
    results = open_run(tmp_path / "out")
    assert results.faces().num_rows == 0
    assert results.vertices().shape == (0, small_model.head().n_vertices, 3)
    assert receipts.verify_run(run) == []


def test_an_unexpected_error_is_a_row_with_its_reason(
    photos: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(steps.crop, "outside_share", breaks)
    _, totals = process(wanted(photos, tmp_path / "out", bundle), HERE)
    assert dict(totals.errors) == {"failed": 10}
    message = open_run(tmp_path / "out").images()["error_message"][0].as_py()
    assert message == "Unexpected error, please report it: ZeroDivisionError: of all things"


def test_a_face_that_is_found_twice_costs_no_other_its_place(
    photos: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = FaceFinder.__call__

    def find_twice(self: FaceFinder, image: U8, most: int = FACES_PER_IMAGE) -> FaceCandidates:
        once = find(self, image)
        return once.take(np.repeat(np.arange(len(once)), 2)[:most])

    monkeypatch.setattr(FaceFinder, "__call__", find_twice)
    process(wanted(photos, tmp_path / "out", bundle, max_faces=2), HERE)
    counts = open_run(tmp_path / "out").images()["n_faces"].to_pylist()
    assert counts == [min(count, 2) for count in COUNTS]


def test_max_faces_keeps_the_best(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    process(wanted(photos, tmp_path / "out", bundle, max_faces=2), HERE)
    assert open_run(tmp_path / "out").images()["n_faces"].to_pylist() == [min(n, 2) for n in COUNTS]


def test_a_regressor_that_cannot_tell_faces_is_not_asked(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(bundle.folder, copy)
    content = json.loads((copy / "model.json").read_text())
    content["detectors"]["yunet"]["detector_weight"] = 1.0
    (copy / "model.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match=r"detectors/yunet.onnx has the regressor tell what is a face"):
        process(wanted(photos, tmp_path / "out", load_bundle(copy)), HERE)


def test_given_boxes_replace_the_detector(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    table = tmp_path / "boxes.csv"
    table.write_text("key,x0,y0,x1,y1,score\n002.png,10,20,110,120,0.4\n000.png,0,0,50,50,0.5\n002.png,5,5,60,60,0.9\n")
    boxes = read_boxes(table)
    request = wanted(photos, tmp_path / "out", bundle, detector="boxes", min_score=0.0, boxes_digest=boxes.digest)
    run, totals = process(replace(request, given=boxes), HERE)
    assert totals.faces == 3
    assert run.notes == ["10 of the inputs have no boxes: rows without faces."]
    faces = open_run(tmp_path / "out").faces().to_pandas()
    assert faces.key.tolist() == ["000.png", "002.png", "002.png"]
    assert faces.score.tolist() == pytest.approx([0.5, 0.9, 0.4])
    np.testing.assert_array_equal(faces.box[1], [5, 5, 60, 60])


def test_boxes_for_nothing_are_refused(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("key,x0,y0,x1,y1\nimages/000.png,0,0,50,50\n")
    boxes = read_boxes(tmp_path / "boxes.csv")
    request = wanted(photos, tmp_path / "out", bundle, detector="boxes", boxes_digest=boxes.digest)
    with pytest.raises(InputError, match=r"such as 'images/000\.png'"):
        process(replace(request, given=boxes), HERE)


def test_an_empty_folder_is_said(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/readme.md").touch()
    with pytest.raises(InputError, match=r"holds no images. 1 file is no image by name and left out \(1 \.md\)"):
        process(wanted(tmp_path / "in", tmp_path / "out", bundle), HERE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ["images/000001.parquet", "faces/000000.parquet", "vertices/000002.h5"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_status_finds_what_does_not_add_up(out: Path, tmp_path: Path, file: str, damage: str) -> None:
    copy = Path(shutil.copytree(out, tmp_path / "copy"))
    assert receipts.verify_run(plan.read_run(copy)) == []
    if damage == "missing":
        (copy / file).unlink()
    else:
        (copy / file).write_bytes((copy / file).read_bytes()[:-10])
    (found,) = receipts.verify_run(plan.read_run(copy))
    assert found.startswith(file)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "ddfa-batch run", "format_version": 2}'])
def test_a_damaged_run_json_is_named(out: Path, tmp_path: Path, text: str) -> None:
    """Where neither seal nor plan holds a copy of it."""
    copy = Path(shutil.copytree(out, tmp_path / "copy"))
    (copy / "seal.json").unlink()
    (copy / "plan.parquet").unlink()
    (copy / "run.json").write_text(text)
    with pytest.raises(RunFolderError, match=r"run\.json"):
        open_run(copy)


def test_a_finished_run_can_be_moved(out: Path, results: Results, tmp_path: Path) -> None:
    moved = open_run(Path(shutil.copytree(out, tmp_path / "elsewhere")))
    assert moved.complete
    assert moved.faces().equals(results.faces())
    assert np.array_equal(moved.vertices(), results.vertices())
    with h5py.File(tmp_path / "elsewhere/vertices.h5") as file:
        assert np.array_equal(file["vertices"][:], results.vertices())


def test_an_image_that_kills_its_worker_twice_is_given_up(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    """Two processes die for real while they hold 001.png; the third attempt leaves it out."""
    request = wanted(photos, tmp_path / "out", bundle)
    plan.prepare(request, overwrite=False)
    for _ in range(2):
        command = [sys.executable, Path(dying.__file__), tmp_path / "out", "001.png"]
        assert subprocess.run(command, check=False).returncode == -signal.SIGSEGV
    _, totals = process(request, HERE)
    assert dict(totals.errors) == {"crashed": 1}
    rows = open_run(tmp_path / "out").images().to_pandas().set_index("key")
    assert rows.loc["001.png"].error_kind == "crashed"
    assert rows.loc["000.png"].status == "ok"
    assert totals.images == 12
