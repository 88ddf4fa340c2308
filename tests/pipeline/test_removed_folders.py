"""Whoever removes a run's folder while a command works in it loses nothing but the work: the same command goes on."""

from __future__ import annotations

from pathlib import Path

import labelled_run
import numpy as np
import pytest
import small_model
from command_line import Answer, call
from conftest import wanted
from removed_folders import removed_meanwhile

from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.config import Execution
from ddfa_batch.tasks.bundles.model_bundle import Bundle

#: What is made of three pictures, of a run of them, or of their landmarks, in shards of two.
COMMANDS = {
    "process": ("in", "--shard-size", 2),
    "fit": ("labels.parquet",),
    "to-webdataset": ("run", "--shard-size", 2, "--size", 32),
    "compact": ("run", "--shard-size", 2),
}
#: When the removal begins, as shares of what an undisturbed command touches.
MOMENTS = (0.2, 0.35, 0.48, 0.55, 0.62, 0.8)


@pytest.fixture(scope="module")
def sources(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, a run of them, and their landmarks."""
    folder = tmp_path_factory.mktemp("removed")
    pictures = small_model.pictures(folder / "in", [1, 2, 0])
    process(wanted(pictures, folder / "run", bundle, vertices="none"), Execution("in-process"))
    faces = open_run(folder / "run").faces(["key", "landmarks68"])
    points = np.array(faces["landmarks68"].to_pylist()).reshape(-1, 68, 3)[..., :2]
    labelled_run.table(folder / "labels.parquet", faces["key"].to_pylist(), points)
    return folder


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_command_makes_a_run_whose_folder_was_removed_meanwhile(
    sources: Path, models: Path, tmp_path: Path, command: str, backwards: bool
) -> None:
    """Nothing that the first wrote there afterwards is taken for a stranger's."""
    source, *words = COMMANDS[command]
    out = tmp_path / "place/out"

    def make() -> Answer:
        return call(command, sources / str(source), out, *words, "--quiet", models=models)

    with removed_meanwhile(out) as undisturbed:
        assert make().code == 0
    for moment in MOMENTS:
        with removed_meanwhile(out, int(moment * undisturbed.touches), backwards):
            answer = make()
        assert answer.code == 0 or "No such file" in answer.stderr or "run the same command again" in answer.stderr
        again = make()
        assert again.code == 0, (moment, answer.stderr, again.stderr)
        assert call("verify", out).code == 0
