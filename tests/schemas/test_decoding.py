"""Persisted JSON: what is accepted, and how what is not is told."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from ddfa_batch.schemas.decoding import (
    MAX_JSON_BYTES,
    Document,
    decode_json,
    decode_object,
    encode_json,
    take_version,
)
from ddfa_batch.schemas.errors import BundleError, RunFolderError, ShapeError

DOCUMENT = Document("out/run.json", RunFolderError, "start again with --overwrite")


@dataclass(frozen=True)
class Part:
    share: float
    sides: tuple[int, int] = (1, 2)


@dataclass(frozen=True)
class Whole:
    name: str
    count: int
    parts: dict[str, Part] = field(default_factory=dict)
    first: Part | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ShapeError("count must be 0 or more.")


def whole(text: str | bytes) -> Whole:
    return decode_json(text.encode() if isinstance(text, str) else text, Whole, DOCUMENT)


def test_a_text_becomes_the_object_it_describes() -> None:
    text = """{"name": "a", "count": 2, "parts": {"x": {"share": 1, "sides": [3, 4]}},
               "first": {"share": 0.5}, "notes": ["n"]}"""
    assert whole(text) == Whole("a", 2, {"x": Part(1.0, (3, 4))}, Part(0.5), ("n",))


def test_what_has_a_default_may_be_left_out() -> None:
    assert whole('{"name": "a", "count": 0, "first": null}') == Whole("a", 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"name": "a", "count": "2"}', "has a wrong 'count' (Expected int, got str)"),
        ('{"name": "a", "count": true}', "has a wrong 'count' (Expected int, got bool)"),
        ('{"name": "a", "count": 1.5}', "has a wrong 'count' (Expected int, got float)"),
        ('{"name": "a", "count": null}', "has a wrong 'count' (Expected int, got null)"),
        ('{"name": null, "count": 1}', "has a wrong 'name' (Expected str, got null)"),
        ('{"name": "a", "count": 1, "parts": []}', "has a wrong 'parts' (Expected object, got array)"),
        ('{"name": "a", "count": 1, "parts": {"x": 3}}', "has a wrong 'parts.x' (Expected object, got int)"),
        ('{"name": "a", "count": 1, "parts": {"x": {"share": "1"}}}', "has a wrong 'parts.x.share' (Expected"),
        ('{"name": "a", "count": 1, "first": {"share": 1, "sides": [1]}}', "has a wrong 'first.sides' (Expected array"),
        ('{"name": "a", "count": 1, "notes": [1]}', "has a wrong 'notes' (Expected str, got int - at $[0])"),
        ('{"name": "a", "count": 1, "first": {"share": 1, "colour": 2}}', "has an unknown key 'first.colour'"),
        ('{"name": "a", "count": 1, "cuont": 1}', "has an unknown key 'cuont'"),
        ('{"name": "a"}', "has no 'count'"),
        ('{"name": "a", "count": 1, "first": {}}', "has no 'first.share'"),
        ('{"name": "a", "count": -1}', "does not hold together (count must be 0 or more)"),
        ("[1, 2]", "holds no JSON object"),
        ("", "is not valid JSON ("),
        ('{"name": "a"', "is not valid JSON ("),
        ('{"name": "a", "count": 1, "first": {"share": NaN}}', "is not valid JSON ("),
        ('{"name": "a", "count": 1, "first": {"share": -Infinity}}', "is not valid JSON ("),
        ('{"name": "a", "count": 1, "first": {"share": 1e999}}', "is not valid JSON ("),
        ('{"name": "a", "count": 1' + "0" * 400 + "}", "has a wrong 'count' (Expected a number of 64 bits)"),
        ('{"name": "a", "count": 1, "first": {"share": 1' + "0" * 400 + "}}", "has a wrong 'first.share' (Expected"),
        (b'{"name": "\xff\xfe", "count": 1}', "is not valid JSON ("),
        ("[" * 100_000, "is not valid JSON ("),
        ('{"a":' * 100_000, "is not valid JSON ("),
        (b" " * (MAX_JSON_BYTES + 1), "far too many"),
    ],
)
def test_a_fault_is_one_sentence_that_names_file_key_and_remedy(text: str | bytes, said: str) -> None:
    with pytest.raises(RunFolderError) as fault:
        whole(text)
    assert str(fault.value).startswith("out/run.json ")
    assert said in str(fault.value)
    assert str(fault.value).endswith("; start again with --overwrite.")


def test_the_document_chooses_the_exception() -> None:
    with pytest.raises(BundleError, match=r"^m/model.json has no 'name'; import the model again\.$"):
        decode_json(b"{}", Whole, Document("m/model.json", BundleError, "import the model again"))


def test_the_version_is_taken_out_of_the_object() -> None:
    content = decode_object(b'{"format": "thing", "format_version": 2, "a": 1}', DOCUMENT)
    assert take_version(content, "thing", range(1, 3), DOCUMENT) == 2
    assert content == {"a": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"format": "other", "format_version": 2}', "is not of the format 'thing'"),
        (b'{"format_version": 2}', "is not of the format 'thing'"),
        (b'{"format": "thing", "format_version": 3}', "has format version 3, and this ddfa-batch reads version 1 to 2"),
        (b'{"format": "thing", "format_version": true}', "has format version True"),
        (b'{"format": "thing"}', "has format version None"),
    ],
)
def test_another_format_or_version_is_refused(text: bytes, said: str) -> None:
    with pytest.raises(RunFolderError, match=said):
        take_version(decode_object(text, DOCUMENT), "thing", range(1, 3), DOCUMENT)


def test_what_is_written_is_read_again() -> None:
    content = {"name": "ß", "count": 3}
    assert whole(encode_json(content)) == Whole("ß", 3)


def test_no_file_is_written_that_cannot_be_read() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_json({"share": float("nan")})
