"""A worker that hangs, swells or is stopped at one image: `python hanging.py RUN NAME HOW`, or preloaded by Dask."""

import ctypes
import os
import signal
import sys
from pathlib import Path

from ddfa_batch.pipeline import faces
from ddfa_batch.schemas.config import ItemLimits
from ddfa_batch.tasks.files import images
from ddfa_batch.tasks.files.item_limits import item_limits

#: What a test sets for workers that Dask starts: the name, and how.
NAME, HOW = "HANGING_NAME", "HANGING_HOW"


def hang_at(name: str, how: str) -> None:
    read_bytes = images.read_bytes

    def reads(path: Path) -> bytes:
        if path.name == name:
            _misbehave(how)
        return read_bytes(path)

    images.read_bytes = reads


def _misbehave(how: str) -> None:
    if how == "hang":
        ctypes.PyDLL(None).sleep(600)  # in C, and with the interpreter's lock
    elif how == "swell":
        held = b"x" * (900 << 20)
        ctypes.PyDLL(None).sleep(600)
        del held
    elif how == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)


def dask_setup(worker: object) -> None:
    hang_at(os.environ[NAME], os.environ[HOW])


def main(out: str, name: str, how: str) -> None:
    hang_at(name, how)
    with item_limits(ItemLimits(600.0 if how == "swell" else 0.5, 700 << 20), may_end=True):
        faces.find_faces(out, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
