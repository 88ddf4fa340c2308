"""Any file of a run folder may be damaged: whoever reads it hears a sentence that names it, or what is right."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import small_videos
from command_line import COMMAND, environment
from conftest import wanted

from ddfa_batch.pipeline import growth
from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.results import Results, open_run
from ddfa_batch.pipeline.verification import verify_run
from ddfa_batch.schemas.config import Execution
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.tasks.bundles.model_bundle import Bundle

#: What is read of a run.
READERS: dict[str, Callable[[Results], object]] = {
    "images": lambda run: run.images(),
    "faces": lambda run: run.faces(),
    "faces_schema": lambda run: run.faces_schema(),
    "tracks": lambda run: run.tracks(),
    "videos": lambda run: run.videos(),
    "vertices": lambda run: run.vertices(),
    "triangles": lambda run: run.triangles,
    "verify": lambda run: verify_run(run.run),
    "grow": lambda run: growth._planned(run.run),
}
#: How a file is damaged, by what is left of it.
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "other": lambda data: b"x" * len(data),
    "footer": lambda data: data[:-40] + bytes(32) + data[-8:],
    "middle": lambda data: data[: len(data) // 2] + b"\xff" * 64 + data[len(data) // 2 + 64 :],
}


@pytest.fixture(scope="module")
def whole(bundle: Bundle, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of pictures and a film."""
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "in").mkdir()
    for path in sorted(photos.iterdir())[:3]:
        shutil.copy(path, folder / "in")
    small_videos.write(folder / "in" / "film.mp4", n_frames=4)
    process(wanted(folder / "in", folder / "out", bundle, 100), Execution("in-process"))
    return folder / "out"


@pytest.mark.parametrize("damage", DAMAGES)
def test_whoever_reads_it_hears_a_sentence(whole: Path, damage: str, tmp_path: Path) -> None:
    out, refused = tmp_path / "out", set()
    shutil.copytree(whole, out)
    for path in [path for path in out.rglob("*") if path.suffix in (".parquet", ".h5", ".json")]:
        data = path.read_bytes()
        path.write_bytes(DAMAGES[damage](data))
        try:
            run = open_run(out)
            for reader in READERS.values():
                with contextlib.suppress(RunFolderError):
                    reader(run)
        except RunFolderError as fault:
            refused.add(path.suffix)
            assert str(out) in str(fault), fault
        path.write_bytes(data)
    assert damage == "middle" or ".json" in refused


def test_all_is_read_of_a_whole_one(whole: Path) -> None:
    for reader in READERS.values():
        reader(open_run(whole))
    assert np.isfinite(open_run(whole).vertices()).all()


def test_a_joined_file_at_which_hdf5_looks_for_ever_is_made_anew(photos: Path, models: Path, tmp_path: Path) -> None:
    command = [COMMAND, "process", photos, tmp_path / "out", "--scheduler", "in-process", "--quiet"]

    def process_it() -> None:
        words = [str(word) for word in command]
        subprocess.run(words, env=environment(models, "small"), check=True, timeout=60)

    process_it()
    joined = tmp_path / "out" / "vertices.h5"
    data = joined.read_bytes()
    at = data.index(b"GCOL") + 28  # in the heap of names: objects of no length follow each other without end
    joined.write_bytes(data[:at] + bytes(200) + data[at:])
    process_it()
    assert len(open_run(tmp_path / "out").vertices()) == 19
    with h5py.File(joined) as file:
        assert file["vertices"].shape[0] == 19
