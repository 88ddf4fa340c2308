"""What is installed is the package and nothing else, and it works from an installed copy."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"ddfa_batch", next(t for t in tops if t.endswith(".dist-info"))}
    packages = {str(Path(n).parent).replace("/", ".") for n in names if n.endswith(".py")}
    assert packages == set(CONFIG["tool"]["setuptools"]["packages"])
    assert "ddfa_batch/py.typed" in names
    assert not [n for n in names if "test" in n or "benchmark" in n]
    source = {str(p.relative_to(ROOT)) for d in ("pipeline", "tasks", "schemas") for p in (ROOT / d).rglob("*.py")}
    assert {n.removeprefix("ddfa_batch/") for n in names if n.endswith(".py") and n.count("/") > 1} == source
    assert wheel.stat().st_size < 12e6


def test_no_stray_modules_lie_at_the_root() -> None:
    assert {p.name for p in ROOT.glob("*.py")} == {"__init__.py", "cli.py"}


def test_the_installed_wheel_starts(wheel: Path, tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    code = "import ddfa_batch, ddfa_batch.cli, sys; print(ddfa_batch.__file__); ddfa_batch.open"
    answer = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(tmp_path), "PATH": ""}, cwd=tmp_path,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert answer.stdout.strip() == str(tmp_path / "ddfa_batch/__init__.py")


def test_every_module_says_what_it_is_for() -> None:
    for folder in ("", "pipeline", "tasks", "schemas"):
        for path in (ROOT / folder).glob("*.py"):
            assert path.read_text().startswith('"""'), path


def test_python_versions_are_declared() -> None:
    declared = " ".join(CONFIG["project"]["classifiers"])
    assert all(f"Python :: 3.{minor}" in declared for minor in (11, 12, 13))
    assert CONFIG["project"]["requires-python"] == ">=3.11"
