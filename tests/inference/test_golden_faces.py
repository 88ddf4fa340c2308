"""Faces of labelled photographs that came out wrong once; skipped where ../shared is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import options

from ddfa_batch.pipeline.plan import RunRequest
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.config import Execution
from ddfa_batch.tasks.bundles.model_bundle import Bundle, builtin_folder, load_bundle
from ddfa_batch.tasks.files.inputs import resolve_source

pytestmark = [pytest.mark.shared, pytest.mark.filterwarnings("default")]

#: Photographs of plain profiles, whose pitch was beyond 90° with the official weights.
PROFILES = ("image00150", "image00339", "image00734", "image01791", "image02373", "image03273", "image03283")
#: Copies of one portrait in which a second detection was drawn onto the one face.
TWINS = ("image00023.bmp", "image00023.webp", "image00023_anim.webp", "image00023_palette.png", "image00023_exif6.jpg")


def faces_of(folder: Path, names: tuple[str, ...], out: Path, bundle: Bundle, **changes: object) -> pd.DataFrame:
    """The faces of some photographs of `folder`."""
    pictures = out / "in"
    pictures.mkdir(parents=True)
    for name in names:
        shutil.copy(folder / name, pictures)
    chosen = options(vertices="none", **changes)
    request = RunRequest("process", resolve_source(pictures, None), out / "out", chosen, bundle, None, None)
    process(request, Execution("in-process", 1))
    return open_run(out / "out").faces().to_pandas().set_index("key")


@pytest.fixture(scope="module")
def builtin() -> Bundle:
    return load_bundle(builtin_folder())


def test_plain_profiles_have_plain_angles_and_a_visible_half(shared: Path, official: Bundle, tmp_path: Path) -> None:
    names = tuple(f"{name}.jpg" for name in PROFILES)
    folder = shared / "data/aflw2000_dev"
    faces = faces_of(folder, names, tmp_path, official, detector="faceboxes", min_score=0.5)
    assert len(faces) >= len(PROFILES)
    assert faces.pitch.abs().max() <= 90
    assert faces.yaw.abs().min() > 75
    seen = np.stack(faces.landmarks68_visible.to_numpy())
    assert seen.sum(axis=1).min() >= 28  # one is turned 13° beyond a profile
    assert np.median(seen.sum(axis=1)) >= 34


def test_two_detections_of_one_face_are_one_face(shared: Path, builtin: Bundle, tmp_path: Path) -> None:
    threshold = builtin.detector(None)[1].face_threshold
    folder = shared / "data/awkward"
    faces = faces_of(folder, TWINS, tmp_path, builtin, detector="builtin", min_score=threshold)
    assert sorted(faces.index) == sorted(TWINS)
    assert faces.score.min() > 0.98


def test_a_crowd_loses_nobody_to_the_merging(shared: Path, builtin: Bundle, tmp_path: Path) -> None:
    threshold = builtin.detector(None)[1].face_threshold
    folder = shared / "data/crowds"
    name = max(folder.glob("*.jpg"), key=lambda path: path.stat().st_size).name
    merged, once = (
        faces_of(folder, (name,), tmp_path / f"refine{n}", builtin, detector="builtin", min_score=threshold, refine=n)
        for n in (1, 0)
    )
    assert len(merged) == len(once) > 1
