"""What holds wherever a run is done: in this process, on local processes, on two real workers, on four threads."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import small_model
from command_line import COMMAND, call
from compared_runs import same_tables
from conftest import wanted
from dask_clusters import Cluster, cluster, stop

from ddfa_batch.pipeline import graph, plan
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.progress import Phase, Progress
from ddfa_batch.pipeline.receipts import pending_shards, verify_run
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.config import Execution
from ddfa_batch.tasks.bundles.detector_families import add_detector
from ddfa_batch.tasks.bundles.model_bundle import Bundle, load_bundle

pytestmark = pytest.mark.filterwarnings("default")

N_IMAGES = 60
EXECUTORS = ("in-process", "local", "two-workers", "four-threads")


@pytest.fixture(scope="module")
def model(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small bundle with this project's own kind of detector, too."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "fcos.onnx").write_bytes(small_model.fcos_detector())
    copy = load_bundle(Path(shutil.copytree(bundle.folder, folder / "small")))
    return add_detector(copy, "fcos", "fcos", folder / "fcos.onnx")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty pictures, one of which is none."""
    folder = small_model.pictures(tmp_path_factory.mktemp("many"), [i % 4 for i in range(N_IMAGES)])
    (folder / "007.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def expected(many: Path, model: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("expected") / "out"
    process(wanted(many, out, model, shard_size=3, detector="fcos"), Execution("in-process"))
    return out


@pytest.fixture(scope="module")
def four_threads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("four"), n_workers=1, n_threads=4) as running:
        yield running


@pytest.fixture(params=EXECUTORS)
def execution(request: pytest.FixtureRequest) -> Execution:
    if request.param == "local":
        return Execution("local", 2)
    if request.param == "in-process":
        return Execution("in-process")
    running: Cluster = request.getfixturevalue(request.param.replace("-", "_"))
    return Execution(str(running.file))


def test_the_tables_are_the_same_and_every_input_is_counted_as_it_is_done(
    many: Path, model: Bundle, expected: Path, tmp_path: Path, execution: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reports come from within shards: there are more of them than shards, and they add up."""
    monkeypatch.setattr(graph, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(graph, "_REPORTS_PER_SECOND", 1e9)
    told: list[Progress] = []
    request = wanted(many, tmp_path / "out", model, shard_size=3, detector="fcos")
    run, totals = process(request, execution, report=told.append)
    same_tables(tmp_path / "out", expected)
    assert (totals.images, totals.n_errors) == (N_IMAGES, 1)
    working = [p for p in told if p.phase is Phase.WORKING]
    assert any(shard.images < 3 for p in working for shard in p.at_work)
    assert {p.images for p in working} > set(range(0, N_IMAGES + 1, 3))
    assert all(p.images <= N_IMAGES and p.n_errors <= 1 and p.faces <= totals.faces for p in working)
    assert (working[-1].images, working[-1].at_work) == (N_IMAGES, ())
    assert [p.phase for p in told][-1] is Phase.DONE
    assert verify_run(run) == []
    assert not list((tmp_path / "out").rglob(".*"))


def test_what_is_missing_or_damaged_is_done_again_and_nothing_else(
    many: Path, model: Bundle, expected: Path, tmp_path: Path, execution: Execution
) -> None:
    out = Path(shutil.copytree(expected, tmp_path / "out"))
    (out / "shards/000002.json").unlink()
    (out / "shards/000003.json").write_text('{"shard": "three"}')
    (out / "faces/000005.parquet").unlink()
    (out / "vertices/000007.h5").write_bytes(b"cut")
    spoil(out / "images/000011.parquet")
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*/000008.*")}
    assert pending_shards(plan.read_run(out)) == [2, 3, 5, 7]
    _, totals = process(wanted(many, out, model, shard_size=3, detector="fcos"), execution, verify=True)
    assert totals.images == N_IMAGES
    same_tables(out, expected)
    assert verify_run(plan.read_run(out)) == []
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/000008.*")} == kept


def spoil(path: Path) -> None:
    """Change a byte in the middle: the size stays."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("execution", ["in-process", "local", "two-workers"], indirect=True)
def test_a_run_that_is_killed_half_way_and_started_again_ends_the_same(
    many: Path, model: Bundle, expected: Path, tmp_path: Path, execution: Execution
) -> None:
    """SIGKILL to the command and its children, then the same command."""
    words = ("process", many, tmp_path / "out", "--quiet", "--model", model.folder, "--detector", "fcos")
    words = (*words, "--min-score", 0.9, "--shard-size", 3, "--scheduler", execution.scheduler)
    first = subprocess.Popen([COMMAND, *map(str, words)], stderr=subprocess.DEVNULL, start_new_session=True)
    receipts = tmp_path / "out/shards"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(receipts.glob("[0-9]*.json"))) < 4:
        time.sleep(0.002)
    family = [p.pid for p in psutil.Process(first.pid).children(recursive=True)]
    stop(first)
    for pid in family:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)
    assert len(list(receipts.glob("[0-9]*.json"))) >= 4
    assert not (tmp_path / "out/vertices.h5").exists()
    done = call(*words, model=None)
    assert (done.code, done.stderr) == (0, "")
    same_tables(tmp_path / "out", expected)
    assert not list((tmp_path / "out").rglob(".*"))  # nothing half-written is left behind


def test_a_cluster_is_found_by_its_address(
    two_workers: Cluster, many: Path, model: Bundle, expected: Path, tmp_path: Path
) -> None:
    address = json.loads(two_workers.file.read_text())["address"]
    process(wanted(many, tmp_path / "out", model, shard_size=3, detector="fcos"), Execution(address))
    same_tables(tmp_path / "out", expected)
    assert open_run(tmp_path / "out").complete
