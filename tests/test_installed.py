"""The wheel in an empty environment processes photographs with nothing but itself, and no network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import portraits
import pyarrow.parquet as pq
import pytest

#: What pip says where no index can be reached.
NO_NETWORK = re.compile(r"connection broken|NewConnectionError|name resolution|ProxyError|ConnectTimeout|timed out")
#: Taken by every Python process that has it on its path: nothing but this machine can be reached.
GUARD = """
import socket

def refuse(call):
    def guarded(self, address, *more):
        if self.family != getattr(socket, "AF_UNIX", None) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"offline: {address} was asked for")
        return call(self, address, *more)
    return guarded

socket.socket.connect, socket.socket.connect_ex = map(refuse, (socket.socket.connect, socket.socket.connect_ex))
"""


@pytest.fixture
def empty() -> Iterator[Path]:
    """A folder that is removed at the end: an environment takes half a gigabyte."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def offline(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a command that reaches no network: by a guard in Python, and by Linux itself where that is allowed."""
    (folder / "guard").mkdir(exist_ok=True)
    (folder / "guard/sitecustomize.py").write_text(GUARD)
    alone = ["unshare", "--map-root-user", "--net"] if shutil.which("unshare") else []
    if alone and subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        alone = []
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(folder / "guard")}
    return subprocess.run(
        [*alone, *map(str, words)], capture_output=True, text=True, env=environment, cwd=folder, check=False
    )


def test_the_wheel_alone_processes_photographs_offline(wheel: Path, empty: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(empty / "venv")], check=True)
    python = empty / "venv/bin/python"
    install = [python, "-m", "pip", "install", "--quiet", "--no-compile", "--retries", "1", wheel]
    installed = subprocess.run(install, capture_output=True, text=True, check=False)
    if installed.returncode and NO_NETWORK.search(installed.stderr):
        pytest.skip("pip reaches no index, so nothing can be installed here")
    assert installed.returncode == 0, installed.stderr

    photographs = empty / "photographs"
    photographs.mkdir()
    shutil.copy(portraits.astronaut(), photographs)
    shutil.copy(portraits.hopper(), photographs)
    expected = {
        "astronaut.png": portraits.ASTRONAUT,
        "grace_hopper.jpg": portraits.HOPPER,
        "mirrored.jpg": portraits.mirrored(photographs / "mirrored.jpg", 0.7),
    }

    code = "import socket; socket.create_connection(('192.0.2.1', 80), 1)"
    assert "offline: ('192.0.2.1', 80)" in offline(empty, python, "-c", code).stderr
    answer = offline(empty, empty / "venv/bin/ddfa-batch", "process", photographs, empty / "out")
    assert answer.returncode == 0, answer.stderr
    assert "Model: builtin (ddfa_batch/models/builtin, " in answer.stderr
    assert "3 images: 3 faces, 0 without a face, 0 errors" in answer.stdout
    for face in pq.read_table(empty / "out/faces").to_pylist():
        assert portraits.strays(np.reshape(face["landmarks68"], (68, 3)), expected[face["key"]]) == [], face["key"]
