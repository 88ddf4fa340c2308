"""How a run is made again and read, as one types it: what its report tells of that."""

from __future__ import annotations

import shlex
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from ddfa_batch.pipeline.plan import Run
from ddfa_batch.pipeline.regroup_plan import Made
from ddfa_batch.schemas.config import FaceOptions, ProcessOptions

#: Options as the command names them, where that is not their own name; boxes are a file that is known no more.
_FLAGS = {"track": "no-track"}
_UNSAID = ("boxes_digest",)
_PANDAS = """import numpy as np, pandas as pd

faces = pd.read_parquet({out!r} "/faces")
images = pd.read_parquet({out!r} "/images")
landmarks = np.stack(faces.landmarks68).reshape(-1, 68, 3)  # x, y, z in image pixels"""
_POLARS = """import polars as pl

faces = pl.scan_parquet({out!r} "/faces/*.parquet")
print(faces.filter(pl.col("yaw").abs() > 40).select("key", "yaw", "score").collect())"""
_DUCKDB = """select key, yaw, pitch, roll from '{quoted}/faces/*.parquet'
where score > 0.9 and abs(yaw) > 40 order by yaw;"""
_MESHES = """import ddfa_batch

run = ddfa_batch.open({out!r})
meshes = run.vertices(run.faces()["face_id"].to_pylist()[:8])  # (8, V, 3)"""


def commands(run: Run) -> str:
    """The command that makes a run of `process` again, as far as its record tells it, and those that look into it."""
    out, boxes = shlex.quote(_printed(str(run.folder))), run.options.get("boxes_digest") is not None
    source = _printed(run.source)
    sources = [source] if Path(source).exists() else source.split()  # several stand there with spaces between
    words = ["ddfa-batch", "process", *map(shlex.quote, sources), out, *_flags(run, boxes)]
    if (made := Made.of_run(run)) is not None:
        words = ["ddfa-batch", made.command, *(shlex.quote(_printed(name)) for name in made.of), out, *_chosen(made)]
    unsaid = "  # and --boxes with the file that was given" if boxes else ""
    return "\n".join([" ".join(words) + unsaid, f"ddfa-batch verify {out}", f"ddfa-batch status {out} --errors"])


def _chosen(made: Made) -> list[str]:
    """What was chosen of other runs, as options."""
    asked = {**made.selection, "sort": made.sort}
    words = []
    for name, value in asked.items():
        if value not in (None, False, 0):
            words += [f"--{name}"] if value is True else [f"--{name}", shlex.quote(str(value))]
    return words


def _printed(text: str) -> str:
    """Text in which nothing commands a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _flags(run: Run, boxes: bool) -> list[str]:
    """The options that are not as the command has them where nothing is said."""
    usual: dict[str, Any] = {
        field.name: field.default
        for options in (FaceOptions, ProcessOptions)
        for field in fields(options)
        if field.default is not MISSING
    }
    words = ["--model", shlex.quote(run.model.name)]
    for name, value in run.options.items():
        found = boxes and name in ("detector", "min_score")
        if found or name in _UNSAID or value is None or value == usual.get(name):
            continue
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        flag = f"--{_FLAGS.get(name, name.replace('_', '-'))}"
        words += [flag] if isinstance(value, bool) else [flag, shlex.quote(text)]
    return words


def readings(out: str) -> list[tuple[str, str]]:
    """How the tables of the run in `out` are read: program and code."""
    quoted = out.replace("'", "''")
    texts = {"pandas": _PANDAS, "Polars": _POLARS, "DuckDB": _DUCKDB, "Python, meshes": _MESHES}
    return [(name, text.format(out=out, quoted=quoted)) for name, text in texts.items()]
