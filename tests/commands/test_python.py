"""The door from Python: the same runs as the command's, and one picture in memory to the bit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import small_model
from command_line import call
from compared_runs import same_tables

import ddfa_batch
from ddfa_batch.pipeline.results import Results
from ddfa_batch.schemas.errors import BundleError, InputError, OptionError, ShapeError

#: Columns of the faces table by the field of `PictureFaces` that holds the same.
FIELDS = {
    "boxes": "box",
    "scores": "score",
    "rois": "roi",
    "params": "params",
    "rotation": "rotation",
    "yaw": "yaw",
    "pitch": "pitch",
    "roll": "roll",
    "scale": "scale",
    "landmarks68": "landmarks68",
    "visible": "landmarks68_visible",
    "face_size": "face_size",
    "roi_outside": "roi_outside",
    "param_distance": "param_distance",
    "sharpness": "sharpness",
}


@pytest.fixture(scope="module")
def results(photos: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return ddfa_batch.process(photos, tmp_path_factory.mktemp("python") / "out", model="small", models_dir=models)


@pytest.fixture(scope="module")
def pipeline(models: Path) -> ddfa_batch.Pipeline:
    return ddfa_batch.Pipeline("small", models_dir=models)


def test_a_run_from_python_is_the_commands_run(
    results: Results, photos: Path, models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call("process", photos, tmp_path / "out", models=models).code == 0
    same_tables(tmp_path / "out", results.path)
    assert results.complete
    capfd.readouterr()
    again = call("process", photos, results.path, models=models)
    assert "Nothing was left to do." in again.stdout
    ddfa_batch.process(str(photos), str(tmp_path / "out"), models_dir=models)  # the run's own model
    assert capfd.readouterr() == ("", "")


def test_every_option_reaches_the_run(photos: Path, models: Path, bundle: object, tmp_path: Path) -> None:
    run = ddfa_batch.process(
        [photos / "000.png", str(photos / "001.png")],
        tmp_path / "out",
        model=models / "small",
        detector="yunet",
        refine=0,
        vertices="none",
        min_score=0.5,
        max_faces=1,
        detect_size=512,
        max_pixels=10**6,
        average="mirror",
        scheduler="in-process",
        shard_size=1,
    ).run
    assert (run.n_inputs, run.n_shards) == (2, 2)
    said = {"refine": 0, "vertices": "none", "min_score": 0.5, "max_faces": 1, "detect_size": 512, "max_pixels": 10**6}
    said |= {"average": "mirror"}
    assert {name: run.options[name] for name in said} == said


def test_runs_grow_and_heal_from_python(models: Path, tmp_path: Path) -> None:
    folder, out = small_model.pictures(tmp_path / "in", [1, 2]), tmp_path / "out"
    whole = (folder / "000.png").read_bytes()
    (folder / "000.png").write_bytes(b"")
    ddfa_batch.process(folder, out, model="small", models_dir=models)
    (folder / "000.png").write_bytes(whole)
    (folder / "new.png").write_bytes(whole)
    run = ddfa_batch.process(folder, out, models_dir=models, extend=True, retry_failed="empty", verify=True)
    assert run.images()["status"].to_pylist() == ["ok", "ok", "ok"]
    assert [entry.what for entry in run.run.history] == ["extended", "retried"]
    run = ddfa_batch.process(folder, out, models_dir=models, refine=0, overwrite=True, model="small")
    assert run.run.history == []


def test_boxes_of_ones_own(photos: Path, models: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("key,x0,y0,x1,y1\n000.png,0,0,50,50\n")
    run = ddfa_batch.process(photos, tmp_path / "out", model="small", models_dir=models, boxes=tmp_path / "boxes.csv")
    assert run.faces()["key"].to_pylist() == ["000.png"]
    with pytest.raises(OptionError, match="boxes replaces the detector"):
        ddfa_batch.process(photos, tmp_path / "o", boxes=tmp_path / "boxes.csv", min_score=0.5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"refine": 6}, "refine is from 0 to 5, but is 6"),
        ({"min_score": 1.5}, "min_score is from 0 to 1, but is 1.5"),
        ({"max_faces": -1}, "max_faces is at least 0, but is -1"),
        ({"detect_size": 10}, "detect_size is from 64 to 8,192"),
        ({"max_pixels": 0}, "max_pixels is from 1 to"),
        ({"vertices": "float16"}, "vertices is one of float32, quantised, none, but is 'float16'"),
        ({"average": "twice"}, "average is one of none, mirror, but is 'twice'"),
        ({"workers": 0}, "workers is at least 1"),
        ({"shard_size": 0}, "shard_size is from 1 to 1,000,000"),
        ({"scheduler": "in-process", "workers": 2}, "has one worker"),
        ({"overwrite": True, "extend": True}, "leave out extend and retry_failed"),
        ({"overwrite": True, "retry_failed": True}, "leave out extend and retry_failed"),
        ({"retry_failed": ["truncated", "bad"]}, "'bad' is no kind of error; give all, or some of missing"),
        ({"out": ""}, "an empty string names none"),
        ({"source": []}, "nothing is named"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_one_sentence(
    photos: Path, models: Path, tmp_path: Path, options: dict[str, object], told: str
) -> None:
    asked = {"source": photos, "out": tmp_path / "out", "model": "small", "models_dir": models, **options}
    with pytest.raises(OptionError, match=told) as raised:
        ddfa_batch.process(**asked)  # type: ignore[arg-type]
    assert isinstance(raised.value, ValueError)
    assert not (tmp_path / "out").exists()


def test_places_that_cannot_be_are_the_commands_sentences(photos: Path, models: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        ddfa_batch.process(tmp_path / "nowhere", tmp_path / "out", model="small", models_dir=models)
    with pytest.raises(BundleError, match="No model called 'none'"):
        ddfa_batch.Pipeline("none", models_dir=models)
    with pytest.raises(BundleError, match="has no detector 'magic'"):
        ddfa_batch.Pipeline("small", detector="magic", models_dir=models)


@pytest.mark.parametrize("name", [f"{i:03d}.png" for i in range(12)])
def test_a_picture_in_memory_has_the_faces_of_the_run_to_the_bit(
    results: Results, pipeline: ddfa_batch.Pipeline, photos: Path, name: str
) -> None:
    faces = pipeline(np.asarray(cv2.imread(str(photos / name)), np.uint8))
    table = results.faces().to_pandas()
    rows = table[table.key == name]
    assert len(faces) == len(rows)
    for field, column in FIELDS.items():
        found = getattr(faces, field)
        expected = np.array([np.asarray(value) for value in rows[column]]).reshape(found.shape)
        assert np.array_equal(found, expected), field
    assert np.array_equal(faces.translation, rows[["tx", "ty", "tz"]].to_numpy())
    assert np.array_equal(faces.vertices(), results.vertices(rows.face_id))
    assert np.array_equal(faces.triangles, results.triangles)


def test_options_of_the_pipeline(models: Path) -> None:
    image = small_model.picture(6, seed=1)
    assert len(ddfa_batch.Pipeline("small", models_dir=models, max_faces=2)(image)) == 2
    once = ddfa_batch.Pipeline(models / "small", refine=0, detector="yunet")(image)
    np.testing.assert_allclose(once.rois[:, 2] - once.rois[:, 0], int(1.58 * small_model.FACE))
    assert len(ddfa_batch.Pipeline("small", models_dir=models, min_score=1.0)(image)) == 0
    with pytest.raises(OptionError, match="refine"):
        ddfa_batch.Pipeline("small", models_dir=models, refine=9)
    shown = repr(ddfa_batch.Pipeline("small", models_dir=models))
    assert shown == "<ddfa_batch.Pipeline small, detector yunet, refine 1>"


def test_threads_share_a_pipeline(pipeline: ddfa_batch.Pipeline) -> None:
    pictures = [small_model.picture(n % 7, seed=n) for n in range(24)]
    one_by_one = [pipeline(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(pipeline, pictures))
    for a, b in zip(one_by_one, together, strict=True):
        assert np.array_equal(a.landmarks68, b.landmarks68)


def test_an_array_that_lies_otherwise_is_the_same_picture(pipeline: ddfa_batch.Pipeline) -> None:
    image = small_model.picture(3)
    red_first = np.ascontiguousarray(image[..., ::-1])
    before = red_first.copy()
    assert np.array_equal(pipeline(red_first[..., ::-1]).params, pipeline(image).params)
    assert np.array_equal(red_first, before)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: np.zeros((8, 8), np.uint8), r"but this is uint8 \(8, 8\)"),
        (lambda: np.zeros((8, 8, 4), np.uint8), r"uint8 \(8, 8, 4\)"),
        (lambda: np.zeros((8, 8, 3), np.float32), r"float32 \(8, 8, 3\)"),
        (lambda: np.zeros((0, 8, 3), np.uint8), r"has pixels, but this one is \(0, 8, 3\)"),
        (lambda: "photo.jpg", "but this is str"),
        (lambda: None, "but this is NoneType"),
    ],
)
def test_what_is_no_picture_is_a_sentence(
    pipeline: ddfa_batch.Pipeline, make: Callable[[], np.ndarray], told: str
) -> None:
    with pytest.raises(ShapeError, match=told):
        pipeline(make())


def test_the_smallest_pictures_have_no_faces(pipeline: ddfa_batch.Pipeline) -> None:
    faces = pipeline(np.zeros((1, 1, 3), np.uint8))
    assert (len(faces), faces.vertices().shape[0], faces.landmarks68.shape) == (0, 0, (0, 68, 3))


def test_the_package_itself_imports_nothing_heavy() -> None:
    code = (
        "import sys, ddfa_batch; dir(ddfa_batch); "
        "print([name for name in ('numpy', 'cv2', 'dask', 'pyarrow', 'click', 'onnxruntime') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
