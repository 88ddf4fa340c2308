"""What a run writes down of itself: `run.json`, and a receipt for every finished shard."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ddfa_batch.schemas.arrays import I64
from ddfa_batch.schemas.decoding import Document, decode_object, take_version, typed

#: The format `run.json` is written in, and those that can be read.
RUN_FORMAT, RUN_FORMAT_VERSION = "ddfa-batch run", 2
READABLE = range(1, RUN_FORMAT_VERSION + 1)
#: What `HistoryEntry.what` may be.
EXTENDED, RETRIED, MENDED, RENEWED = "extended", "retried", "mended", "renewed"


@dataclass(frozen=True)
class RunModel:
    """The model a run was planned with."""

    #: The bundle's name.
    name: str
    #: Where it lay then, absolute.
    folder: str
    #: The sha256 of its `model.json`, which identifies it wherever it lies.
    digest: str
    #: Its terms, one sentence.
    licence: str
    #: What its meshes are called.
    topology: str
    #: Vertices of a mesh.
    n_vertices: int


@dataclass(frozen=True)
class HistoryEntry:
    """What was done to a run after it was planned, besides finishing it; written before the work begins."""

    #: `EXTENDED`, `RETRIED`, `MENDED` or `RENEWED`.
    what: str
    #: When, UTC, ISO 8601.
    when: str
    #: Inputs that were taken up, or are done again.
    n_inputs: int
    #: The version of ddfa-batch that did it.
    version: str


@dataclass(frozen=True)
class RunRecord:
    """What `run.json` says. Two runs with an equal `identity` write the same tables, if neither was extended."""

    #: The command: process, synth-videos or fit.
    kind: str
    #: When it was planned, UTC, ISO 8601.
    created: str
    #: The folder that keys are relative to, absolute.
    root: str
    #: The inputs as they were named.
    source: str
    #: Inputs of the plan.
    n_inputs: int
    #: Inputs of a shard; the last one of each of `parts` may have fewer.
    shard_size: int
    #: Everything that decides the tables: version, model, a hash of the inputs, every option.
    identity: dict[str, Any]
    #: The model it was planned with.
    model: RunModel
    #: What the user was told of the inputs.
    notes: list[str]
    #: Inputs of the plan as it was made, then those of each extension: shards never reach from one into the next.
    parts: list[int] = field(default_factory=list)
    #: What was done since, oldest first.
    history: list[HistoryEntry] = field(default_factory=list)
    #: What the command was asked for, by the names of `--config`; nothing where Python asked, or an older version.
    asked: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.n_inputs < 1 or self.shard_size < 1:
            raise ValueError("n_inputs and shard_size are at least 1")
        if not self.parts:
            object.__setattr__(self, "parts", [self.n_inputs])
        if sum(self.parts) != self.n_inputs or min(self.parts) < 1:
            raise ValueError("parts are at least 1, and n_inputs together")
        if not isinstance(self.identity.get("options"), dict):
            raise TypeError("identity has no options")

    @property
    def n_shards(self) -> int:
        """How many shards the inputs are cut into."""
        return sum(-(-part // self.shard_size) for part in self.parts)

    def inputs_of(self, shard: int) -> range:
        """The image ids of a shard."""
        start = 0
        for part in self.parts:
            n_shards = -(-part // self.shard_size)
            if shard < n_shards:
                return range(start + shard * self.shard_size, start + min((shard + 1) * self.shard_size, part))
            shard, start = shard - n_shards, start + part
        raise IndexError("no such shard")

    def shards_of(self, image_ids: I64) -> I64:
        """The shards (N,) of image ids (N,); −1 for ids that no input has."""
        ids = np.asarray(image_ids, np.int64)
        shards = np.full(ids.shape, -1, np.int64)
        first = start = 0
        for part in self.parts:
            here = (ids >= start) & (ids < start + part)
            shards[here] = first + (ids[here] - start) // self.shard_size
            first, start = first - (-part // self.shard_size), start + part
        return shards

    @property
    def options(self) -> dict[str, Any]:
        """The command's options, by name."""
        options: dict[str, Any] = self.identity["options"]
        return options

    def as_json(self) -> dict[str, Any]:
        """The content of `run.json`."""
        fields = {name: getattr(self, name) for name in RunRecord.__annotations__}
        history = [asdict(entry) for entry in self.history]
        written = {**fields, "model": asdict(self.model), "history": history}
        return {"format": RUN_FORMAT, "format_version": RUN_FORMAT_VERSION, **written}


@dataclass(frozen=True)
class Receipt:
    """What one finished shard says of itself."""

    #: Which shard, from 0.
    shard: int
    #: Rows by table (images, faces …).
    rows: dict[str, int]
    #: Images without a face.
    no_face: int = 0
    #: Error rows by kind.
    errors: dict[str, int] = field(default_factory=dict)
    #: Bytes of every file written, or of all files below a folder; names are relative to the run.
    files: dict[str, int] = field(default_factory=dict)
    #: XXH3 (128 bits, hex) of the same; runs made before there were checksums have none.
    checksums: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.checksums and self.checksums.keys() != self.files.keys():
            raise ValueError("checksums are of the files, one each")


def decode_run(raw: bytes, document: Document) -> RunRecord:
    """The record that the bytes of a `run.json` hold; raises the document's error."""
    content = decode_object(raw, document)
    take_version(content, RUN_FORMAT, READABLE, document)
    return typed(content, RunRecord, document)
