"""What only looks like a path of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.files.local_paths import check_local


@pytest.mark.parametrize("url", ["s3://bucket/x", "https://host/a.jpg", "gs://b", "file:///tmp/x", "hdfs+ssl://n/x"])
def test_a_url_is_refused_as_it_was_written(url: str) -> None:
    with pytest.raises(InputError, match=r"is a URL; .*name a local file"):
        check_local(Path(url))


@pytest.mark.parametrize("path", ["out", "/abs/out", "a:b", "C:/x", "50%: done/x", ""])
def test_a_path_is_taken(path: str) -> None:
    assert check_local(Path(path)) == Path(path)


def test_a_folder_that_is_there_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:").mkdir()
    (tmp_path / "s3:/x").touch()
    assert check_local(Path("s3://x")) == Path("s3:/x")
