"""Threats of docs/security.md that no other test is about; that page names the test of each."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import psutil
import pytest
from conftest import wanted
from onnx import TensorProto, helper

from ddfa_batch.pipeline import cluster, own_files
from ddfa_batch.pipeline.failures import _inert
from ddfa_batch.pipeline.process import process
from ddfa_batch.schemas.config import Execution
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files.run_folders import run_folder_at

ROOT = Path(__file__).resolve().parent.parent


def test_a_local_cluster_listens_on_this_machine_alone() -> None:
    before = listening()
    with cluster.connected(Execution("local", 1)):
        begun = listening() - before
    assert begun and {address for address, _ in begun} <= {"127.0.0.1", "::1"}


def listening() -> set[tuple[str, int]]:
    """Where this process and those it began listen, servers that other tests share among them."""
    me = psutil.Process()
    sockets = [s for p in (me, *me.children(recursive=True)) for s in p.net_connections() if s.status == "LISTEN"]
    return {(socket.laddr.ip, socket.laddr.port) for socket in sockets}


def test_no_secret_of_the_environment_is_written_down(
    photos: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "swordfish-9f3c")
    process(wanted(photos, tmp_path / "out", bundle), Execution("in-process"))
    for path in (path for path in (tmp_path / "out").rglob("*") if path.is_file()):
        assert b"swordfish-9f3c" not in path.read_bytes(), path


def test_what_links_lead_to_outside_is_not_removed_with_a_run(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    process(wanted(photos, out, bundle), Execution("in-process"))
    outside.mkdir()
    (outside / "000000.parquet").write_text("mine")
    (out / "images/000009.parquet").symlink_to(outside / "000000.parquet")
    (out / "frames").symlink_to(outside)
    own_files.remove_run(run_folder_at(out))
    assert (outside / "000000.parquet").read_text() == "mine"


def test_a_network_cannot_name_other_files(tmp_path: Path) -> None:
    import onnxruntime

    (tmp_path / "secret").write_bytes(bytes(16))
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=str(tmp_path / "secret"))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    raw = onnx.ModelProto.SerializeToString(helper.make_model(graph))
    with pytest.raises(Exception, match=r"(?i)external|path|directory"):  # as a bundle loads it: from bytes
        onnxruntime.InferenceSession(raw, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_no_cell_of_the_errors_is_a_formula(cell: str) -> None:
    assert _inert(cell) == f"'{cell}"


def test_every_test_that_the_threat_model_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/security.md").read_text())
    assert len(named) >= 15
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(), (path, name)
