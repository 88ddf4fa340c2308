"""Frames of video files by their numbers, against reading them all."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ddfa_batch.tasks.files.video_frames import VideoFrames


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (64, 48))
    for i in range(12):
        writer.write(np.full((48, 64, 3), 20 * i, np.uint8))
    writer.release()
    return path


def test_frames_are_those_read_one_after_the_other_in_any_order(video: Path) -> None:
    capture, every = cv2.VideoCapture(str(video)), []
    while (answer := capture.read())[0]:
        every.append(answer[1])
    frames = VideoFrames()
    for number in (3, 4, 9, 2, 0, 11):
        np.testing.assert_array_equal(frames.frame(video, number), every[number])


def test_what_is_not_there_is_none(video: Path, tmp_path: Path) -> None:
    frames = VideoFrames()
    assert frames.frame(video, 12) is None
    assert frames.frame(video, 40) is None
    assert frames.frame(tmp_path / "missing.mp4", 0) is None
    assert frames.frame(video, 5) is not None
