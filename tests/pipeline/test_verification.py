"""Whatever byte of whatever file of a run is damaged, `verify` finds it, and the command that made the run mends it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from conftest import wanted

from ddfa_batch import cli
from ddfa_batch.commands import exit_codes
from ddfa_batch.commands.model_choice import choose_model
from ddfa_batch.pipeline.plan import RunRequest, read_run
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.pipeline.verification import mend, verify_run
from ddfa_batch.schemas.config import Execution
from ddfa_batch.schemas.errors import DdfaError
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files import store

HERE = Execution("in-process")


@pytest.fixture(scope="module")
def done(photos: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> RunRequest:
    request = wanted(photos, tmp_path_factory.mktemp("verified") / "out", bundle, shard_size=6)
    process(request, HERE)
    return request


FILES = [
    *("run.json", "plan.parquet", "topology.h5", "vertices.h5", "seal.json", "shards/000001.json"),
    *("images/000001.parquet", "faces/000001.parquet", "vertices/000001.h5"),
]


def test_all_files_of_a_run_are_tried(done: RunRequest) -> None:
    kinds = {(path.parent.name if path.parent != done.out else path.name) for path in done.out.rglob("*.*")}
    assert kinds == {Path(name).parts[0] for name in FILES}


def found_faults(out: Path) -> list[str]:
    try:
        return verify_run(read_run(out)).faults
    except DdfaError as fault:
        return [str(fault)]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("bit", [0, 3, 7])
def test_a_flipped_bit_is_found_wherever_it_is(done: RunRequest, name: str, bit: int) -> None:
    path = done.out / name
    whole, rng = path.read_bytes(), np.random.default_rng([bit, len(name)])
    try:
        for at in {0, len(whole) // 2, len(whole) - 2, *rng.integers(0, len(whole), 5).tolist()}:
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            assert found_faults(done.out), (name, at, bit)
    finally:
        path.write_bytes(whole)
    assert found_faults(done.out) == []


@pytest.mark.parametrize("name", FILES)
def test_the_same_command_mends_what_verify_found(done: RunRequest, tmp_path: Path, name: str) -> None:
    request = RunRequest(**{**vars(done), "out": Path(shutil.copytree(done.out, tmp_path / "out"))})
    whole = bytearray((request.out / name).read_bytes())
    whole[len(whole) // 2] ^= 8
    (request.out / name).write_bytes(whole)
    run = read_run(request.out)
    mend(run, verify_run(run))
    process(request, HERE)
    assert found_faults(request.out) == []
    assert open_run(request.out).faces().equals(open_run(done.out).faces())


@pytest.mark.parametrize("name", ["run.json", "plan.parquet", "topology.h5", "vertices.h5", "seal.json"])
def test_the_same_command_mends_what_was_deleted_or_cut_off(done: RunRequest, tmp_path: Path, name: str) -> None:
    request = RunRequest(**{**vars(done), "out": Path(shutil.copytree(done.out, tmp_path / "out"))})
    (request.out / name).unlink()
    process(request, HERE)
    assert found_faults(request.out) == []
    if name in ("run.json", "plan.parquet", "topology.h5"):
        assert store.checksum(request.out / name) == store.checksum(done.out / name)
    if name not in ("topology.h5", "seal.json"):  # of which only --verify reads what it says
        (request.out / name).write_bytes((done.out / name).read_bytes()[:-100])
        process(request, HERE)
        assert found_faults(request.out) == []


def begun(done: RunRequest, out: Path) -> RunRequest:
    """The same run as it is before its end: a shard is not done, and there is no seal."""
    shutil.copytree(done.out, out)
    for name in ("seal.json", "vertices.h5", "shards/000001.json"):
        (out / name).unlink()
    return RunRequest(**{**vars(done), "out": out})


@pytest.mark.parametrize("left", [None, b"", b"{", b'{"format": "ddfa-batch run"}'])
def test_the_same_command_goes_on_with_a_run_that_lost_its_record(
    done: RunRequest, tmp_path: Path, left: bytes | None
) -> None:
    request = begun(done, tmp_path / "out")
    before = (request.out / "shards/000000.json").stat().st_mtime_ns
    (request.out / "run.json").unlink() if left is None else (request.out / "run.json").write_bytes(left)
    process(request, HERE)
    assert found_faults(request.out) == []
    assert (request.out / "run.json").read_bytes() == (done.out / "run.json").read_bytes()
    assert (request.out / "shards/000000.json").stat().st_mtime_ns == before  # what was done stays


def test_a_record_that_says_something_else_than_it_did_is_found_and_put_back(done: RunRequest, tmp_path: Path) -> None:
    request = begun(done, tmp_path / "out")
    record = (request.out / "run.json").read_bytes()
    (request.out / "run.json").write_bytes(record.replace(b'"refine": 1', b'"refine": 0'))
    run = read_run(request.out)
    found = verify_run(run)
    assert "run.json is not as plan.parquet keeps it: --mend puts it back" in found.whole
    mend(run, found)
    assert (request.out / "run.json").read_bytes() == record


def test_what_was_done_since_a_run_was_planned_is_no_damage(done: RunRequest, tmp_path: Path) -> None:
    request = begun(done, tmp_path / "out")
    (request.out / "faces/000000.parquet").unlink()
    process(request, HERE)  # which notes in run.json that a shard was mended
    (request.out / "seal.json").unlink()
    assert found_faults(request.out) == []
    (request.out / "plan.parquet").unlink()
    process(request, HERE)
    assert store.checksum(request.out / "plan.parquet") == store.checksum(done.out / "plan.parquet")


def test_a_plan_whose_copy_of_the_record_is_damaged_gives_none(done: RunRequest, tmp_path: Path) -> None:
    request = begun(done, tmp_path / "out")
    plan = (request.out / "plan.parquet").read_bytes()
    (request.out / "plan.parquet").write_bytes(plan.replace(b'"refine": 1', b'"refine": 0'))
    (request.out / "run.json").write_bytes(b"{")
    with pytest.raises(DdfaError, match=r"run\.json"):
        process(request, HERE)


@pytest.mark.parametrize("complete", [True, False])
def test_a_run_that_lost_its_record_keeps_its_model(done: RunRequest, tmp_path: Path, complete: bool) -> None:
    out = begun(done, tmp_path / "out").out if not complete else Path(shutil.copytree(done.out, tmp_path / "out"))
    (out / "run.json").unlink()
    assert choose_model(tmp_path, None, out).bundle.digest == done.bundle.digest


def test_a_plan_that_is_lost_and_not_given_again_is_told_of(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    """Of a run that was extended the inputs stand in the order of several listings."""
    folder = Path(shutil.copytree(photos, tmp_path / "in"))
    first = sorted(folder.iterdir())[0].rename(tmp_path / "first.png")
    request = wanted(folder, tmp_path / "out", bundle, shard_size=6)
    process(request, HERE)
    first.rename(folder / "000.png")
    process(request, HERE, extend=True)
    (request.out / "plan.parquet").unlink()
    with pytest.raises(DdfaError, match=r"plan.parquet is lost, .* with --overwrite makes the run anew"):
        process(request, HERE)


def test_tables_that_disagree_are_named_though_their_checksums_are_right(done: RunRequest, tmp_path: Path) -> None:
    out = Path(shutil.copytree(done.out, tmp_path / "out"))
    path = out / "faces/000001.parquet"
    store.put_table(path, pq.read_table(path).slice(1))
    receipt = json.loads((out / "shards/000001.json").read_text())
    receipt["files"]["faces/000001.parquet"] = path.stat().st_size
    receipt["checksums"]["faces/000001.parquet"] = store.checksum(path)
    receipt["rows"]["faces"] -= 1
    (out / "shards/000001.json").write_text(json.dumps(receipt))
    faults = found_faults(out)
    assert any("not as many faces" in fault for fault in faults)
    assert any("not the meshes" in fault for fault in faults)


def test_exit_codes_and_json(done: RunRequest, tmp_path: Path) -> None:
    out = Path(shutil.copytree(done.out, tmp_path / "out"))

    def told(code: int) -> dict[str, object]:
        result = CliRunner().invoke(cli.cli, ["verify", str(out), "--json"])
        assert result.exit_code == code, result.output
        return dict(json.loads(result.stdout))

    assert told(0)["whole"] is True
    (out / "shards/000000.json").unlink()
    assert told(exit_codes.INCOMPLETE)["shards_pending"] == 1
    (out / "images/000001.parquet").write_bytes(b"")
    assert told(exit_codes.FAULT)["shards_damaged"] == [1]
    (out / "run.json").unlink()
    assert "run.json" in str(told(exit_codes.FAULT)["faults"])


def test_a_models_folder_is_verified(bundle: Bundle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle.folder, tmp_path / "model"))
    assert CliRunner().invoke(cli.cli, ["verify", str(folder)]).exit_code == 0
    damaged = next(path for path in folder.iterdir() if path.suffix == ".onnx")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert isinstance(CliRunner().invoke(cli.cli, ["verify", str(folder)]).exception, DdfaError)
