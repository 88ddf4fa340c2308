"""What a run writes down of itself: `run.json`, and a receipt for every finished shard."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ddfa_batch.schemas.decoding import Document, decode_object, take_version, typed

#: The format `run.json` is written in, and those that can be read.
RUN_FORMAT, RUN_FORMAT_VERSION = "ddfa-batch run", 1
READABLE = range(1, RUN_FORMAT_VERSION + 1)


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
class RunRecord:
    """What `run.json` says. Two runs with an equal `identity` write the same tables."""

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
    #: Inputs of a shard; the last one may have fewer.
    shard_size: int
    #: Everything that decides the tables: version, model, a hash of the inputs, every option.
    identity: dict[str, Any]
    #: The model it was planned with.
    model: RunModel
    #: What the user was told of the inputs.
    notes: list[str]

    def __post_init__(self) -> None:
        if self.n_inputs < 1 or self.shard_size < 1:
            raise ValueError("n_inputs and shard_size are at least 1")
        if not isinstance(self.identity.get("options"), dict):
            raise TypeError("identity has no options")

    @property
    def n_shards(self) -> int:
        """How many shards the inputs are cut into."""
        return -(-self.n_inputs // self.shard_size)

    @property
    def options(self) -> dict[str, Any]:
        """The command's options, by name."""
        options: dict[str, Any] = self.identity["options"]
        return options

    def as_json(self) -> dict[str, Any]:
        """The content of `run.json`."""
        fields = {name: getattr(self, name) for name in RunRecord.__annotations__}
        return {"format": RUN_FORMAT, "format_version": RUN_FORMAT_VERSION, **fields, "model": asdict(self.model)}


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


def decode_run(raw: bytes, document: Document) -> RunRecord:
    """The record that the bytes of a `run.json` hold; raises the document's error."""
    content = decode_object(raw, document)
    take_version(content, RUN_FORMAT, READABLE, document)
    return typed(content, RunRecord, document)
