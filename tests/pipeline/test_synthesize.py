"""`synth-videos` as a run: counts, labels, forms, seeds, resuming, bad input."""

from __future__ import annotations

import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import small_model
from clip_requests import N_FRAMES
from clip_requests import clip_request as asked
from conftest import wanted

from ddfa_batch.pipeline import plan, receipts
from ddfa_batch.pipeline import synthesize as steps
from ddfa_batch.pipeline.import_labels import import_300w_lp
from ddfa_batch.pipeline.plan import RunRequest
from ddfa_batch.pipeline.preview import draw_clips
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.pipeline.synthesize import synthesize
from ddfa_batch.schemas.config import CLIP_FORMATS, Execution
from ddfa_batch.schemas.errors import DdfaError, InputError, RunFolderError
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files import clip_files
from ddfa_batch.tasks.files.given_faces import read_faces
from ddfa_batch.tasks.geometry import crop, pose
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, points

HERE = Execution("in-process")
#: Faces of the stills below; the third has none.
COUNTS = [1, 2, 0, 1, 1]


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model.pictures(tmp_path_factory.mktemp("stills"), COUNTS)


@pytest.fixture(scope="module")
def out(stills: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips") / "out"
    synthesize(asked(stills, folder, bundle), HERE)
    return folder


@pytest.fixture(scope="module")
def results(out: Path) -> Results:
    return open_run(out)


def clips(results: Results) -> dict[int, list[np.ndarray]]:
    ids = sorted(set(results.frames(columns=["clip_id"])["clip_id"].to_pylist()))
    return {clip_id: results.clip(clip_id) for clip_id in ids}


def same_clips(a: Results, b: Results) -> None:
    left, right = clips(a), clips(b)
    assert left.keys() == right.keys()
    for clip_id, pictures in left.items():
        assert all(np.array_equal(p, q) for p, q in zip(pictures, right[clip_id], strict=True))
    drop = ["frame_key"]
    ours, theirs = (run.frames().to_pandas().drop(columns=drop) for run in (a, b))
    pd.testing.assert_frame_equal(ours, theirs)


def test_every_still_has_a_row_and_every_frame_one(results: Results) -> None:
    images = results.images().to_pandas()
    assert images.status.tolist() == ["ok", "ok", "no_face", "ok", "ok"]
    frames = results.frames().to_pandas()
    assert len(frames) == 4 * N_FRAMES
    assert frames.groupby("clip_id").frame.apply(list).tolist() == [list(range(N_FRAMES))] * 4
    assert receipts.verify_run(results.run) == []


def test_the_first_frame_is_the_still_and_moves_nowhere(results: Results, stills: Path) -> None:
    for row in results.frames().to_pylist():
        if row["frame"] == 0:
            still = cv2.imread(str(stills / row["key"]))
            np.testing.assert_array_equal(results.clip(row["clip_id"])[0], still)
            assert (row["motion_yaw"], row["motion_pitch"], row["motion_roll"], row["motion_scale"]) == (0, 0, 0, 1)
            assert (row["noise_sigma"], row["blur_x"], row["blur_y"]) == (0, 0, 0)


def test_labels_are_the_columns_of_process(results: Results, bundle: Bundle) -> None:
    frames = results.frames().to_pandas()
    params, rois = np.stack(frames.params.to_numpy()), np.stack(frames.roi.to_numpy())
    model = load_morphable(bundle)
    landmarks = np.stack(frames.landmarks68.to_numpy()).reshape(-1, 68, 3)
    np.testing.assert_allclose(points(PointBasis.of(model, model.landmarks), params, rois, 120), landmarks, atol=1e-3)
    np.testing.assert_allclose(rois, crop.roi_from_landmarks(landmarks), atol=1e-2)
    still_yaw = frames.groupby("clip_id").yaw.transform("first")
    still_pitch = frames.groupby("clip_id").pitch.transform("first")
    # the regressor's T is no exact rotation, so the angles read from it follow the motion to a few percent
    np.testing.assert_allclose(frames.yaw - still_yaw, frames.motion_yaw, atol=0.3, rtol=0.05)
    np.testing.assert_allclose(frames.pitch - still_pitch, frames.motion_pitch, atol=0.5, rtol=0.1)
    ratio = frames.scale / frames.groupby("clip_id").scale.transform("first")
    np.testing.assert_allclose(ratio, frames.motion_scale, rtol=0.02)


def test_the_magenta_face_goes_where_the_labels_say(results: Results) -> None:
    """An outside look: the coloured square's middle moves as the landmarks' middle does."""
    for clip_id, rows in results.frames().to_pandas().groupby("clip_id"):
        if rows.key.iloc[0] == "001.png":
            continue  # two squares
        pictures = results.clip(int(clip_id))
        middles = []
        for picture in pictures:
            mask = (picture[..., 0] > 150) & (picture[..., 2] > 150) & (picture[..., 1] < 120)
            middles.append(np.argwhere(mask).mean(axis=0)[::-1])
        seen = np.array(middles) - middles[0]
        said = rows[["motion_shift_x", "motion_shift_y"]].to_numpy()
        assert np.abs(seen - said).max() < 6


def test_the_same_seed_gives_the_same_bytes_whatever_the_shards_and_workers(
    results: Results, stills: Path, bundle: Bundle, tmp_path: Path
) -> None:
    synthesize(asked(stills, tmp_path / "a", bundle, shard_size=100), HERE)
    same_clips(results, open_run(tmp_path / "a"))


@pytest.mark.filterwarnings("default")
def test_a_local_cluster_gives_the_same_bytes(results: Results, stills: Path, bundle: Bundle, tmp_path: Path) -> None:
    synthesize(asked(stills, tmp_path / "a", bundle, shard_size=1), Execution("local", 2))
    same_clips(results, open_run(tmp_path / "a"))


def test_another_seed_gives_another_motion(results: Results, stills: Path, bundle: Bundle, tmp_path: Path) -> None:
    synthesize(asked(stills, tmp_path / "a", bundle, seed=4), HERE)
    ours, theirs = results.frames().to_pandas(), open_run(tmp_path / "a").frames().to_pandas()
    assert (ours.motion_yaw != theirs.motion_yaw)[ours.frame > 0].all()


def test_clips_of_one_face_differ_and_do_not_depend_on_their_number(
    results: Results, stills: Path, bundle: Bundle, tmp_path: Path
) -> None:
    synthesize(asked(stills, tmp_path / "a", bundle, clips_per_image=3, max_faces=0), HERE)
    many = open_run(tmp_path / "a")
    frames = many.frames().to_pandas()
    assert len(frames) == 5 * 3 * N_FRAMES
    ends = frames[frames.frame == N_FRAMES - 1]
    assert ends.motion_yaw.is_unique
    for clip_id, pictures in clips(results).items():
        assert all(np.array_equal(p, q) for p, q in zip(pictures, many.clip(clip_id), strict=True))


@pytest.mark.parametrize("form", CLIP_FORMATS)
def test_every_form_holds_the_same_pictures(
    results: Results, stills: Path, bundle: Bundle, tmp_path: Path, form: str
) -> None:
    synthesize(asked(stills, tmp_path / "a", bundle, format=form), HERE)
    again = open_run(tmp_path / "a")
    assert receipts.verify_run(again.run) == []
    if form != "mp4":
        same_clips(results, again)
        return
    for clip_id, pictures in clips(results).items():
        movie = again.clip(clip_id)
        assert len(movie) == N_FRAMES
        assert np.abs(movie[-1].astype(int) - pictures[-1]).mean() < 12  # the codec loses a little


def test_frame_keys_are_the_keys_of_a_run_over_the_clips(results: Results, bundle: Bundle, tmp_path: Path) -> None:
    """So that evaluating a model on the clips is a join."""
    process(wanted(results.path / "clips", tmp_path / "judged", bundle), HERE)
    judged = open_run(tmp_path / "judged").images().to_pandas()
    assert set(judged.key) == set(results.frames()["frame_key"].to_pylist())


def test_a_webdataset_carries_its_labels(stills: Path, bundle: Bundle, tmp_path: Path) -> None:
    synthesize(asked(stills, tmp_path / "a", bundle, format="webdataset", size=96), HERE)
    frames = open_run(tmp_path / "a").frames().to_pylist()
    with tarfile.open(tmp_path / "a/clips/000000.tar") as archive:
        names = archive.getnames()
        assert names[:2] == ["0_000.png", "0_000.json"]
        label = json.load(archive.extractfile("0_001.json"))  # type: ignore[arg-type]
    np.testing.assert_allclose(np.ravel(label["landmarks68"]), frames[1]["landmarks68"], rtol=1e-5)
    assert frames[1]["frame_key"] == "000000.tar/0_001.png"


def test_crops_begin_as_the_crop_process_takes(stills: Path, bundle: Bundle, tmp_path: Path) -> None:
    synthesize(asked(stills, tmp_path / "a", bundle, size=120), HERE)
    made = open_run(tmp_path / "a")
    process(wanted(stills, tmp_path / "p", bundle), HERE)
    rois = {r["key"]: r["roi"] for r in open_run(tmp_path / "p").faces().to_pylist() if r["face_index"] == 0}
    for row in made.frames().to_pylist():
        assert (row["width"], row["height"]) == (120, 120)
        assert row["roi"] == [0, 0, 120, 120]
        if row["frame"] == 0:
            still = cv2.imread(str(stills / row["key"]))
            expected = crop.crop(still, np.array(rois[row["key"]]), 120)
            np.testing.assert_array_equal(made.clip(row["clip_id"])[0], expected)


def given(stills: Path, out: Path, bundle: Bundle, source: Path, **changes: object) -> RunRequest:
    faces = read_faces(source, 62, bundle.digest, 1)
    request = asked(stills, out, bundle, detector="boxes", params_digest=faces.digest, **changes)
    return replace(request, given=faces)


def test_parameters_of_a_run_give_the_same_clips(
    results: Results, stills: Path, bundle: Bundle, tmp_path: Path
) -> None:
    process(wanted(stills, tmp_path / "p", bundle), HERE)
    run, totals = synthesize(given(stills, tmp_path / "a", bundle, tmp_path / "p"), HERE)
    assert dict(totals.errors) == {"no_params": 1}
    assert run.notes == ["1 of the inputs have no parameters: error rows."]
    same_clips(results, open_run(tmp_path / "a"))


def test_parameters_of_another_model_are_refused(stills: Path, bundle: Bundle, tmp_path: Path) -> None:
    process(wanted(stills, tmp_path / "p", bundle), HERE)
    with pytest.raises(InputError, match="made with another model"):
        read_faces(tmp_path / "p", 62, "f" * 64, 1)
    with pytest.raises(InputError, match=r"params must have 99 numbers a face, but has 62"):
        read_faces(tmp_path / "p", 99, bundle.digest, 1)


def test_a_table_without_face_index_numbers_the_faces_of_an_image(stills: Path, bundle: Bundle, tmp_path: Path) -> None:
    process(wanted(stills, tmp_path / "p", bundle), HERE)
    faces = open_run(tmp_path / "p").faces().to_pandas()
    two = faces[faces.key == "001.png"]
    two[["key", "params", "roi"]].to_parquet(tmp_path / "two.parquet")
    table = read_faces(tmp_path / "two.parquet", 62, bundle.digest, 0)
    index, params, _ = table.by_key["001.png"]
    assert index.tolist() == [0, 1]
    np.testing.assert_array_equal(params, np.stack(two.params.to_list()))
    request = asked(stills, tmp_path / "a", bundle, max_faces=0, detector="boxes", params_digest=table.digest)
    synthesize(replace(request, given=table), HERE)
    made = open_run(tmp_path / "a")
    assert made.frames().to_pandas().groupby("clip_id").size().tolist() == [N_FRAMES, N_FRAMES]


def test_two_faces_of_one_number_are_refused(stills: Path, bundle: Bundle, tmp_path: Path) -> None:
    process(wanted(stills, tmp_path / "p", bundle), HERE)
    faces = open_run(tmp_path / "p").faces().to_pandas()[["key", "face_index", "params", "roi"]]
    faces.assign(face_index=0).to_parquet(tmp_path / "twins.parquet")
    with pytest.raises(InputError, match=r"twins\.parquet: 2 faces of 001\.png have face_index 0"):
        read_faces(tmp_path / "twins.parquet", 62, bundle.digest, 0)


@pytest.mark.parametrize("content", ["no columns", "nan", "flat roi", "not parquet", "missing"])
def test_a_table_without_parameters_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "labels.parquet"
    params = [float("nan") if content == "nan" else 0.0] * 62
    frame = pd.DataFrame(
        {"key": ["a.png"], "params": [params], "roi": [[0.0, 0.0, 0.0 if content == "flat roi" else 9, 9.0]]}
    )
    if content == "no columns":
        frame = frame.drop(columns=["params"])
    if content == "not parquet":
        path.write_text("hello")
    elif content != "missing":
        frame.to_parquet(path)
    with pytest.raises(InputError, match=r"labels\.parquet"):
        read_faces(path, 62, "0" * 64, 1)


def test_bad_stills_are_rows_and_the_run_goes_on(bundle: Bundle, tmp_path: Path) -> None:
    folder = small_model.pictures(tmp_path / "in", [1, 1])
    process(wanted(folder, tmp_path / "p", bundle), HERE)
    (folder / "000.png").write_bytes((folder / "000.png").read_bytes()[:1000])
    _, totals = synthesize(given(folder, tmp_path / "a", bundle, tmp_path / "p"), HERE)
    assert dict(totals.errors) == {"truncated": 1}
    assert totals.count("clips") == 1
    assert open_run(tmp_path / "a").frames()["key"].to_pylist() == ["001.png"] * N_FRAMES


def test_parameters_that_make_no_face_are_an_error_row(stills: Path, bundle: Bundle, tmp_path: Path) -> None:
    zero = pd.DataFrame({"key": ["000.png"], "params": [[0.0] * 62], "roi": [[0.0, 0.0, 50.0, 50.0]]})
    zero.to_parquet(tmp_path / "zero.parquet")
    _, totals = synthesize(given(stills, tmp_path / "a", bundle, tmp_path / "zero.parquet"), HERE)
    assert dict(totals.errors) == {"no_params": 5}


def test_an_interrupted_run_resumes_to_the_same_clips(
    results: Results, stills: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    clip_of = steps.clip_of

    def dies(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return clip_of(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(steps, "clip_of", dies)
    with pytest.raises(KeyboardInterrupt):
        synthesize(asked(stills, tmp_path / "a", bundle), HERE)
    monkeypatch.undo()
    synthesize(asked(stills, tmp_path / "a", bundle), HERE)
    same_clips(results, open_run(tmp_path / "a"))
    assert not list((tmp_path / "a").rglob(".*"))


def test_another_seed_in_the_same_folder_is_refused(out: Path, stills: Path, bundle: Bundle) -> None:
    with pytest.raises(RunFolderError, match=r"seed \(there 3, asked for 4\)"):
        synthesize(asked(stills, out, bundle, seed=4), HERE)
    with pytest.raises(RunFolderError, match="holds a run of synth-videos, not of process"):
        process(wanted(stills, out, bundle), HERE)


@pytest.mark.parametrize(
    "change", [{"yaw": (-100.0, 0.0)}, {"pitch": (10.0, -10.0)}, {"scale": (0.0, 1.0)}, {"roll": (float("nan"), 1.0)}]
)
def test_ranges_that_are_none_are_refused_before_work(
    stills: Path, bundle: Bundle, tmp_path: Path, change: dict[str, object]
) -> None:
    with pytest.raises(DdfaError, match="range of"):
        synthesize(asked(stills, tmp_path / "a", bundle, **change), HERE)
    assert not (tmp_path / "a").exists()


def test_an_mp4_that_cannot_be_written_is_an_error_row(
    stills: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddfa_batch.tasks.files.clip_files._CODEC", "zzzz")
    _, totals = synthesize(asked(stills, tmp_path / "a", bundle, format="mp4"), HERE)
    assert dict(totals.errors) == {"failed": 4}
    message = open_run(tmp_path / "a").images()["error_message"][0].as_py()
    assert "cannot be written" in message


def looking_away(folder: Path, yaw: float) -> Path:
    """A table with the parameters of one face that looks away by so many degrees."""
    params = small_model.mean_params()
    turned = 0.45 * pose.rotation_matrix(np.array([yaw]), np.zeros(1), np.zeros(1))[0]
    params[:12] = np.column_stack([turned, [60, 62, 0]]).ravel()
    table = {"key": ["000.png"], "params": [params], "roi": [[20.0, 20.0, 120.0, 120.0]]}
    pd.DataFrame(table).to_parquet(folder / "away.parquet")
    return folder / "away.parquet"


@pytest.mark.parametrize(("yaw", "limited"), [(10.0, False), (50.0, True)])
def test_clips_that_turn_back_less_than_asked_say_so_and_are_counted(
    stills: Path, bundle: Bundle, tmp_path: Path, yaw: float, limited: bool
) -> None:
    table = looking_away(tmp_path, yaw)
    request = given(stills, tmp_path / "a", bundle, table, yaw=(-60.0, -60.0), speed=20.0, clips_per_image=2)
    _, totals = synthesize(request, HERE)
    frames = open_run(tmp_path / "a").frames().to_pandas()
    assert totals.count("limited") == (2 if limited else 0)
    assert frames.note.notna().all() == limited
    assert frames.motion_yaw.min() == pytest.approx(-13.55 if limited else -60, abs=0.1)


@pytest.mark.parametrize("form", CLIP_FORMATS)
def test_a_still_that_fails_half_way_leaves_no_clip(
    stills: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    clip_of, calls = steps.clip_of, 0

    def fails_at_the_fourth(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 4:  # the second face of the second still
            raise RuntimeError("no")
        return clip_of(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(steps, "clip_of", fails_at_the_fourth)
    out = tmp_path / "a"
    run, totals = synthesize(asked(stills, out, bundle, format=form, clips_per_image=2, max_faces=0), HERE)
    assert dict(totals.errors) == {"failed": 1}
    labelled = set(open_run(out).frames()["frame_key"].to_pylist())
    assert set().union(*(clip_files.frame_keys(out, shard, form) for shard in range(3))) == labelled
    assert receipts.verify_run(run) == []
    assert not list(out.rglob(".*"))


def spoiled(path: Path, form: str, name: str) -> None:
    """Put the clips of a file or folder under one more name."""
    if form == "parquet":
        table = pq.read_table(path)
        more = table.set_column(0, table.schema.field(0), pa.array([777] * len(table)))
        pq.write_table(pa.concat_tables([table, more]), path)
    elif form == "webdataset":
        with tarfile.open(path, "a") as archive:
            archive.addfile(tarfile.TarInfo(f"{name}_000.png"))
    else:
        first = next(path.iterdir())
        shutil.copytree(first, path / name) if form == "frames" else shutil.copy(first, path / f"{name}.mp4")


@pytest.mark.parametrize("form", CLIP_FORMATS)
def test_pictures_without_labels_and_labels_without_pictures_are_told(
    stills: Path, bundle: Bundle, tmp_path: Path, form: str
) -> None:
    run, _ = synthesize(asked(stills, tmp_path / "a", bundle, format=form), HERE)
    clips = clip_files.clips_path(run.out, 0, form)
    spoiled(clips, form, "777")
    assert any("777" in fault and "without labels" in fault for fault in receipts.verify_run(run))
    shutil.rmtree(clips) if clips.is_dir() else clips.unlink()
    other = clip_files.clips_path(run.out, 2, form)
    shutil.copytree(other, clips) if other.is_dir() else shutil.copy(other, clips)
    assert any("missing" in fault for fault in receipts.verify_run(run))


def test_clips_that_cannot_be_read_are_told(stills: Path, bundle: Bundle, tmp_path: Path) -> None:
    run, _ = synthesize(asked(stills, tmp_path / "a", bundle, format="webdataset"), HERE)
    (run.out / "clips/000000.tar").write_bytes(b"no archive")
    assert any("clips/000000.tar cannot be read" in fault for fault in receipts.verify_run(run))


def test_a_tar_is_what_tarfile_makes_of_it(stills: Path, bundle: Bundle, tmp_path: Path) -> None:
    synthesize(asked(stills, tmp_path / "a", bundle, format="webdataset"), HERE)
    made = tmp_path / "a/clips/000000.tar"
    with tarfile.open(made) as archive, tarfile.open(tmp_path / "b.tar", "w", format=tarfile.USTAR_FORMAT) as again:
        for member in archive:
            info = tarfile.TarInfo(member.name)
            info.size = member.size
            again.addfile(info, archive.extractfile(member))
    assert made.read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_the_preview_shows_the_clips(out: Path) -> None:
    sheet, animation = draw_clips(plan.read_run(out), 2)
    assert cv2.imread(str(sheet)).shape == (4 * 150, N_FRAMES * 150, 3)
    assert Path(animation).stat().st_size > 1000


def mat(folder: Path, name: str, bundle: Bundle, **changes: object) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    cv2.imwrite(str(folder / f"{name}.jpg"), small_model.picture(1))
    para = {
        "Pose_Para": np.array([[0.1, -0.4, 0.2, 150.0, 120.0, -3.0, 0.6]]),
        "Shape_Para": rng.normal(size=(199, 1)),
        "Exp_Para": rng.normal(size=(29, 1)),
    }
    scipy.io.savemat(folder / f"{name}.mat", {**para, **changes})
    return para


@pytest.fixture
def bfm(bundle: Bundle) -> Bundle:
    return replace(bundle, manifest=replace(bundle.manifest, topology="bfm_small"))


def test_300w_lp_labels_become_faces(bfm: Bundle, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "in/AFW").mkdir(parents=True)
    para = mat(tmp_path / "in/AFW", "a", bfm)
    mat(tmp_path / "in/AFW", "b", bfm)
    mat(tmp_path / "in/AFW", "short", bfm, Shape_Para=np.zeros(3))
    (tmp_path / "in/AFW/broken.mat").write_bytes(b"MATLAB 5.0 nonsense")
    (tmp_path / "in/AFW/broken.jpg").write_bytes(b"")
    (tmp_path / "in/AFW/alone.mat").write_bytes(b"")
    rows, faults = import_300w_lp(tmp_path / "in", tmp_path / "labels.parquet", bfm)
    assert rows == 2
    assert [fault.split(":")[0] for fault in faults] == ["AFW/alone.mat", "AFW/broken.mat", "AFW/short.mat"]
    (row, _) = pq.read_table(tmp_path / "labels.parquet").to_pylist()
    assert row["key"] == "AFW/a.jpg"

    # Zhu's own formula: V = f·R·S + t in MATLAB's pixels, y up
    pitch, yaw, roll, tx, ty, tz, f = para["Pose_Para"][0]
    about = [
        np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]]),
        np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]]),
        np.array([[np.cos(roll), np.sin(roll), 0], [-np.sin(roll), np.cos(roll), 0], [0, 0, 1]]),
    ]
    model = load_morphable(bundle)
    alpha = np.concatenate([para["Shape_Para"][:40, 0], para["Exp_Para"][:10, 0]])
    S = model.mean[model.landmarks] + np.tensordot(alpha, model.basis[:, model.landmarks], 1)
    V = f * S @ (about[0] @ about[1] @ about[2]).T + [tx, ty, tz]
    expected = np.stack([V[:, 0] - 1, 256 - V[:, 1]], axis=1)
    np.testing.assert_allclose(np.reshape(row["landmarks68"], (68, 3))[:, :2], expected, atol=1e-2)
    found = points(PointBasis.of(model, model.landmarks), np.array([row["params"]]), np.array([row["roi"]]), 120)
    np.testing.assert_allclose(found[0, :, :2], expected, atol=1e-2)


def test_300w_lp_needs_the_models_of_its_kind(bundle: Bundle, bfm: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Basel Face Model"):
        import_300w_lp(tmp_path, tmp_path / "o.parquet", bundle)
    with pytest.raises(InputError, match=r"holds no \.mat file"):
        import_300w_lp(tmp_path, tmp_path / "o.parquet", bfm)


def test_clips_of_stills_that_were_added(stills: Path, out: Path, bundle: Bundle, tmp_path: Path) -> None:
    folder = small_model.pictures(tmp_path / "in", COUNTS[:3])
    synthesize(asked(folder, tmp_path / "out", bundle), HERE)
    shutil.copytree(stills, folder, dirs_exist_ok=True)
    run, _ = synthesize(asked(folder, tmp_path / "out", bundle), HERE, extend=True)
    assert (run.parts, receipts.verify_run(run)) == ([3, 2], [])
    same_clips(open_run(tmp_path / "out"), open_run(out))
