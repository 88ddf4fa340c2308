"""A process that ends while it holds one image: `python dying.py RUN NAME [SIGNAL]`, of a crash or a signal."""

import os
import signal
import sys
from pathlib import Path

from ddfa_batch.pipeline import faces
from ddfa_batch.tasks.files import images


def main(out: str, name: str, number: str = str(int(signal.SIGSEGV))) -> None:
    read_bytes = images.read_bytes

    def reads(path: Path) -> bytes:
        if path.name == name:
            os.kill(os.getpid(), int(number))
        return read_bytes(path)

    images.read_bytes = reads
    faces.find_faces(out, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
