"""Numbers of .mat files: the variables that are asked for, and faults that name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.files import mat_files
from ddfa_batch.tasks.files.mat_files import read_variables


def test_only_what_is_asked_for_and_there_is_read(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"one": [[1, 2]], "two": [[3.5]]})
    found = read_variables(tmp_path / "a.mat", ["one", "three"])
    assert list(found) == ["one"]
    np.testing.assert_array_equal(found["one"], [[1.0, 2.0]])


@pytest.mark.parametrize("content", [b"", b"no", b"MATLAB 5.0 MAT-file nonsense", bytes(200)])
def test_what_is_no_mat_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mat"):
        read_variables(tmp_path / "a.mat", ["one"])


def test_text_is_no_number(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"one": "text"})
    with pytest.raises(InputError, match=r"a\.mat is no .mat file of numbers"):
        read_variables(tmp_path / "a.mat", ["one"])


def test_a_missing_file_and_one_too_large_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"a\.mat cannot be read \(No such file"):
        read_variables(tmp_path / "a.mat", ["one"])
    savemat(tmp_path / "a.mat", {"one": np.zeros((100, 100))})
    monkeypatch.setattr(mat_files, "_MAX_BYTES", 1000)
    with pytest.raises(InputError, match="far too many"):
        read_variables(tmp_path / "a.mat", ["one"])
