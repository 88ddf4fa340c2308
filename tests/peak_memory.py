"""The most memory that a command, or a process it started, had, as the system counts it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence

#: A small process in between: a process begins its count with what the one that forked it had.
_BETWEEN = """
import json, resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(json.dumps([code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024]))
"""


def run(command: Sequence[object], environment: Mapping[str, str]) -> tuple[int, int]:
    """The exit code of a command, and bytes."""
    words = [sys.executable, "-S", "-c", _BETWEEN, *map(str, command)]
    done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True, timeout=300)
    code, peak = json.loads(done.stdout)
    return code, peak
