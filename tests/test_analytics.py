"""Every example of docs/analytics.md runs on a small run; those whose package is missing are skipped."""

from __future__ import annotations

import gc
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, wanted

import ddfa_batch
from ddfa_batch.pipeline.process import process
from ddfa_batch.schemas.config import Execution
from ddfa_batch.tasks.bundles.model_bundle import Bundle

SECTIONS = re.split(r"^## ", (ROOT / "docs/analytics.md").read_text(), flags=re.MULTILINE)[1:]
#: Code by the section's title.
EXAMPLES = {
    section.splitlines()[0]: "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL)) for section in SECTIONS
}
#: What an example imports that need not be there, by its section.
PACKAGES = {
    "Samples for training": "webdataset",
    "pandas": "pandas",
    "Polars": "polars",
    "DuckDB": "duckdb",
    "PyTorch": "torch",
    "scikit-learn": "sklearn",
}
#: The shapes of what the webdataset package makes of a sample.
_SAMPLE = [(120, 120, 3), (62,), (68, 3)]
#: What stands above an example, in the sections before it.
BEFORE = "import ddfa_batch\nimport numpy as np\n"


@pytest.fixture(scope="module")
def folder(photos: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, a run of them, and its samples, as the page calls them."""
    folder = tmp_path_factory.mktemp("analytics")
    shutil.copytree(photos, folder / "photos")
    process(wanted(folder / "photos", folder / "out", bundle, vertices="none"), Execution("in-process"))
    ddfa_batch.to_webdataset(folder / "out", folder / "samples")
    return folder


def test_every_section_with_code_is_tested() -> None:
    assert {title for title, code in EXAMPLES.items() if code} == set(PACKAGES)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("title", PACKAGES)
def test_an_example_runs(title: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(PACKAGES[title])
    monkeypatch.chdir(folder)
    scope: dict[str, Any] = {"__name__": "example"}
    exec(BEFORE + EXAMPLES[title], scope)
    n = len(ddfa_batch.open("out").faces(["face_id"]))
    expected = {
        "Samples for training": lambda: [scope[k].shape for k in ("crop", "params", "landmarks")] == _SAMPLE,
        "pandas": lambda: len(scope["faces"]) == n and (scope["faces"].eye_distance > 0).all(),
        "Polars": lambda: len(scope["noses"]) == n,
        "DuckDB": lambda: len(scope["largest"]) == 4,
        "PyTorch": lambda: scope["pictures"].shape == (8, 3, 120, 120) and scope["targets"].shape == (8, 62),
        "scikit-learn": lambda: len(scope["pairs"]) == n and len(set(scope["clusters"].labels_)) == 3,
    }
    assert expected[title]()
    scope.clear()
    gc.collect()  # archives that a package leaves open are closed here
