"""A retry that is killed when it gives a file its name: `python dying_commit.py PHOTOS OUT MODEL N`, at the Nth."""

import os
import signal
import sys
from pathlib import Path

from conftest import wanted

from ddfa_batch.pipeline.process import process
from ddfa_batch.schemas.config import Execution
from ddfa_batch.schemas.errors import ERROR_KINDS
from ddfa_batch.tasks.bundles.model_bundle import load_bundle
from ddfa_batch.tasks.files import atomic


def main(photos: str, out: str, model: str, at: str) -> None:
    calls, publish = 0, atomic.publish

    def kills(work: Path, path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls > int(at):
            os.kill(os.getpid(), signal.SIGKILL)
        publish(work, path)

    atomic.publish = kills
    request = wanted(Path(photos), Path(out), load_bundle(Path(model)))
    process(request, Execution("in-process"), retry_failed=frozenset(ERROR_KINDS))


if __name__ == "__main__":
    main(*sys.argv[1:])
