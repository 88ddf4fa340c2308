"""What HDF5 tells otherwise than the system does."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ddfa_batch.tasks.files.mesh_files import _new_file

#: Told in a process of its own, which ends at once: HDF5 cannot let go of what it cannot write, and dies of it at exit.
_UNDER_A_LIMIT = """
import os, resource, small_model, sys
from pathlib import Path
from ddfa_batch.tasks.files.mesh_files import put_topology

resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    put_topology(Path(sys.argv[1]), small_model.head())
except OSError as fault:
    print(fault.errno, fault.strerror, fault.filename, flush=True)
os._exit(0)
"""


def test_a_file_that_may_not_grow_is_told_as_any_other(tmp_path: Path) -> None:
    """Under a limit of a file's size (RLIMIT_FSIZE), which h5py meets only as it closes the file."""
    path = tmp_path / "topology.h5"
    command = [sys.executable, "-c", _UNDER_A_LIMIT, str(path)]
    more = {"PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(command, env={**os.environ, **more}, capture_output=True, text=True, check=True)
    assert told.stdout == f"{errno.EFBIG} File too large {path}\n"


def test_a_disk_that_is_full_is_told_by_its_reason(tmp_path: Path) -> None:
    """What h5py tells where a disk of 60 kB has no room for the triangles, but for what closing the file writes."""
    trace = (
        "Can't synchronously write data (file write failed: time = Thu Nov 26 10:53:56 2026\n, filename = 'x.h5', file "
        "descriptor = 7, errno = 28, error message = 'No space left on device', buf = 0x55c2705a9510)"
    )
    with pytest.raises(OSError, match="No space left on device") as told, _new_file(tmp_path / "x.h5"):
        raise OSError(errno.ENOSPC, trace)
    assert told.value.strerror == os.strerror(errno.ENOSPC)
    assert told.value.filename == str(tmp_path / "x.h5")
