"""Against the official code and labelled photographs; skipped where ../shared is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import options

from ddfa_batch.pipeline.plan import RunRequest
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.schemas.config import Execution
from ddfa_batch.tasks.bundles.model_bundle import Bundle
from ddfa_batch.tasks.files.inputs import resolve_source

pytestmark = [pytest.mark.shared, pytest.mark.filterwarnings("default")]


def run(source: Path, out: Path, bundle: Bundle, refine: int, vertices: str = "none") -> Results:
    # the official code decodes every picture in full
    chosen = options(detector="faceboxes", min_score=0.5, refine=refine, vertices=vertices, decode="full")
    process(RunRequest("process", resolve_source(source, None), out, chosen, bundle, None, None), Execution("local", 2))
    return open_run(out)


@pytest.fixture(scope="module", params=["examples", "aflw2000_dev"])
def golden(request: pytest.FixtureRequest, shared: Path) -> tuple[Path, dict[str, np.ndarray]]:
    folder = {"examples": "upstream/3DDFA_V2/examples/inputs", "aflw2000_dev": "data/aflw2000_dev"}[request.param]
    return shared / folder, dict(np.load(shared / f"golden/upstream_mb05_{request.param}.npz"))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    w, h = np.minimum(a[2:], b[2:4]) - np.maximum(a[:2], b[:2])
    shared = max(w, 0) * max(h, 0)
    return float(shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:4] - b[:2]) - shared))


def test_one_pass_is_the_official_code(
    golden: tuple[Path, dict[str, np.ndarray]], official: Bundle, tmp_path: Path
) -> None:
    folder, theirs = golden
    results = run(folder, tmp_path / "out", official, refine=0)
    ours = results.faces().to_pandas()
    matched: dict[int, int] = {}
    for i, name in enumerate(theirs["name"]):
        for row in np.flatnonzero(ours.key == name):
            if iou(ours.box[row], theirs["box"][i]) > 0.99:
                matched[i] = int(row)
    assert len(matched) >= 0.995 * len(theirs["name"])
    assert len(ours) - len(set(matched.values())) <= 0.005 * len(theirs["name"])

    landmarks = np.stack(ours.landmarks68.to_numpy()).reshape(-1, 68, 3)
    rows, faces = np.array(list(matched.values())), np.array(list(matched))
    error = np.linalg.norm(landmarks[rows, :, :2] - theirs["landmarks68"][faces].transpose(0, 2, 1)[..., :2], axis=2)
    assert np.median(error) < 0.1
    assert np.quantile(error, 0.99) < 0.5

    for name, index, dense in zip(theirs["dense_name"], theirs["dense_face"], theirs["dense"], strict=True):
        (i,) = np.flatnonzero((theirs["name"] == name) & (theirs["face"] == index))
        mesh = results.vertices([ours.face_id[matched[int(i)]]])[0].T
        assert np.median(np.abs(mesh[:2] - dense[:2])) < 0.1
        assert np.ptp(mesh[2] - dense[2]) < 0.1  # z agrees up to the constant upstream subtracts


def nme_by_yaw(results: Results, labels: dict[str, np.ndarray], column: str, dims: int) -> np.ndarray:
    """NME in % of √(w·h) by yaw bin, of the face whose box holds the mean of the true landmarks."""
    faces = results.faces().to_pandas()
    by_name = dict(iter(faces.groupby("key")))
    errors, yaws = [], []
    for name, original, truth, yaw in zip(
        labels["name"], labels["pts68"], labels[column], labels["yaw_deg"], strict=True
    ):
        centre = np.reshape(original, (3, 68))[:2].mean(axis=1) - 1
        target = np.reshape(truth, (dims, 68))[:2] - 1
        best, nearest = None, np.inf
        for face in by_name.get(name, faces[:0]).itertuples():
            distance = np.linalg.norm((face.box[:2] + face.box[2:]) / 2 - centre)
            if (face.box[:2] <= centre).all() and (centre <= face.box[2:]).all() and distance < nearest:
                best, nearest = face, distance
        if best is not None:
            found = best.landmarks68.reshape(68, 3).T[:2]
            size = np.sqrt(np.prod(np.ptp(target, axis=1)))
            errors.append(np.linalg.norm(found - target, axis=0).mean() / size * 100)
            yaws.append(abs(yaw))
    edges = np.digitize(yaws, [30, 60])
    return np.array([np.mean(np.array(errors)[edges == i]) for i in range(3)])


def test_refined_once_it_is_as_accurate_as_the_official_weights_can_be(
    shared: Path, official: Bundle, tmp_path: Path
) -> None:
    folder = shared / "data/aflw2000_dev"
    results = run(folder, tmp_path / "out", official, refine=1)
    table = pq.read_table(folder / "labels.parquet")
    labels = {name: table[name].to_numpy() for name in table.column_names}
    assert nme_by_yaw(results, labels, "pts68", 3).mean() == pytest.approx(3.64, abs=0.03)
    assert nme_by_yaw(results, labels, "pts68_reannotated", 2).mean() == pytest.approx(2.87, abs=0.03)
    yaw = dict(zip(labels["name"], labels["yaw_deg"], strict=True))
    faces = results.faces(["key", "yaw"]).to_pandas()
    assert np.corrcoef(faces.yaw, [yaw[k] for k in faces.key])[0, 1] > 0.95


def test_awkward_files(shared: Path, official: Bundle, tmp_path: Path) -> None:
    results = run(shared / "data/awkward", tmp_path / "out", official, refine=1)
    images = results.images().to_pandas().set_index("key")
    assert images.error_kind.dropna().to_dict() == {
        "empty.jpg": "empty",
        "text.jpg": "not_an_image",
        "image00023_truncated50.jpg": "truncated",
        "image00023_truncated95.jpg": "truncated",
    }
    faces = results.faces().to_pandas().set_index("key")
    reference = faces.loc["image00023.bmp"].landmarks68.reshape(68, 3)[:, :2]
    same = [k for k in faces.index if "9000" not in k and "bitflips" not in k]
    for key in same:
        distance = np.linalg.norm(faces.loc[key].landmarks68.reshape(68, 3)[:, :2] - reference, axis=1).mean()
        assert distance < 2.5, key
    assert len(same) >= 20
