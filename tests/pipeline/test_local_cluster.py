"""What an interrupted local cluster ends, in a program that has processes of its own, and what it leaves alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import small_model

from ddfa_batch.tasks.bundles.model_bundle import Bundle

#: A program that has a process of its own forked by Python's fork server, and what of it and of others still runs.
_OWN = """
import json, multiprocessing, sys, time
import psutil

def running():
    below = psutil.Process().children(recursive=True)
    return {process.pid for process in below if process.status() != psutil.STATUS_ZOMBIE}

def own_process():
    process = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(60,))
    process.start()
    return process

def told(own, before):
    time.sleep(0.1)
    print(json.dumps({"own": own.is_alive(), "left": len(running() - before)}))
    own.kill()
"""
_INTERRUPTED = """
import ddfa_batch
from ddfa_batch.pipeline import graph

if __name__ == "__main__":
    own = own_process()
    before = running()

    def interrupts(*_):
        assert len(running() - before) == 1, "no worker"
        raise KeyboardInterrupt

    graph._windowed = interrupts
    try:
        ddfa_batch.process(sys.argv[1], sys.argv[2], model=sys.argv[3], scheduler="local", workers=1)
    except KeyboardInterrupt:
        told(own, before)
"""
_SHARED = """
from ddfa_batch.pipeline import worker_template

if __name__ == "__main__":
    before = running()
    worker_template._IMPORTED = ()
    worker_template.start({})
    own = own_process()
    with_own = running()
    worker_template.end([])
    told(own, with_own)
    own.join()
    worker_template.end([])
    told(own, before)
"""
_BEFORE_THE_LOOP = """
from distributed.utils import LoopRunner
from ddfa_batch.pipeline.local_cluster import local_cluster

def interrupted(_):
    raise KeyboardInterrupt

if __name__ == "__main__":
    LoopRunner.start = interrupted
    try:
        with local_cluster(1):
            pass
    except KeyboardInterrupt:
        time.sleep(0.1)
        print(json.dumps({"left": len(running())}))
"""
_DIES_AT_ITS_START = """
from distributed import LocalCluster
from ddfa_batch.pipeline.local_cluster import local_cluster

begin = LocalCluster.__init__
begun = []

def dies(self, *what, **how):
    begun.append(self)
    if len(begun) == 1:
        raise RuntimeError("Nanny failed to start.")  # what Dask says of a worker that died meanwhile
    begin(self, *what, **how)

if __name__ == "__main__":
    LocalCluster.__init__ = dies
    with local_cluster(1) as client:
        print(json.dumps({"begun": len(begun), "answer": client.submit(sum, [2, 3]).result()}))
"""


def run(script: str, folder: Path, *words: object) -> list[dict[str, object]]:
    """What a program says, line by line."""
    path = folder / "program.py"
    path.write_text(_OWN + script)
    done = subprocess.run([sys.executable, str(path), *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_an_interrupted_run_ends_its_workers_and_no_process_of_the_programs(bundle: Bundle, tmp_path: Path) -> None:
    """Where the program began the fork server, the workers are forked from that, and it stays."""
    photos = small_model.pictures(tmp_path / "in", [1])
    (told,) = run(_INTERRUPTED, tmp_path, photos, tmp_path / "out", bundle.folder)
    assert told == {"own": True, "left": 0}


def test_the_template_ends_only_if_nobody_else_uses_it(tmp_path: Path) -> None:
    shared, alone = run(_SHARED, tmp_path)
    assert shared == {"own": True, "left": 0}
    assert alone["left"] == 1  # Python's resource tracker, which the fork server began


def test_a_signal_before_dasks_loop_runs_is_a_signal(tmp_path: Path) -> None:
    (left,) = run(_BEFORE_THE_LOOP, tmp_path)
    assert left == {"left": 1}  # Python's resource tracker


def test_workers_that_die_while_they_start_are_started_once_more(tmp_path: Path) -> None:
    (told,) = run(_DIES_AT_ITS_START, tmp_path)
    assert told == {"begun": 2, "answer": 5}
