"""The process that ends a worker whose item is over its limits; started by `watchdog`, with the standard library alone.

A thread could not do it: where a decoder hangs it may hold the interpreter's lock, and the process may be stopped.
"""

import contextlib
import mmap
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

#: A slot of the board: number of the item held (0: none), seconds, bytes, length of the mark's path, the path.
SLOT = struct.Struct("<QdQH998s")
#: Slots of the board: threads of a worker that are watched.
SLOTS = 64
#: Seconds between two looks.
_LOOK_SECONDS = 0.25
#: The most that counts as passed between two looks: when this process was stopped, so was the worker, and it is spared.
_LONGEST_LOOK = 1.0
#: Where Linux tells of processes; elsewhere ps does.
_PROC = Path("/proc/self/statm")
#: What is added to a mark to tell why its worker was ended.
TIMED_OUT, OUT_OF_MEMORY = b"t", b"m"


def main(pid: int, descriptor: int) -> None:
    """Watch the board until the worker is gone, and end the worker when an item is over its limits."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # meant for the worker
    board = mmap.mmap(descriptor, SLOT.size * SLOTS)
    held = [(0, 0.0)] * SLOTS
    before = time.monotonic()
    while os.getppid() == pid:
        time.sleep(_LOOK_SECONDS)
        now = time.monotonic()
        passed, before = min(now - before, _LONGEST_LOOK), now
        for place in range(SLOTS):
            item, seconds, size, *_ = slot = SLOT.unpack_from(board, place * SLOT.size)
            since = held[place][1] + passed if item == held[place][0] else 0.0
            held[place] = (item, since)
            if item and (cause := _over(pid, since, seconds, size)):
                _end(pid, board, place, slot, cause)


def _over(pid: int, since: float, seconds: float, size: int) -> bytes | None:
    """Why a worker is to be ended that has held an item `since` so many seconds."""
    if since > seconds:
        return TIMED_OUT
    memory, _ = seen(pid)
    return OUT_OF_MEMORY if memory > size else None


def _end(pid: int, board: mmap.mmap, place: int, slot: tuple, cause: bytes) -> None:  # type: ignore[type-arg]
    """Note the cause in the item's mark and end the worker; no item is to blame where the worker was stopped."""
    _, stopped = seen(pid)
    if SLOT.unpack_from(board, place * SLOT.size)[0] != slot[0]:
        return
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGSTOP)  # nothing moves while the marks are written
        for other in range(SLOTS):
            item, _, _, length, raw = SLOT.unpack_from(board, other * SLOT.size)
            if item and (other != place or stopped):
                Path(os.fsdecode(raw[:length])).unlink(missing_ok=True)
        if not stopped:
            with Path(os.fsdecode(slot[4][: slot[3]])).open("ab") as mark:
                mark.write(cause)
    os.kill(pid, signal.SIGKILL)


def seen(pid: int) -> tuple[int, bool]:
    """Bytes of a process in memory, and whether it is stopped; nothing of one that is gone."""
    try:
        if _PROC.exists():
            pages = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
            state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
            return pages * mmap.PAGESIZE, state in (b"T", b"t")
        command = ["ps", "-o", "rss=,state=", "-p", str(pid)]
        kilobytes, letters = subprocess.run(command, capture_output=True, check=True).stdout.split()
        return int(kilobytes) * 1024, letters.startswith(b"T")
    except (OSError, ValueError, IndexError, subprocess.CalledProcessError):
        return 0, False


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
