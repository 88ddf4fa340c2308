"""The runs that are disturbed, what they are made from, and what their undisturbed twins wrote."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import skimage.data
from started import CLUSTER_SECONDS, SECONDS, Started, forked, new

import ddfa_batch

#: Stills, films and frames of each, and the side of a picture in pixels.
_STILLS, _FILMS, _FRAMES, _SIDE = 11, 2, 8, 160
_SMALL_SHARDS = ["--shard-size", "2"]


@dataclass(frozen=True)
class Subject:
    """A kind of run."""

    #: What it is called.
    name: str
    #: The words of its command, given where the sources lie and where it writes to.
    words: Callable[[Path, Path], list[str]]
    #: Whether it starts workers, and so needs a new process.
    local: bool = False
    #: The run it has to end like, where that is another kind's.
    twin: str | None = None

    @property
    def limit(self) -> float:
        """Seconds after which it counts as hung."""
        return CLUSTER_SECONDS if self.local else SECONDS

    def start(
        self,
        base: Path,
        out: Path,
        more: tuple[str, ...] = (),
        limits: dict[int, int] | None = None,
        environment: dict[str, str] | None = None,
    ) -> Started:
        """Start its command, writing what it says beside OUT; with an environment or workers in a new process."""
        words, told = [*self.words(base, out), *more], out.with_name(f"{out.name}.told")
        return new(words, told, environment) if self.local or environment else forked(words, told, limits)


def _process(source: str, *more: str) -> Callable[[Path, Path], list[str]]:
    return lambda base, out: ["process", str(base / source), str(out), *_SMALL_SHARDS, "--quiet", *more]


def _of_run(command: str, *more: str) -> Callable[[Path, Path], list[str]]:
    here = [*_SMALL_SHARDS, "--scheduler", "in-process", "--quiet", *more]
    return lambda base, out: [command, str(base / "process"), str(out), *here]


def _synth(base: Path, out: Path) -> list[str]:
    here = ["--shard-size", "1", "--scheduler", "in-process", "--quiet"]
    return ["synth-videos", str(base / "few"), str(out), "--frames", "2", "--size", "120", *here]


def _on_site(base: Path, out: Path) -> list[str]:
    return _process("stills", "--scheduler", str(base / SITE))(base, out)


#: The file by which a site's scheduler is found, beside the sources.
SITE = "site.json"
#: Names that users have given to files.
_ODD = (
    "-x.png",
    "a b.png",
    "ü\u0308ß.png",
    "new\nline.png",
    "q\"u'o,te.png",
    "#frag?ment.png",
    "%41.png",
    "*[a].png",
    "日本.png",
)
_HERE = ("--scheduler", "in-process")
_LOCAL = ("--scheduler", "local", "--workers", "2")
SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject("process", _process("stills", *_HERE)),
        Subject("videos", _process("films", *_HERE)),
        Subject("fit", lambda base, out: ["fit", str(base / "labels.parquet"), str(out), "--quiet"]),
        Subject("synth-videos", _synth),
        Subject("render", _of_run("render")),
        Subject("export", _of_run("export")),
        Subject("to-webdataset", _of_run("to-webdataset")),
        Subject("process, odd names", _process("odd", *_HERE)),
        Subject("process, local workers", _process("stills", *_LOCAL), local=True),
        Subject("process, a site's cluster", _on_site, twin="process"),
    )
}


def portrait(number: int) -> np.ndarray:
    """A photograph with one face (H, W, 3), BGR, each number another."""
    image = skimage.data.astronaut()[: 320 - 3 * number, 60 - 2 * number : 380 - 5 * number, ::-1]
    return cv2.resize(np.ascontiguousarray(image), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)


def make_sources(base: Path) -> None:
    """Write what the runs are made from: stills of which one is none, fewer of them, and films."""
    for folder, n in (("stills", _STILLS), ("few", 4)):
        (base / folder).mkdir(parents=True)
        for i in range(n):
            cv2.imwrite(str(base / folder / f"p{i:02d}.png"), portrait(i))
    (base / "stills" / "none.png").write_bytes(b"no picture")
    (base / "odd").mkdir()
    for i, name in enumerate(_ODD):
        cv2.imwrite(str(base / "few.png"), portrait(i))
        (base / "few.png").rename(base / "odd" / name)
    (base / "films").mkdir()
    for i in range(_FILMS):
        _write_film(base / "films" / f"f{i}.mp4", i)


def _write_film(path: Path, number: int) -> None:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = _SIDE, _SIDE, "yuv420p"
        for i in range(_FRAMES):
            image = np.ascontiguousarray(np.roll(portrait(number), i, 1))
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        file.mux(stream.encode(None))


def make_references(base: Path, names: list[str]) -> dict[str, float]:
    """Do each run undisturbed; seconds that it took. The first loads in this process what its forks then have."""
    ddfa_batch.Pipeline("builtin")(portrait(0))
    seconds = {"process": _reference(base, SUBJECTS["process"])}
    faces = ddfa_batch.open(base / "process").faces(columns=["key", "landmarks68"])
    pq.write_table(pa.table({"key": faces["key"], "pts68": _flat(faces)}), base / "labels.parquet")
    for subject in (SUBJECTS[name] for name in names if name != "process"):
        seconds[subject.name] = 3 * seconds["process"] if subject.twin else _reference(base, subject)
    return seconds


def _flat(faces: pa.Table) -> pa.Array:
    points = np.array(faces["landmarks68"].to_pylist(), np.float64).reshape(len(faces), 68, 3)[..., :2]
    return pa.FixedSizeListArray.from_arrays(points.ravel(), 136)


def _reference(base: Path, subject: Subject) -> float:
    began = time.monotonic()
    started = subject.start(base, base / subject.name)
    if code := started.wait(2 * subject.limit):
        raise RuntimeError(f"the undisturbed run of {subject.name} ended with {code}: {started.words()}")
    return time.monotonic() - began
