"""The one place where persisted JSON (`model.json`, `run.json`, receipts …) becomes typed objects, and is written."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from ddfa_batch.schemas.errors import DdfaError

T = TypeVar("T")

#: Bytes above which a JSON file is not one that the project wrote; the largest it writes has some 100 kB.
MAX_JSON_BYTES = 16 << 20
#: Bits of the largest whole number, its sign aside; Python and JSON would take more, arrays and tables do not.
_MOST_BITS = 63


@dataclasses.dataclass(frozen=True)
class Document:
    """Where a JSON text comes from, for the sentences about what is wrong with it."""

    #: The file's name as the user knows it; it begins every sentence.
    source: str
    #: What is raised.
    error: type[DdfaError]
    #: What the user can do about a damaged file; it ends every sentence.
    remedy: str

    def fault(self, what: str) -> DdfaError:
        """The exception that says `what` is wrong with the file."""
        return self.error(f"{self.source} {what}; {self.remedy}.")


def encode_json(content: Any) -> str:
    """The text of a persisted JSON file; raises ValueError for NaN and infinity, which JSON does not know."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def decode_json(raw: bytes, kind: type[T], document: Document) -> T:
    """The object of the dataclass `kind` that the JSON text `raw` holds.

    Types are not coerced, but for whole numbers where a float is asked for. Raises the document's error, naming the
    key, for invalid JSON (NaN, infinity and numbers beyond float64 included), for wrong types, for keys that are
    missing or unknown, and for a ValueError or TypeError of the dataclass's own check.
    """
    return typed(decode_object(raw, document), kind, document)


def decode_object(raw: bytes, document: Document) -> dict[str, Any]:
    """The JSON object that `raw` holds, not yet typed: what a migration of old versions works on."""
    if len(raw) > MAX_JSON_BYTES:
        raise document.fault(f"has {len(raw):,} bytes, far too many")
    try:
        content = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise document.fault(f"is not valid JSON ({fault})") from None
    if not isinstance(content, dict):
        raise document.fault("holds no JSON object")
    return content


def take_version(content: dict[str, Any], format_name: str, versions: range, document: Document) -> int:
    """Remove `format` and `format_version` from `content` and return the version, one of `versions`."""
    if content.pop("format", None) != format_name:
        raise document.fault(f"is not of the format '{format_name}'")
    version = content.pop("format_version", None)
    if type(version) is not int or version not in versions:
        known = " to ".join(map(str, sorted({versions[0], versions[-1]})))
        raise document.fault(f"has format version {version!r}, and this ddfa-batch reads version {known}")
    return version


def typed(content: dict[str, Any], kind: type[T], document: Document) -> T:
    """The object of the dataclass `kind` made of decoded JSON; raises as `decode_json`."""
    try:
        made: T = _convert(content, kind, "")
    except msgspec.ValidationError as fault:
        raise document.fault(str(fault)) from None
    return made


def _convert(value: Any, kind: Any, key: str) -> Any:
    """`value` as a `kind`. Dataclasses and dicts are walked here, so faults name the key; the rest is msgspec's."""
    kind = _not_none(value, kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(value, kind, key)
    if typing.get_origin(kind) is dict and isinstance(value, dict):
        _, of = typing.get_args(kind)
        return {name: _convert(item, of, _below(key, name)) for name, item in value.items()}
    if typing.get_origin(kind) is tuple and isinstance(value, list) and dataclasses.is_dataclass(_first(kind)):
        return tuple(_convert(item, _first(kind), _below(key, str(i))) for i, item in enumerate(value))
    try:
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise OverflowError("Expected a number of 64 bits")
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, OverflowError) as fault:
        raise msgspec.ValidationError(f"has a wrong '{key}' ({str(fault).replace('`', '')})") from None


def _dataclass(value: Any, kind: Any, key: str) -> Any:
    if not isinstance(value, dict):
        raise msgspec.ValidationError(f"has a wrong '{key}' (Expected object, got {type(value).__name__})")
    hints, required = _fields(kind)
    if unknown := [name for name in value if name not in hints]:
        raise msgspec.ValidationError(f"has an unknown key '{_below(key, unknown[0])}'")
    if missing := [name for name in required if name not in value]:
        raise msgspec.ValidationError(f"has no '{_below(key, missing[0])}'")
    made = {name: _convert(item, hints[name], _below(key, name)) for name, item in value.items()}
    try:
        return kind(**made)
    except (TypeError, ValueError) as fault:
        what = f"has a wrong '{key}'" if key else "does not hold together"
        raise msgspec.ValidationError(f"{what} ({str(fault).rstrip('.')})") from None


@lru_cache(maxsize=64)
def _fields(kind: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Types of a dataclass's fields by name, and the names without a default."""
    hints = typing.get_type_hints(kind)
    fields = [field for field in dataclasses.fields(kind) if field.init]
    none = dataclasses.MISSING
    required = tuple(f.name for f in fields if f.default is none and f.default_factory is none)
    return {field.name: hints[field.name] for field in fields}, required


def _not_none(value: Any, kind: Any) -> Any:
    """The one alternative of `X | None` for a value that is there; any other type as it is."""
    if value is None or typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return kind
    others = [part for part in typing.get_args(kind) if part is not types.NoneType]
    return others[0] if len(others) == 1 else kind


def _first(kind: Any) -> Any:
    """The first type a generic one is of."""
    return typing.get_args(kind)[0]


def _below(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
