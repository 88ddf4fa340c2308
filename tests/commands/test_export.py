"""`ddfa-batch export` says what it writes and where; docs/export.md's reading works on it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import portraits
import pytest
from command_line import call
from conftest import ROOT

from ddfa_batch.pipeline.results import open_run


def test_the_page_on_export_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    shutil.copy(portraits.astronaut(), "photos")
    assert call("process", "photos", "out", "--vertices", "none", model=None).code == 0
    page = (ROOT / "docs/export.md").read_text()
    for line in re.findall(r"^ddfa-batch export (.*)$", page, re.MULTILINE):
        words = re.sub(r"\s+#.*", "", line).replace('"score > 0.95"', "score>0.95").split()
        answer = call("export", *words, model=None)
        if "--tracks" in words:
            assert answer.code == 1
            assert "Nothing in out is as chosen" in answer.stderr
            continue
        assert answer.code == 0, answer.stderr
        assert "1 mesh," in answer.stdout
        assert call("status", words[1], model=None).code == 0
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    scope: dict[str, object] = {}
    exec(code, scope)
    run = open_run("out")
    expected = np.reshape(run.faces()["landmarks68"][0].as_py(), (68, 3))
    np.testing.assert_allclose(np.asarray(scope["in_photograph"])[run.landmarks68], expected, atol=0.01)
    assert call("export", "out", "meshes", "--extend", "--overwrite", model=None).code == 2
    assert "In glTF y points up" in call("export", "out", "x", "--y", "down", model=None).stderr
    dry = call("export", "out", "x", "--dry-run", "--format", "ply", model=None)
    assert "1 input of out to ply in the canonical frame, with the colours of vertices." in dry.stdout
    assert not Path("x").exists()
