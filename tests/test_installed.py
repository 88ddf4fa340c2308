"""The wheel in an empty environment processes photographs with nothing but itself, and no network."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import empty_environment
import numpy as np
import portraits
import pyarrow.parquet as pq

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


def test_the_wheel_alone_processes_photographs_offline(wheel: Path, tmp_path: Path) -> None:
    python = empty_environment.make(tmp_path / "venv", wheel)
    whence = offline(tmp_path, python, "-c", "import ddfa_batch; ddfa_batch.open; print(ddfa_batch.__file__)")
    assert Path(whence.stdout.strip()).is_relative_to(tmp_path / "venv"), whence.stderr
    absent = offline(tmp_path, python, "-c", "import numba")
    assert "No module named 'numba'" in absent.stderr  # nothing shines through from the environment of the tests

    photographs = tmp_path / "photographs"
    photographs.mkdir()
    shutil.copy(portraits.astronaut(), photographs)
    shutil.copy(portraits.hopper(), photographs)
    expected = {
        "astronaut.png": portraits.ASTRONAUT,
        "grace_hopper.jpg": portraits.HOPPER,
        "mirrored.jpg": portraits.mirrored(photographs / "mirrored.jpg", 0.7),
    }

    code = "import socket; socket.create_connection(('192.0.2.1', 80), 1)"
    assert "offline: ('192.0.2.1', 80)" in offline(tmp_path, python, "-c", code).stderr
    answer = offline(tmp_path, tmp_path / "venv/bin/ddfa-batch", "process", photographs, tmp_path / "out")
    assert answer.returncode == 0, answer.stderr
    assert "Model: builtin (ddfa_batch/models/builtin, " in answer.stderr
    assert "3 images: 3 faces, 0 without a face, 0 errors" in answer.stdout
    for face in pq.read_table(tmp_path / "out/faces").to_pylist():
        assert portraits.strays(np.reshape(face["landmarks68"], (68, 3)), expected[face["key"]]) == [], face["key"]
