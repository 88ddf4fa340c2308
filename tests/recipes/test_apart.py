"""Crops that show a photograph which is measured on: found however they were cut, and nothing else."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ddfa_batch.schemas.errors import InputError
from recipes.builtin import apart

#: A face of 68 points, 100 wide: rows of brows, eyes and mouth are all that the alignment asks for.
RNG = np.random.default_rng(4)
POINTS = RNG.uniform(20, 80, (68, 2))
POINTS[36:48, 1], POINTS[48:, 1] = 35, 75


def shot(seed: int) -> np.ndarray:
    """A picture (240, 240) of soft patches, another for each seed."""
    noise = np.random.default_rng(seed).normal(size=(240, 240)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 6)
    return np.clip(128 + 40 * soft / soft.std(), 0, 255).astype(np.uint8)


def cut(image: np.ndarray, degrees: float, scale: float, light: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture turned, scaled, lit and compressed, and where its points then lie."""
    map_ = cv2.getRotationMatrix2D((120, 120), degrees, scale)
    picture = cv2.warpAffine(image, map_, (240, 240))
    picture = np.clip(picture * light, 0, 255).astype(np.uint8)
    picture = cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_GRAYSCALE)
    return picture, (POINTS + 70) @ map_[:, :2].T + map_[:, 2]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Three photographs, and five crops, the first two of which show the second photograph."""
    rows: dict[str, list[np.ndarray]] = {"aflw/images": [], "dev/photographs": []}
    plans = {
        "aflw/images": [(1, 12, 0.7, 0.6), (1, -20, 1.1, 1.2), (11, 0, 1, 1), (12, 5, 0.9, 1), (13, 0, 0.8, 1)],
        "dev/photographs": [(0, 0, 1, 1), (1, 0, 1, 1), (2, 0, 1, 1)],
    }
    for folder, plan in plans.items():
        (tmp_path / folder).mkdir(parents=True)
        for i, (seed, *how) in enumerate(plan):
            picture, points = cut(shot(seed), *how)
            cv2.imwrite(str(tmp_path / folder / f"{i}.png"), picture)
            rows[folder].append(points)
    for file, name, folder in (
        ("aflw/labels-all.parquet", "name", "aflw/images"),
        ("dev/original.parquet", "key", "dev/photographs"),
    ):
        flat = np.stack(rows[folder]).astype(np.float32)
        points = pa.FixedSizeListArray.from_arrays(flat.ravel(), 136)
        keys = [f"{i}.png" for i in range(len(flat))]
        pq.write_table(pa.table({name: keys, "pts68": points}), tmp_path / file)
    (tmp_path / "aflw/duplicates.txt").write_text("old.png\n")
    return tmp_path


def test_a_shot_is_known_again_turned_scaled_and_in_other_light(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = apart.alike(work, apart.MOST)
    assert {(crop, photograph) for crop, photograph, _ in found} == {("0.png", "1.png"), ("1.png", "1.png")}
    apart.main([str(work)])
    assert "2 crops that show a photograph of the dev half are left out of 5; 3 stay." in capsys.readouterr().out
    assert pq.read_table(work / "aflw/labels-all.parquet")["name"].to_pylist() == ["2.png", "3.png", "4.png"]
    assert apart.alike(work, apart.MOST) == []


def test_what_is_trained_on_is_checked_by_name(work: Path) -> None:
    with pytest.raises(InputError, match="run prepare and apart"):
        apart.check_apart(work / "aflw", ["2.png"])
    apart.main([str(work)])
    said = apart.check_apart(work / "aflw", ["2.png", "3.png"])
    assert said == "None of the 2 crops that train or validate is one of the 3 duplicates."
    for listed in ("0.png", "old.png"):
        with pytest.raises(InputError, match=f"{listed} would be trained on"):
            apart.check_apart(work / "aflw", ["2.png", listed])
