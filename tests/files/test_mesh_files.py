"""What HDF5 tells otherwise than the system does."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

import pytest
import small_model

from ddfa_batch.tasks.files.mesh_files import put_topology


@pytest.mark.filterwarnings("ignore:Exception ignored in.*ObjectID")  # HDF5 cannot let go of what it cannot write
def test_a_file_that_may_not_grow_is_told_as_any_other(tmp_path: Path) -> None:
    """Under a limit of a file's size (RLIMIT_FSIZE), which h5py meets only as it closes the file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="File too large") as told:
            put_topology(tmp_path / "topology.h5", small_model.head())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert told.value.errno == errno.EFBIG
    assert told.value.filename == str(tmp_path / "topology.h5")
