"""Pictures in tars and ZIPs: found once, read by offset, whatever the archive claims."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import packed_pictures
import pytest

from ddfa_batch.schemas.errors import ERROR_KINDS, ImageError, InputError
from ddfa_batch.tasks.files.input_reader import read_input, read_sample
from ddfa_batch.tasks.files.inputs import Ignored, Input, SourceOptions, list_inputs, resolve_sources

FILES = {"a/1.jpg": b"first" * 300, "a/1.json": b'{"caption": "one"}', "2.PNG": b"second", "notes.txt": b"x"}


def inputs(*names: object, **options: bool) -> list[Input]:
    source = resolve_sources([str(name) for name in names], SourceOptions(**options))  # type: ignore[arg-type]
    return list(list_inputs(source, Path("/nowhere"), Ignored()))


def contents(items: list[Input]) -> dict[str, bytes | str]:
    """What reading gives: bytes, or the kind of the fault."""
    found: dict[str, bytes | str] = {}
    for item in items:
        try:
            found[item.key] = read_input("/nowhere", item)
        except ImageError as fault:
            assert fault.kind in ERROR_KINDS
            found[item.key] = fault.kind
    return found


@pytest.fixture(params=["tar", "ustar", "gnu", "zip", "stored"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """FILES in an archive of each form."""
    if request.param in ("zip", "stored"):
        method = zipfile.ZIP_STORED if request.param == "stored" else zipfile.ZIP_DEFLATED
        return packed_pictures.zipped(tmp_path / "all.zip", FILES, method)
    form = {"tar": tarfile.PAX_FORMAT, "ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT}[request.param]
    return packed_pictures.tar(tmp_path / "all.tar", FILES, form)


def test_members_that_are_pictures_by_name_are_inputs(archive: Path) -> None:
    found = contents(inputs(archive))
    assert found == {f"{archive.name}#a/1.jpg": FILES["a/1.jpg"], f"{archive.name}#2.PNG": FILES["2.PNG"]}


def test_other_members_are_counted(archive: Path) -> None:
    ignored = Ignored()
    list(list_inputs(resolve_sources([str(archive)]), Path("/nowhere"), ignored))
    assert ignored.by_suffix == Counter({".json": 1, ".txt": 1})


def test_the_samples_json_is_found_on_request(archive: Path) -> None:
    assert [read_sample(item) for item in inputs(archive, sample_json=True)] == ['{"caption": "one"}', None]
    assert [read_sample(item) for item in inputs(archive)] == [None, None]


@pytest.mark.parametrize("text", [b"\xff\xfe", b" " * (1 << 20) + b"{}"])
def test_a_json_that_is_no_text_or_too_long_is_left_out(tmp_path: Path, text: bytes) -> None:
    path = packed_pictures.tar(tmp_path / "all.tar", {"1.jpg": b"x", "1.json": text})
    assert [read_sample(item) for item in inputs(path, sample_json=True)] == [None]


def test_long_and_foreign_names_are_kept(tmp_path: Path) -> None:
    names = ["d/" * 60 + "long.jpg", "é ü.jpg", "caf\udce9.png"]
    path = packed_pictures.tar(tmp_path / "all.tar", {name: name.encode("utf-8", "replace") for name in names})
    keys = [item.key.partition("#")[2] for item in inputs(path)]
    assert keys == [names[0], names[1], "caf\\xe9.png"]
    assert len(contents(inputs(path))) == 3


def test_a_name_that_climbs_out_is_only_a_key(tmp_path: Path) -> None:
    names = {"../../etc/passwd.jpg": b"up", "/etc/shadow.png": b"root", "./plain.jpg": b"dot"}
    for path in (packed_pictures.tar(tmp_path / "t.tar", names), packed_pictures.zipped(tmp_path / "z.zip", names)):
        assert list(contents(inputs(path)).values()) == [b"up", b"root", b"dot"]
        assert inputs(path)[2].key.endswith("#plain.jpg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.tar", "z.zip"]


def test_a_name_that_stands_twice_gives_two_inputs(tmp_path: Path) -> None:
    path = packed_pictures.tar(tmp_path / "t.tar", [("1.jpg", b"a"), ("1.jpg", b"b"), ("1.jpg#2", b"-")])
    assert contents(inputs(path)) == {"t.tar#1.jpg": b"a", "t.tar#1.jpg#2": b"b"}


def test_hidden_members_and_links_are_no_inputs(tmp_path: Path) -> None:
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in (("._1.jpg", tarfile.REGTYPE), ("to.jpg", tarfile.SYMTYPE), ("d.jpg", tarfile.DIRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    assert inputs(path) == []


def test_an_empty_member_is_an_error_of_its_own(tmp_path: Path) -> None:
    path = packed_pictures.tar(tmp_path / "t.tar", {"1.jpg": b"", "2.jpg": b"x"})
    assert contents(inputs(path)) == {"t.tar#1.jpg": "empty", "t.tar#2.jpg": b"x"}


def test_a_tar_cut_anywhere_keeps_what_is_whole(tmp_path: Path) -> None:
    files = {f"{i}.jpg": bytes([i]) * 700 for i in range(1, 4)}
    whole = packed_pictures.tar(tmp_path / "whole.tar", files).read_bytes()
    cut = tmp_path / "cut.tar"
    for length in range(512, 3 * 1536, 100):
        cut.write_bytes(whole[:length])
        found = contents(inputs(cut))
        complete = [name for i, name in enumerate(files) if length >= i * 1536 + 512 + 700]
        assert [key.partition("#")[2] for key, data in found.items() if isinstance(data, bytes)] == complete
        if length % 1536 not in (0, *range(1212, 1537)):
            assert found["cut.tar#(damaged)"] == "truncated"


def test_a_header_damaged_in_the_middle_is_told(tmp_path: Path) -> None:
    path = packed_pictures.tar(tmp_path / "t.tar", {f"{i}.jpg": b"x" * 100 for i in range(3)})
    raw = bytearray(path.read_bytes())
    raw[1024:1034] = b"\xff" * 10
    path.write_bytes(raw)
    assert contents(inputs(path)) == {"t.tar#0.jpg": b"x" * 100, "t.tar#(damaged)": "truncated"}


def _announcing(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo("big.jpg")
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(("size", "kind"), [(2 << 30, "too_large"), (1 << 40, "too_large"), (1 << 20, "truncated")])
def test_bytes_that_are_announced_and_absent_are_an_error(tmp_path: Path, size: int, kind: str) -> None:
    (tmp_path / "t.tar").write_bytes(_announcing(size) + b"few")
    assert contents(inputs(tmp_path / "t.tar")) == {"t.tar#big.jpg": kind, "t.tar#(damaged)": "truncated"}


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_header_that_announces_gigabytes_is_not_read(tmp_path: Path, kind: bytes) -> None:
    with (tmp_path / "t.tar").open("wb") as file:
        file.write(_announcing(3, tarfile.REGTYPE) + b"abc" + bytes(509) + _announcing(2 << 30, kind))
        file.truncate(3 << 30)  # a hole: it is there, and takes no disk
    begun = time.perf_counter()
    assert contents(inputs(tmp_path / "t.tar")) == {"t.tar#big.jpg": b"abc", "t.tar#(damaged)": "truncated"}
    assert time.perf_counter() - begun < 5


def test_a_size_below_zero_does_not_go_round_in_circles(tmp_path: Path) -> None:
    header = bytearray(_announcing(0))
    header[124:136] = b"\xff" * 10 + struct.pack(">h", -1024)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "t.tar").write_bytes(_announcing(3) + b"abc" + bytes(509) + bytes(header) + bytes(1024))
    assert list(contents(inputs(tmp_path / "t.tar")))[-1] == "t.tar#(damaged)"


def test_a_chain_of_headers_is_an_error_and_no_crash(tmp_path: Path) -> None:
    name = _announcing(4, tarfile.GNUTYPE_LONGNAME) + b"abc\0" + bytes(508)
    (tmp_path / "t.tar").write_bytes(_announcing(3) + b"abc" + bytes(509) + name * 5000)
    assert list(contents(inputs(tmp_path / "t.tar")).values()) == [b"abc", "truncated"]


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_a_compressed_tar_is_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / f"t.tar.{mode}"
    with tarfile.open(path, f"w:{mode}") as archive:  # type: ignore[call-overload]
        archive.addfile(tarfile.TarInfo("1.jpg"))
    with pytest.raises(InputError, match=r"compressed tar .*decompress it first"):
        inputs(path)


@pytest.mark.parametrize("data", [b"", b"no archive at all" * 100, b"\xff" * 3000])
@pytest.mark.parametrize("suffix", [".tar", ".zip"])
def test_what_is_no_archive_is_refused(tmp_path: Path, suffix: str, data: bytes) -> None:
    (tmp_path / f"a{suffix}").write_bytes(data)
    with pytest.raises(InputError, match=rf"a{suffix} is no readable"):
        inputs(tmp_path / f"a{suffix}")


def test_a_zip_that_is_cut_off_has_no_directory(tmp_path: Path) -> None:
    path = packed_pictures.zipped(tmp_path / "a.zip", FILES)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="its directory, at the end, is missing or damaged"):
        inputs(path)


def _damaged_zip(path: Path, where: str) -> Path:
    """A ZIP of three members, the second of which is damaged."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(3):
            archive.writestr(f"{i}.jpg", os.urandom(2000))
        entry = archive.infolist()[1]
    raw = bytearray(path.read_bytes())
    record = raw.index(b"1.jpg", raw.index(b"PK\x01\x02")) - 46
    if where == "data":
        raw[entry.header_offset + 200] ^= 0xFF
    elif where == "header":
        raw[entry.header_offset : entry.header_offset + 4] = b"none"
    elif where == "size":
        struct.pack_into("<I", raw, record + 24, 2 << 30)
    elif where == "compressed":
        struct.pack_into("<I", raw, record + 20, 1 << 24)
    elif where == "method":
        struct.pack_into("<H", raw, record + 10, 97)
    elif where == "encrypted":
        struct.pack_into("<H", raw, record + 8, 1)
    elif where == "bomb":
        struct.pack_into("<I", raw, record + 24, 10)
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("data", "unreadable"),
        ("header", "unreadable"),
        ("size", "too_large"),
        ("compressed", "truncated"),
        ("method", "unreadable"),
        ("encrypted", "unreadable"),
        ("bomb", "unreadable"),
    ],
)
def test_a_damaged_member_of_a_zip_is_one_error(tmp_path: Path, where: str, kind: str) -> None:
    found = contents(inputs(_damaged_zip(tmp_path / "a.zip", where)))
    assert found["a.zip#1.jpg"] == kind
    assert [len(found[f"a.zip#{i}.jpg"]) for i in (0, 2)] == [2000, 2000]


def test_an_archive_that_is_gone_or_shorter_is_an_error_of_each_member(tmp_path: Path) -> None:
    path = packed_pictures.tar(tmp_path / "t.tar", FILES)
    items = inputs(path)
    path.write_bytes(b"short")
    assert set(contents(items).values()) == {"truncated"}
    path.unlink()
    assert set(contents(items).values()) == {"missing"}
    path.mkdir()
    assert set(contents(items).values()) == {"unreadable"}


def test_an_archive_that_goes_before_it_is_listed_is_one_sentence(tmp_path: Path) -> None:
    source = resolve_sources([str(packed_pictures.tar(tmp_path / "t.tar", FILES))])
    (tmp_path / "t.tar").unlink()
    with pytest.raises(InputError, match=r"t.tar cannot be read \(No such file or directory\)"):
        list(list_inputs(source, Path("/nowhere"), Ignored()))


def test_a_zip_with_something_before_it_is_read(tmp_path: Path) -> None:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("1.jpg", b"picture")
    (tmp_path / "a.zip").write_bytes(b"#!/bin/sh\n" + memory.getvalue())
    assert contents(inputs(tmp_path / "a.zip")) == {"a.zip#1.jpg": b"picture"}
