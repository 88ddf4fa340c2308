"""Videos through `process`: frames as rows, faces followed over shards, tracks and videos accounted for."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import portrait_films
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import small_videos
from command_line import COMMAND, call
from compared_runs import TIMES
from conftest import ROOT, wanted
from dask_clusters import Cluster, stop

from ddfa_batch.pipeline import faces, plan
from ddfa_batch.pipeline.preview import draw_faces
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.receipts import pending_shards, verify_run
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.pipeline.video_accounts import video_account
from ddfa_batch.schemas.config import BUILTIN, Execution
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.schemas.tables import matrix
from ddfa_batch.tasks.bundles.model_bundle import Bundle, find_bundle
from ddfa_batch.tasks.files.video_files import index_video, read_frames
from ddfa_batch.tasks.geometry import smoothing
from ddfa_batch.tasks.inference.scene_cuts import is_cut, scene_thumbnail

pytestmark = pytest.mark.filterwarnings("default")

HERE = Execution("in-process")
SHARD = 13  # 40 frames: four shards, three seams
N = portrait_films.N_FRAMES


@pytest.fixture(scope="module")
def builtin(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return find_bundle(BUILTIN, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return portrait_films.write(tmp_path_factory.mktemp("film") / "clip.mp4")


def do(source: Path, out: Path, bundle: Bundle, execution: Execution = HERE, **changes: object) -> Results:
    """A run of the built-in model, without meshes."""
    asked = {"detector": "builtin", "min_score": 0.76, "vertices": "none", **changes}
    size = asked.pop("shard_size", SHARD)
    process(wanted(source, out, bundle, shard_size=size, **asked), execution)  # type: ignore[arg-type]
    return open_run(out)


@pytest.fixture(scope="module")
def expected(film: Path, builtin: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return do(film, tmp_path_factory.mktemp("expected") / "out", builtin, smooth="one-euro")


def same(a: Results, b: Results) -> None:
    """Assert that two runs of a video wrote the same, times aside."""
    assert a.images().drop_columns(TIMES).equals(b.images().drop_columns(TIMES))
    for table in ("faces", "tracks", "videos"):
        assert getattr(a, table)().equals(getattr(b, table)()), table


# ------------------------------------------------------------------------------------------- frames and tracks


def test_every_frame_is_a_row_with_its_number_and_its_time(expected: Results) -> None:
    images = expected.images()
    assert images["key"].to_pylist() == [f"clip.mp4#{number:06d}" for number in range(N)]
    assert images["frame"].to_pylist() == list(range(N))
    np.testing.assert_allclose(images["time_s"], np.arange(N) / 25)
    assert set(images["status"].to_pylist()) == {"ok"}
    assert set(images["video"].to_pylist()) == {0}


def test_two_who_pass_each_other_keep_one_track_each_over_all_seams(expected: Results) -> None:
    faces, tracks = expected.faces(), expected.tracks()
    assert tracks["n_frames"].to_pylist() == [N, N]
    assert (tracks["first_frame"].to_pylist(), tracks["last_frame"].to_pylist()) == ([0, 0], [N - 1, N - 1])
    assert tracks["n_gaps"].to_pylist() == [0, 0]
    for track in (0, 1):
        own = faces.filter(pc.equal(faces["track_id"], track))
        x = matrix(own["landmarks68"]).reshape(-1, 68, 3)[:, :, 0].mean(axis=1)[np.argsort(own["frame"])]
        steps = np.diff(x)
        assert (steps > 0).all() or (steps < 0).all()  # nobody turns round


def test_seams_change_nothing_but_what_is_seen_anew(
    film: Path, builtin: Bundle, expected: Results, tmp_path: Path
) -> None:
    """A shard begins with a search, so values differ a little; who is who does not."""
    whole = do(film, tmp_path / "out", builtin, shard_size=100)
    assert whole.run.n_shards == 1
    a, b = (middles(run.faces()) for run in (whole, expected))
    assert a.keys() == b.keys()
    assert max(np.abs(a[key] - b[key])[:2].max() for key in a) < 4


def middles(faces: pa.Table) -> dict[tuple[int, int], np.ndarray]:
    """The middle of the landmarks of every face, by frame and track."""
    where = matrix(faces["landmarks68"]).reshape(-1, 68, 3).mean(axis=1)
    return dict(zip(zip(*(faces[name].to_pylist() for name in ("frame", "track_id")), strict=True), where, strict=True))


def test_the_tables_of_tracks_and_videos_agree_with_faces(expected: Results) -> None:
    tracks, faces, (video,) = expected.tracks(), expected.faces(), expected.videos().to_pylist()
    of_track = [faces.filter(pc.equal(faces["track_id"], track)) for track in tracks["track_id"].to_pylist()]
    sizes = [pc.mean(own["face_size"]).as_py() for own in of_track]
    np.testing.assert_allclose(tracks["mean_size"], sizes, rtol=1e-5)
    for name, q in (("low", 5), ("median", 50), ("high", 95)):
        pitch = [np.percentile(own["pitch"].to_numpy().astype(np.float64), q) for own in of_track]
        np.testing.assert_allclose(tracks[f"pitch_{name}"], pitch)
    assert (video["status"], video["n_frames"], video["n_taken"], video["n_errors"]) == ("ok", N, N, 0)
    assert (video["n_faces"], video["n_tracks"], video["fps"]) == (2 * N, 2, 25.0)
    assert (video["width"], video["height"]) == (portrait_films.WIDTH, portrait_films.HEIGHT)


def test_smoothed_columns_stand_beside_the_raw_ones(
    film: Path, builtin: Bundle, expected: Results, tmp_path: Path
) -> None:
    plain, faces = do(film, tmp_path / "out", builtin).faces(), expected.faces()
    assert faces.select(plain.schema.names).equals(plain)
    added = set(faces.schema.names) - set(plain.schema.names)
    assert added == {"landmarks68_smooth", "yaw_smooth", "pitch_smooth", "roll_smooth", "params_smooth"}
    own = faces.filter(pc.equal(faces["track_id"], 0)).sort_by("frame")
    raw, smooth = (matrix(own[name]).reshape(-1, 68, 3) for name in ("landmarks68", "landmarks68_smooth"))
    want = smoothing.smooth_track(
        own["frame"].to_numpy(), own["time_s"].to_numpy(), raw, smoothing.LANDMARKS, own["face_size"].to_numpy()
    )
    np.testing.assert_allclose(smooth, want, atol=1e-3)  # over seams as within one series
    moving = slice(10, None)  # the filter takes a film that begins in motion for one at rest
    raw_jitter, jitter = (
        smoothing.jitter(points[moving, :, :2], own["face_size"].to_numpy()[moving]) for points in (raw, smooth)
    )
    assert jitter < raw_jitter


def test_smoothed_parameters_are_of_the_same_rois(expected: Results, builtin: Bundle) -> None:
    """Points made of them lie where the smoothed landmarks are."""
    from ddfa_batch.tasks.bundles.loaded_model import load_morphable
    from ddfa_batch.tasks.geometry.reconstruct import PointBasis, points

    table, morphable = expected.faces(), load_morphable(builtin)
    made = points(
        PointBasis.of(morphable, morphable.landmarks),
        matrix(table["params_smooth"]),
        matrix(table["roi"]),
        builtin.manifest.input_size,
    )
    away = np.abs(made - matrix(table["landmarks68_smooth"]).reshape(-1, 68, 3))[..., :2].max(axis=(1, 2))
    assert away.max() < 0.05 * table["face_size"].to_numpy().min()


def test_a_close_up_that_moves_quickly_is_one_track_though_every_frame_looks_like_a_cut(
    builtin: Bundle, tmp_path: Path
) -> None:
    film = portrait_films.write_close_up(tmp_path / "close.mp4")
    images = [frame.image for frame in read_frames(index_video(film, 10**6), np.arange(12), 10**6)]
    scenes = [scene_thumbnail(image) for image in images if image is not None]
    assert sum(is_cut(before, now) for before, now in pairwise(scenes)) > 6
    assert do(film, tmp_path / "out", builtin).tracks()["n_frames"].to_pylist() == [12]


# ------------------------------------------------------------------------------------------------- which frames


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({"every": 7}, [0, 7, 14, 21, 28, 35]),
        ({"fps": 5.0}, [0, 5, 10, 15, 20, 25, 30, 35]),
        ({"fps": 100.0}, range(N)),
    ],
)
def test_frames_are_taken_by_number_or_by_time(
    film: Path, builtin: Bundle, tmp_path: Path, options: dict[str, object], numbers: list[int]
) -> None:
    request = wanted(film, tmp_path / "out", builtin, **options)
    rows = list(plan.planned_rows(request))
    assert [row["frame"] for row in rows] == list(numbers)
    assert [row["key"] for row in rows] == [f"clip.mp4#{number:06d}" for number in numbers]


def test_other_frames_are_another_run(film: Path, builtin: Bundle, tmp_path: Path) -> None:
    do(film, tmp_path / "out", builtin, every=20)
    with pytest.raises(RunFolderError, match="every"):
        do(film, tmp_path / "out", builtin, every=10)


def test_a_run_without_options_of_videos_names_none(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    """So runs that were begun before there were any go on."""
    run = plan.prepare(wanted(photos, tmp_path / "out", bundle))
    assert not {"every", "fps", "track", "smooth"} & run.options.keys()


def test_without_following_every_frame_is_a_picture_of_its_own(film: Path, builtin: Bundle, tmp_path: Path) -> None:
    run = do(film, tmp_path / "out", builtin, track=False, every=8)
    stills = tmp_path / "stills"
    stills.mkdir()
    capture, number = cv2.VideoCapture(str(film)), 0
    while (answer := capture.read())[0]:
        if number % 8 == 0:
            cv2.imwrite(str(stills / f"{number:03d}.png"), answer[1])
        number += 1
    pictures = do(stills, tmp_path / "pictures", builtin).faces()
    faces = run.faces()
    assert faces["track_id"].null_count == len(faces)
    assert len(run.tracks()) == 0
    assert len(run.videos()) == 1
    a, b = (matrix(table["landmarks68"]) for table in (faces, pictures))
    assert a.shape == b.shape
    assert np.abs(a - b).max() < 1.0  # two decoders differ in the colours by a grey level or two


def test_boxes_are_taken_as_they_are(film: Path, bundle: Bundle, models: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("key,x0,y0,x1,y1\nclip.mp4#000020,150,20,250,130\n")
    words = ("--boxes", tmp_path / "boxes.csv", "--every", 20, "--vertices", "none", "--quiet")
    answer = call("process", film, tmp_path / "out", *words, models=models)
    assert answer.code == 0, answer.stderr
    (face,) = open_run(tmp_path / "out").faces().to_pylist()
    assert (face["key"], face["track_id"]) == ("clip.mp4#000020", None)


# ---------------------------------------------------------------------------------------- wherever it is done


@pytest.mark.parametrize("executor", ["local", "two-workers"])
def test_the_tables_are_the_same_wherever_it_is_done(
    film: Path, builtin: Bundle, expected: Results, tmp_path: Path, executor: str, two_workers: Cluster
) -> None:
    execution = Execution("local", 2) if executor == "local" else Execution(str(two_workers.file))
    run = do(film, tmp_path / "out", builtin, execution, smooth="one-euro")
    same(run, expected)
    assert verify_run(run.run) == []
    assert not list((tmp_path / "out").rglob(".*"))


def test_a_run_that_is_killed_and_started_again_ends_the_same(film: Path, expected: Results, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--vertices", "none", "--min-score", "0.76", "--shard-size", str(SHARD), "--smooth", "one-euro"]
    command = [COMMAND, "process", str(film), str(out), "--quiet", "--model", "builtin", *options]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list((out / "shards").glob("[0-9]*.json"))) < 2:
        time.sleep(0.005)
    stop(first)
    assert not (out / "tracks").exists()
    with pytest.raises(RunFolderError, match="not joined yet"):
        open_run(out).tracks()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    same(open_run(out), expected)


@pytest.mark.parametrize("damage", ["faces", "seams", "images", "tracks", "videos", "receipt"])
def test_what_is_missing_or_damaged_is_mended(
    film: Path, builtin: Bundle, expected: Results, tmp_path: Path, damage: str
) -> None:
    out = Path(shutil.copytree(expected.path, tmp_path / "out"))
    match damage:
        case "faces" | "images":
            (out / damage / "000001.parquet").unlink()
        case "seams":
            (out / "seams/000002.npz").write_bytes(b"cut")
        case "receipt":
            (out / "shards/000003.json").unlink()
        case _:
            (out / damage / "000000.parquet").write_bytes(b"cut")
    request = wanted(film, out, builtin, SHARD, detector="builtin", min_score=0.76, vertices="none", smooth="one-euro")
    process(request, HERE)
    same(open_run(out), expected)
    assert verify_run(open_run(out).run) == []
    assert video_account(open_run(out).run, complete=True).faults == []


def test_a_joining_that_was_cut_short_is_done_again(
    film: Path, builtin: Bundle, expected: Results, tmp_path: Path
) -> None:
    """Killed between a shard's new table and its receipt, and between that and the tables of the run."""
    out = Path(shutil.copytree(expected.path, tmp_path / "out"))
    (out / "videos/000000.json").unlink()
    receipt = out / "shards/000001.json"
    content = json.loads(receipt.read_text())
    content["files"]["faces/000001.parquet"] -= 1
    receipt.write_text(json.dumps(content))
    assert pending_shards(plan.read_run(out)) == [1]
    request = wanted(film, out, builtin, SHARD, detector="builtin", min_score=0.76, vertices="none", smooth="one-euro")
    process(request, HERE)
    same(open_run(out), expected)


def test_nothing_is_written_again_when_nothing_is_left_to_do(
    film: Path, builtin: Bundle, expected: Results, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(expected.path, tmp_path / "out"))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    request = wanted(film, out, builtin, SHARD, detector="builtin", min_score=0.76, vertices="none", smooth="one-euro")
    process(request, HERE)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")} == before


def test_a_frame_that_kills_its_worker_twice_is_left_out_with_those_that_need_it(
    film: Path, builtin: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    request = wanted(film, out, builtin, 25, detector="builtin", min_score=0.76, vertices="none")
    plan.prepare(request)
    script = (
        "import os, signal, sys\n"
        "from ddfa_batch.pipeline import faces, video_segments\n"
        "advance = video_segments.advance\n"
        "def dies(state, image, see, options, search=False):\n"
        "    if state.frame == 3: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    return advance(state, image, see, options, search)\n"
        "video_segments.advance = dies\n"
        "faces.find_faces(sys.argv[1], 0)\n"
    )
    for _ in range(2):
        killed = subprocess.run([sys.executable, "-c", script, str(out)], check=False, capture_output=True)
        assert killed.returncode == -signal.SIGSEGV, killed.stderr
    process(request, HERE)
    kinds = open_run(out).images()["error_kind"].to_pylist()
    assert kinds == [None] * 3 + ["crashed"] * 7 + [None] * 30  # a keyframe every ten frames
    (video,) = open_run(out).videos().to_pylist()
    assert video["n_errors"] == 7


def test_frames_that_crashed_are_tried_again_on_request(
    film: Path, builtin: Bundle, expected: Results, tmp_path: Path
) -> None:
    """The shard is followed anew, for the frames around know more then."""
    out = tmp_path / "out"
    request = wanted(film, out, builtin, SHARD, detector="builtin", min_score=0.76, vertices="none", smooth="one-euro")
    plan.prepare(request)
    (out / "shards").mkdir()
    for attempt in range(2):
        (out / f"shards/.000001.{attempt}.inflight").write_bytes((20).to_bytes(8, "little"))
    process(request, HERE)
    assert open_run(out).images()["error_kind"].to_pylist().count("crashed") == 6  # of the shard's, up to its end
    process(request, HERE, retry_failed=frozenset({"crashed"}))
    same(open_run(out), expected)
    assert [entry.what for entry in open_run(out).run.history] == ["retried"]


def test_videos_that_were_added_are_taken_up_whole(film: Path, builtin: Bundle, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    shutil.copy(film, folder / "b.mp4")
    asked = {"detector": "builtin", "min_score": 0.76, "vertices": "none"}
    process(wanted(folder, out, builtin, SHARD, **asked), HERE)
    before = open_run(out)
    old = before.faces()
    portrait_films.write(folder / "a.mp4", shown=range(8))
    process(wanted(folder, out, builtin, SHARD, **asked), HERE, extend=True)
    run = open_run(out)
    assert run.videos()["key"].to_pylist() == ["b.mp4", "a.mp4"]
    assert run.videos()["n_tracks"].to_pylist() == [2, 2]
    assert run.faces().slice(0, len(old)).equals(old)
    assert video_account(run.run, complete=True).faults == []
    portrait_films.write(folder / "b.mp4", N + 5)
    with pytest.raises(RunFolderError, match=r"b\.mp4 has other frames than when"):
        process(wanted(folder, out, builtin, SHARD, **asked), HERE, extend=True)


# ----------------------------------------------------------------------------------- files that are not as wished


#: Its inputs, without the one that is cut in the middle.
IN_ORDER = ("a.png", "below/b.mkv", "c.mp4", "d.avi", "e.mov", "f.mp4", "g.gif", "h.gif", "i.webp")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures and videos, some of which are none."""
    folder = tmp_path_factory.mktemp("mixed") / "in"
    (folder / "below").mkdir(parents=True)
    cv2.imwrite(str(folder / "a.png"), portrait_films.picture(0))
    portrait_films.write(folder / "below/b.mkv", 6)
    whole = portrait_films.write(folder / "c.mp4", N).read_bytes()
    (folder / "c.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    ts = portrait_films.write(folder / "cut.mkv", N).read_bytes()
    (folder / "cut.mkv").write_bytes(ts[: len(ts) * 6 // 10])
    (folder / "d.avi").write_bytes(b"no video at all")
    (folder / "e.mov").write_bytes(b"")
    small_videos.write_audio(folder / "f.mp4")
    portrait_films.animation(folder / "g.gif", 4)
    portrait_films.animation(folder / "h.gif", 1)
    portrait_films.animation(folder / "i.webp", 3)
    (folder / "notes.txt").write_text("no input")
    return folder


@pytest.fixture(scope="module")
def mixed_run(mixed: Path, builtin: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return do(mixed, tmp_path_factory.mktemp("mixed-run") / "out", builtin, shard_size=10)


def test_a_folder_of_both_gives_every_picture_and_every_frame_its_row(mixed_run: Results) -> None:
    images = mixed_run.images().to_pylist()
    by_file: dict[str, list[dict[str, object]]] = {}
    for row in images:
        by_file.setdefault(row["key"].split("#")[0], []).append(row)
    n_rows = {name: len(rows) for name, rows in by_file.items()}
    del n_rows["cut.mkv"]
    counts = (1, 6, 1, 1, 1, 1, 4, 1, 3)
    assert n_rows == dict(zip(IN_ORDER, counts, strict=True))
    kinds = {name: {row["error_kind"] for row in rows} for name, rows in by_file.items()}
    assert (kinds["d.avi"], kinds["e.mov"], kinds["f.mp4"]) == ({"not_a_video"}, {"empty"}, {"no_frames"})
    assert [by_file[name][0]["video"] is None for name in ("a.png", "h.gif", "g.gif")] == [True, True, False]


def test_what_ends_early_keeps_its_frames_and_says_so(mixed_run: Results) -> None:
    videos = {row["key"]: row for row in mixed_run.videos().to_pylist()}
    assert list(videos) == ["below/b.mkv", "c.mp4", "cut.mkv", "d.avi", "e.mov", "f.mp4", "g.gif", "i.webp"]
    cut = videos["cut.mkv"]
    assert cut["status"] == "ended_early"
    assert "ends early" in cut["message"]
    assert 10 < cut["n_taken"] < N
    assert cut["n_errors"] <= 2
    assert [videos[name]["status"] for name in ("d.avi", "e.mov", "f.mp4")] == ["error"] * 3
    assert [videos[name]["n_taken"] for name in ("d.avi", "e.mov", "f.mp4", "g.gif", "i.webp")] == [0, 0, 0, 4, 3]


def test_stills_of_a_mixed_run_have_no_track(mixed_run: Results) -> None:
    faces = mixed_run.faces().to_pylist()
    assert {row["track_id"] for row in faces if row["key"] == "a.png"} == {None}
    assert all(row["track_id"] is not None for row in faces if row["video"] is not None)
    tracks = mixed_run.tracks()
    assert tracks["track_id"].to_pylist() == list(range(len(tracks)))
    assert sum(tracks["n_frames"].to_pylist()) == sum(row["video"] is not None for row in faces)


def test_status_proves_the_accounts_of_frames_videos_and_tracks(mixed_run: Results) -> None:
    answer = call("status", mixed_run.path)
    assert answer.code == 0, answer.stderr
    assert "videos:  8 with " in answer.stdout
    assert "cut.mkv: The Matroska or WebM file ends early" in answer.stdout
    assert "one row per frame and video, one track per face" in answer.stdout


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("track", "tracks) does not agree"),
        ("twice", "a track has two faces in one frame"),
        ("frame", "clip.mp4 has 39 rows"),
    ],
)
def test_status_finds_what_does_not_add_up(expected: Results, tmp_path: Path, change: str, fault: str) -> None:
    out = Path(shutil.copytree(expected.path, tmp_path / "out"))
    path = out / ("images" if change == "frame" else "faces") / "000001.parquet"
    table = pq.read_table(path)
    if change == "frame":
        table = table.slice(1)
    else:
        place, ids = table.schema.get_field_index("track_id"), table["track_id"].to_pylist()
        ids = [9 if i == 0 else t for i, t in enumerate(ids)] if change == "track" else [0] * len(ids)
        table = table.set_column(place, table.schema.field(place), pa.array(ids, pa.int64()))
    pq.write_table(table, path)
    assert any(fault in sentence for sentence in video_account(open_run(out).run, complete=True).faults)


def test_a_file_that_changed_since_it_was_planned_is_told_frame_by_frame(builtin: Bundle, tmp_path: Path) -> None:
    film, out = portrait_films.write(tmp_path / "clip.mp4", 8), tmp_path / "out"
    request = wanted(film, out, builtin, SHARD, detector="builtin", min_score=0.76, vertices="none")
    plan.prepare(request)
    portrait_films.write(film, shown=range(5))
    os.utime(film, (1, 1))
    found = faces.find_faces(str(out), 0)
    assert [record.error_kind for record in found.records] == [None] * 5 + ["failed"] * 3
    assert "changed since" in str(found.records[-1].error_message)


def test_previews_show_frames(expected: Results, tmp_path: Path) -> None:
    out = Path(shutil.copytree(expected.path, tmp_path / "out"))
    (sheet,) = draw_faces(plan.read_run(out), 4)
    assert cv2.imread(str(sheet)).std() > 20


# ----------------------------------------------------------------------------------------------- the command


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--every", 2, "--fps", 3), "--every and --fps exclude each other"),
        (("--no-track", "--smooth", "one-euro"), "--smooth smooths faces that are followed"),
        (("--every", 0), "Invalid value for '--every'"),
        (("--fps", 0), "Invalid value for '--fps'"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    film: Path, models: Path, tmp_path: Path, words: tuple[object, ...], sentence: str
) -> None:
    answer = call("process", film, tmp_path / "out", *words, models=models)
    assert answer.code == 2
    assert sentence in answer.stderr


def test_the_command_tells_of_videos_and_frames(film: Path, tmp_path: Path) -> None:
    answer = call("process", film, tmp_path / "out", "--every", 10, "--vertices", "none", model="builtin")
    assert answer.code == 0, answer.stderr
    assert "1 is a video, with 4 frames taken." in answer.stdout


def test_clips_are_not_made_of_videos(film: Path, models: Path, tmp_path: Path) -> None:
    answer = call("synth-videos", film, tmp_path / "out", models=models)
    assert answer.code != 0
    assert "clip.mp4 is a video; 'ddfa-batch process' reads those." in answer.stderr


def test_the_examples_of_the_documentation_do_what_it_says(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    for name in ("clip.mp4", "videos/a.mp4"):
        shutil.copy(film, tmp_path / name)
    text = (ROOT / "docs/videos.md").read_text()
    commands = [line for line in text.splitlines() if line.startswith("ddfa-batch process")]
    for line in commands:
        answer = call(*line.split()[1:], "--quiet", "--vertices", "none", model="builtin")
        assert answer.code == 0, answer.stderr
    counts = {out: len(open_run(tmp_path / out).images()) for out in ("out", "out-sampled", "out-rate", "out-frames")}
    assert counts == {"out": N, "out-sampled": 8, "out-rate": 16, "out-frames": N}
    assert "yaw_smooth" in open_run(tmp_path / "out-smooth").faces().schema.names
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    scope: dict[str, object] = {}
    exec(code, scope)
    assert len(scope["turning"]) == N  # type: ignore[arg-type]
