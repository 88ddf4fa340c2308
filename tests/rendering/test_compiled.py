"""What is compiled needs no place to write to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

from ddfa_batch.tasks.rendering.compiled import compiled

PARTS = ("__init__.py", "schemas", "tasks")
CODE = """
import numpy as np
from ddfa_batch.tasks.rendering import rasteriser
square = np.array([[0, 0, 0], [4, 0, 0], [4, 4, 0], [0, 4, 0]], np.float32)
fragments = rasteriser.rasterise(square, np.array([[0, 2, 1], [0, 3, 2]], np.int32), 6, 6)
print(rasteriser.__file__, int((fragments.triangle >= 0).sum()))
"""


def test_an_install_where_nothing_can_be_written_works(tmp_path: Path) -> None:
    """A file stands where every folder for compiled code would be made, so that even root cannot make one."""
    package = tmp_path / "site/ddfa_batch"
    package.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, package / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, package / part)
    for folder in [package, *(p for p in package.rglob("*") if p.is_dir())]:
        (folder / "__pycache__").write_text("")
    nowhere = tmp_path / "nowhere"
    nowhere.write_text("")
    unwritable = {name: str(nowhere / "x") for name in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "IPYTHONDIR")}
    environment = {**os.environ, **unwritable, "PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    file, covered = answer.stdout.split()
    assert file.startswith(str(package))
    assert covered == "25"


def test_a_kernel_gives_what_its_python_gives() -> None:
    def squares(n):  # type: ignore[no-untyped-def]
        total = 0
        for i in range(n):
            total += i * i
        return total

    assert compiled()(squares)(10) == squares(10) == 285
