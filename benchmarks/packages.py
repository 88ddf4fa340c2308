"""How much an installation takes on disk, by package and by extra: python benchmarks/packages.py

Each set is installed from scratch with pip, into a folder that is removed afterwards. Prints the tables of
docs/installing.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("render", "labels", "official", "scans")
#: Packages smaller than this, MB, are told of together.
SMALL = 10


def sizes(extra: str) -> dict[str, int]:
    """Bytes of every distribution that the package, with an extra ("" for none), brings; compiled bytecode left out."""
    wanted = f"{ROOT}[{extra}]" if extra else str(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "-qq", "--no-compile", "--target", folder, wanted]
        subprocess.run(command, check=True)
        found = importlib.metadata.distributions(path=[folder])
        return {each.metadata["Name"]: sum(_size(folder, file) for file in each.files or []) for each in found}


def _size(folder: str, file: importlib.metadata.PackagePath) -> int:
    path = Path(folder) / file
    return path.stat().st_size if path.is_file() else 0


def megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.0f}"


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    alone = sizes("")
    print("| Package | MB |\n|---|---|")
    large = {name: n for name, n in alone.items() if n >= SMALL * 1e6}
    for name, n in sorted(large.items(), key=lambda item: -item[1]):
        print(f"| {name} | {megabytes(n)} |")
    print(f"| {len(alone) - len(large)} others | {megabytes(sum(alone.values()) - sum(large.values()))} |")
    print(f"| all | {megabytes(sum(alone.values()))} |\n")
    print("| Extra | MB more | Of which |\n|---|---|---|")
    for extra in EXTRAS:
        more = {name: n for name, n in sizes(extra).items() if name not in alone}
        parts = ", ".join(f"{name} {megabytes(n)}" for name, n in sorted(more.items(), key=lambda item: -item[1]))
        print(f"| `{extra}` | {megabytes(sum(more.values()))} | {parts} |")


if __name__ == "__main__":
    main()
