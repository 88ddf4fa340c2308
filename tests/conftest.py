"""What the tests share: a small bundle, pictures, and the private reference files where they are."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import small_model
from dask_clusters import Cluster, cluster

from ddfa_batch.pipeline.plan import RunRequest
from ddfa_batch.schemas.config import ProcessOptions
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files.inputs import SourceOptions, resolve_sources
from ddfa_batch.tasks.files.video_inputs import Sampling

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch on one thread: small tensors on many mostly wait for each other."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with the small bundle in it."""
    folder = tmp_path_factory.mktemp("models")
    small_model.bundle(folder)
    return folder


@pytest.fixture(scope="session")
def bundle(models: Path) -> Bundle:
    from ddfa_batch.tasks.bundles.model_bundle import load_bundle

    return load_bundle(models / "small")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures: faces 1, 2, 0, 1, 3, 1, 0, 2, 6, 1, 1, 1."""
    return small_model.pictures(tmp_path_factory.mktemp("photos"), [1, 2, 0, 1, 3, 1, 0, 2, 6, 1, 1, 1])


@pytest.fixture(scope="session")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Dask cluster with two workers of one thread, in processes of their own."""
    with cluster(tmp_path_factory.mktemp("dask"), n_workers=2) as running:
        yield running


def options(**changes: object) -> ProcessOptions:
    defaults: dict[str, object] = {
        "detector": "yunet",
        "min_score": 0.9,
        "detect_size": None,
        "max_faces": 0,
        "refine": 1,
        "vertices": "float32",
        "max_pixels": 10**8,
        "boxes_digest": None,
        "path_column": None,
    }
    return ProcessOptions(**{**defaults, **changes})  # type: ignore[arg-type]


def wanted(source: Path, out: Path, bundle: Bundle, shard_size: int | None = 4, **changes: object) -> RunRequest:
    """A request with the small model, four images a shard, and the options changed as named."""
    asked = options(**changes)
    sampling = Sampling(asked.every, asked.fps, asked.max_pixels, asked.formats)
    where = resolve_sources([str(source)], SourceOptions(formats=asked.formats, sampling=sampling))
    return RunRequest("process", where, out, asked, bundle, None, shard_size)


@pytest.fixture(scope="session")
def source_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository to build from: no build folder is left behind, and none left before is taken in."""
    left_out = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "demo-out", "*.egg-info")
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "ddfa-batch", ignore=left_out))


@pytest.fixture(scope="session")
def wheel(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return built(source_tree, tmp_path_factory.mktemp("wheel"), "--wheel")


def built(source: Path, folder: Path, *what: str) -> Path:
    """Build from a source tree into a folder, with the setuptools of this environment, and give the wheel."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), *what, str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The private reference files; tests that need them are skipped without."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not here")
    return SHARED


@pytest.fixture(scope="session")
def official(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle made from the official release."""
    from ddfa_batch.tasks.bundles.official_release import import_3ddfa_v2

    return import_3ddfa_v2(shared / "upstream/3DDFA_V2", "mb05", tmp_path_factory.mktemp("official") / "mb05")
