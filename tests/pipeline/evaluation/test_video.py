"""Frames, and the stability between adjacent ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from labelled_run import OFFSET, centred, flat, table

from ddfa_batch.pipeline.evaluate import EvaluationRequest, evaluate
from ddfa_batch.pipeline.evaluation.protocol import Answers, EvaluatedModel
from ddfa_batch.pipeline.evaluation.protocols import video
from ddfa_batch.pipeline.results import Results
from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.bundles.loaded_model import loaded_model
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.evaluation import landmark_errors
from ddfa_batch.tasks.geometry import crop
from ddfa_batch.tasks.geometry.boxes import labelled_sizes
from ddfa_batch.tasks.geometry.reconstruct import PointBasis, points
from ddfa_batch.tasks.inference.regressor import Regressor


def test_clips_are_measured_by_frames_and_between_them(clip_run: Results, bundle: Bundle, tmp_path: Path) -> None:
    done = evaluate(EvaluationRequest("video", (clip_run.path,), tmp_path / "scores", bundle=bundle))
    loaded = loaded_model(str(bundle.folder), bundle.digest)
    regress, basis = (
        Regressor(loaded.regressor, bundle.manifest),
        PointBasis.of(loaded.morphable, loaded.morphable.landmarks),
    )
    errors, moved = [], []
    frames = clip_run.frames(columns=["clip_id", "frame", "landmarks68"]).to_pandas()
    for clip_id, rows in frames.groupby("clip_id"):
        truth = np.stack(rows.sort_values("frame").landmarks68).reshape(-1, 68, 3)
        rois = crop.roi_from_landmarks(truth)
        crops = [crop.crop(p, roi, 120) for p, roi in zip(clip_run.clip(int(clip_id)), rois, strict=True)]
        found = points(basis, regress(np.stack(crops)), rois, 120)
        errors += landmark_errors.nme(found, truth).tolist()
        moved += landmark_errors.stability(found, truth).tolist()
    assert done.n_found == len(errors)
    assert done.scores[0].mean == pytest.approx(np.mean(errors), rel=1e-3)
    assert done.scores[0].stability == pytest.approx(np.mean(moved), rel=1e-3)


def frames_table(clip_run: Results, folder: Path, columns: tuple[str, ...], skip: int = -1) -> Path:
    """The clips' labels as a table of these columns, its keys the pictures it writes into `folder`."""
    rows = clip_run.frames(columns=["clip_id", "frame", "landmarks68"]).to_pandas().sort_values(["clip_id", "frame"])
    rows = rows[rows.frame != skip]
    keys = []
    for clip_id, clip in rows.groupby("clip_id"):
        pictures = clip_run.clip(int(clip_id))
        (folder / f"clip{clip_id}").mkdir(parents=True)
        for frame in clip.frame:
            keys.append(f"clip{clip_id}/frame_{frame:03d}")
            cv2.imwrite(str(folder / f"{keys[-1]}.png"), pictures[frame])
    content = {"key": keys, "video": [f"clip{i}" for i in rows.clip_id], "frame": rows.frame.tolist()}
    landmarks = np.stack(rows.landmarks68).reshape(-1, 68, 3)[..., :2]
    shuffled = np.random.default_rng(0).permutation(len(keys))
    table_ = pa.table({name: content[name] for name in columns} | {"pts68": flat(landmarks)})
    pq.write_table(table_.take(shuffled), folder / "labels.parquet")
    return folder / "labels.parquet"


@pytest.mark.parametrize("columns", [("key",), ("key", "frame", "video")])
def test_labelled_frames_are_measured_as_the_clips_they_are_of(
    clip_run: Results, bundle: Bundle, tmp_path: Path, columns: tuple[str, ...]
) -> None:
    folder = tmp_path / "frames"
    labels = frames_table(clip_run, folder, columns)
    clips = evaluate(EvaluationRequest("video", (clip_run.path,), tmp_path / "clips", bundle=bundle))
    done = evaluate(EvaluationRequest("video", (labels,), tmp_path / "out", bundle=bundle, images=folder))
    assert done.n_found == clips.n_found
    assert done.scores[0].mean == pytest.approx(clips.scores[0].mean, rel=1e-3)
    assert done.scores[0].stability == pytest.approx(clips.scores[0].stability, rel=1e-3)


def test_frames_with_others_between_them_are_not_adjacent(clip_run: Results, bundle: Bundle, tmp_path: Path) -> None:
    labels = frames_table(clip_run, tmp_path / "frames", ("key",), skip=1)
    pairs = np.diff(pq.read_table(labels)["key"].to_pandas().sort_values().str[-3:].astype(int)) == 1
    truth = video.PROTOCOL.read((labels,), EvaluatedModel.load(str(bundle.folder), bundle.digest))
    assert truth.first is not None
    landmarks = np.concatenate([truth.first, truth.first[..., :1]], axis=2)
    nothing = np.zeros((len(landmarks), 4))
    answers = Answers(np.ones(len(landmarks), bool), nothing.astype(np.float32), nothing, landmarks)
    assert video.PROTOCOL.stability is not None
    assert len(video.PROTOCOL.stability(truth, answers)) == pairs.sum() > 0


def test_frames_of_a_video_file_are_read_by_their_numbers(clip_run: Results, bundle: Bundle, tmp_path: Path) -> None:
    pictures = clip_run.clip(int(clip_run.frames(columns=["clip_id"])["clip_id"][0].as_py()))
    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (120, 120))
    for picture in pictures:
        writer.write(picture)
    writer.release()
    points68 = np.random.default_rng(0).uniform(20, 100, (len(pictures) + 1, 68, 2))
    numbers = list(range(len(pictures) + 1))  # one more than there are
    rows = {"video": ["a.mp4"] * len(numbers), "frame": numbers, "pts68": flat(points68)}
    pq.write_table(pa.table(rows), tmp_path / "labels.parquet")
    request = EvaluationRequest(
        "video", (tmp_path / "labels.parquet",), tmp_path / "out", bundle=bundle, images=tmp_path
    )
    done = evaluate(request)
    assert (done.n_labelled, done.n_found) == (len(numbers), len(pictures))
    assert done.scores[0].stability is not None
    assert "worst.png" in done.files


def test_labelled_frames_are_measured_in_a_run_of_them(photo_run: Results, tmp_path: Path) -> None:
    keys, landmarks = centred(photo_run)
    labels = table(tmp_path / "l.parquet", keys, landmarks[..., :2] + OFFSET, frame=list(range(len(keys))))
    done = evaluate(EvaluationRequest("video", (labels,), tmp_path / "out", run=photo_run.path))
    assert done.scores[0].mean == pytest.approx(np.mean(500 / labelled_sizes(landmarks)), rel=1e-4)
    assert done.scores[0].stability == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"key": ["a", "b"]}, "'a' has no number"),
        ({"key": ["a1", "a2"], "frame": ["x", "y"]}, "column 'frame' must hold numbers"),
        ({"key": ["a1", "a2"], "frame": [0.5, 1.0]}, "column 'frame' must hold the numbers of frames"),
        ({"video": ["a", "b"]}, "rename the one with the picture's name"),
    ],
)
def test_labels_that_do_not_tell_the_frames_are_refused(
    bundle: Bundle, tmp_path: Path, columns: dict[str, list[object]], sentence: str
) -> None:
    pq.write_table(pa.table({**columns, "pts68": flat(np.ones((2, 68, 2)))}), tmp_path / "l.parquet")
    with pytest.raises(InputError, match=sentence):
        evaluate(EvaluationRequest("video", (tmp_path / "l.parquet",), tmp_path / "o", bundle=bundle, images=tmp_path))


def test_a_run_of_photographs_is_no_video(photo_run: Results, bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run of process"):
        evaluate(EvaluationRequest("video", (photo_run.path,), tmp_path / "o", bundle=bundle))


def test_frames_without_any_label_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    labels = table(tmp_path / "l.parquet", ["a1"], np.full((1, 68, 2), np.nan))
    with pytest.raises(InputError, match="labels no point"):
        evaluate(EvaluationRequest("video", (labels,), tmp_path / "o", bundle=bundle, images=tmp_path))
