"""What is installed is the package and nothing else, and it works from an installed copy."""

from __future__ import annotations

import re
import tomllib
import zipfile
from pathlib import Path

from conftest import ROOT, built
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ddfa_batch.schemas.bundle import CARD, MANIFEST, parse_manifest
from ddfa_batch.schemas.config import BUILTIN_MODELS

CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = ROOT / ".ci/requirements.lock"
PACKAGES = ("commands", "pipeline", "tasks", "schemas")


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"ddfa_batch", next(t for t in tops if t.endswith(".dist-info"))}
    packages = {str(Path(n).parent).replace("/", ".") for n in names if n.endswith(".py")}
    assert packages == set(CONFIG["tool"]["setuptools"]["packages"])
    assert "ddfa_batch/py.typed" in names
    assert not [n for n in names if "test" in n or "benchmark" in n]
    source = {str(p.relative_to(ROOT)) for d in PACKAGES for p in (ROOT / d).rglob("*.py")}
    assert {n.removeprefix("ddfa_batch/") for n in names if n.endswith(".py") and n.count("/") > 1} == source


def model_files() -> set[str]:
    """What the built-in models consist of: their manifests, what these name, and their cards."""
    found = set()
    for model in BUILTIN_MODELS:
        named = parse_manifest((ROOT / "models" / model / MANIFEST).read_text(), MANIFEST).files
        found |= {f"ddfa_batch/models/{model}/{name}" for name in (*named, MANIFEST, CARD)}
    return found


def test_the_wheel_holds_the_built_in_models_and_stays_small(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if "/models/" in name} == model_files()
    assert wheel.stat().st_size <= 20e6


def test_the_source_distribution_makes_the_same_wheel(wheel: Path, source_tree: Path, tmp_path: Path) -> None:
    again = built(source_tree, tmp_path)  # a source distribution, and the wheel of it
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())


def test_no_stray_modules_lie_at_the_root() -> None:
    assert {p.name for p in ROOT.glob("*.py")} == {"__init__.py", "__main__.py", "cli.py"}


def test_every_module_says_what_it_is_for() -> None:
    for path in [*ROOT.glob("*.py"), *(path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py"))]:
        assert path.read_text().startswith('"""'), path


def test_python_versions_are_declared() -> None:
    declared = " ".join(CONFIG["project"]["classifiers"])
    assert all(f"Python :: 3.{minor}" in declared for minor in (11, 12, 13))
    assert CONFIG["project"]["requires-python"] == ">=3.11"


def test_the_lock_file_names_all_that_tests_and_checks_ask_for() -> None:
    """Each requirement by one version that it allows, with hashes."""
    project = CONFIG["project"]
    extras = project["optional-dependencies"]
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)[^\n]*\\\n    --hash=sha256:", LOCK.read_text(), re.MULTILINE))
    wanted = [*project["dependencies"], *extras["test"], *extras["check"]]
    for own in [asked for asked in wanted if asked.startswith("ddfa-batch[")]:
        wanted.remove(own)
        wanted += [asked for extra in Requirement(own).extras for asked in extras[extra]]
    for asked in map(Requirement, wanted):
        assert locked[canonicalize_name(asked.name)] in asked.specifier, asked
