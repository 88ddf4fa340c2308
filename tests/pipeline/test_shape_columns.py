"""Numbers have names in the faces table: eyes, mouth, and the expressions that a model names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import small_model
from conftest import wanted

from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.receipts import receipts, verify_run
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.bundle import REGRESSOR
from ddfa_batch.schemas.config import Execution
from ddfa_batch.schemas.tables import matrix
from ddfa_batch.tasks.bundles.model_bundle import Bundle, write_bundle
from ddfa_batch.tasks.files import store
from ddfa_batch.tasks.geometry.openness import openness

HERE = Execution("in-process")
NAMES = tuple(f"{word}_{side}" for word in ("smile", "frown", "blink", "pout", "sneer") for side in ("left", "right"))


def named(bundle: Bundle, folder: Path) -> Bundle:
    """The small model with names for its ten expressions."""
    files = {REGRESSOR: small_model.regressor(), "detectors/yunet.onnx": small_model.detector()}
    manifest = replace(bundle.manifest, name="named", expression_names=NAMES, files={})
    return write_bundle(folder, manifest, files, small_model.head())


def check(faces: pa.Table) -> None:
    """Every column says what the landmarks and the parameters say."""
    landmarks, params = matrix(faces["landmarks68"]).reshape(-1, 68, 3), matrix(faces["params"])
    for name, values in zip(("right_eye_open", "left_eye_open", "mouth_open"), openness(landmarks), strict=True):
        np.testing.assert_array_equal(faces[name].to_numpy(), values)
    for k, name in enumerate(NAMES):
        np.testing.assert_array_equal(faces[f"expression_{name}"].to_numpy(), params[:, -10 + k])


def test_expressions_that_have_names_have_columns(bundle: Bundle, photos: Path, tmp_path: Path) -> None:
    process(wanted(photos, tmp_path / "out", named(bundle, tmp_path / "named"), vertices="none"), HERE)
    check(open_run(tmp_path / "out").faces())
    process(wanted(photos, tmp_path / "plain", bundle, vertices="none"), HERE)
    assert not any(name.startswith("expression_") for name in open_run(tmp_path / "plain").faces().column_names)


def test_a_run_from_before_gets_the_columns_where_its_error_rows_are_done_again(bundle: Bundle, tmp_path: Path) -> None:
    model, out = named(bundle, tmp_path / "named"), tmp_path / "out"
    photos = small_model.pictures(tmp_path / "in", [1, 2, 1])
    whole = (photos / "001.png").read_bytes()
    (photos / "001.png").write_bytes(b"")
    run, _ = process(wanted(photos, out, model), HERE)
    without_columns(run.out)
    old = open_run(out)
    assert verify_run(run) == []
    assert len(old.faces()) == 2
    assert "mouth_open" not in old.faces_schema().names
    (photos / "001.png").write_bytes(whole)
    process(wanted(photos, out, model), HERE, retry_failed=frozenset({"empty"}))
    again = open_run(out).faces()
    assert len(again) == 4
    check(again)


def without_columns(out: Path) -> None:
    """Write the shards of a run as they were before there were such columns."""
    for receipt in list(receipts(open_run(out).run)):
        name = f"{store.FACES}/{store.shard_name(receipt.shard)}.parquet"
        faces = pq.read_table(out / name)
        late = [column for column in faces.column_names if column.endswith("_open") or column.startswith("expression_")]
        assert len(late) == 13
        store.put_table(out / name, faces.drop_columns(late))
        sizes = {**receipt.files, name: store.size_of(out / name)}
        sums = {**receipt.checksums, name: store.checksum(out / name)}
        store.write_receipt(open_run(out).run.folder, replace(receipt, files=sizes, checksums=sums))
