"""Runs that several tests of the pipeline measure or draw."""

from __future__ import annotations

from pathlib import Path

import portrait_films
import pytest
import small_model
from clip_requests import clip_request
from conftest import wanted

from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.process_request import process_request
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.pipeline.synthesize import synthesize
from ddfa_batch.schemas.config import Execution, FaceOptions
from ddfa_batch.tasks.bundles.model_bundle import Bundle, builtin_folder, load_bundle

HERE = Execution("in-process")


@pytest.fixture(scope="session")
def photo_run(photos: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A run of the twelve pictures."""
    out = tmp_path_factory.mktemp("run") / "out"
    process(wanted(photos, out, bundle, vertices="none"), HERE)
    return open_run(out)


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty pictures of no face to three: work for several workers."""
    return small_model.pictures(tmp_path_factory.mktemp("many"), [i % 4 for i in range(60)])


@pytest.fixture(scope="session")
def expected(many: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their run in this process, three a shard."""
    out = tmp_path_factory.mktemp("expected") / "out"
    process(wanted(many, out, bundle, shard_size=3), HERE)
    return out


@pytest.fixture(scope="session")
def followed_run(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A video of two people, twelve frames in two segments, with the model that comes along."""
    folder = tmp_path_factory.mktemp("followed")
    clip = portrait_films.write(folder / "clip.mp4", 12)
    faces, model = FaceOptions(vertices="none"), load_bundle(builtin_folder())
    process(process_request([str(clip)], folder / "out", model, faces, 6), HERE)
    return open_run(folder / "out")


@pytest.fixture(scope="session")
def clip_run(photos: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Clips of the twelve pictures."""
    out = tmp_path_factory.mktemp("clips") / "out"
    synthesize(clip_request(photos, out, bundle, size=120), HERE)
    return open_run(out)
