"""Scans from .obj, .ply and .npz files, and what is none."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.files import scan_files
from ddfa_batch.tasks.files.scan_files import read_scan

POINTS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


def written(folder: Path, form: str) -> Path:
    path = folder / f"scan.{form.split('-', maxsplit=1)[0]}"
    if form == "obj":
        lines = [f"v {x} {y} {z}" for x, y, z in POINTS.astype(float)]
        path.write_text("\n".join(["# a scan", *lines, "vn 0 0 1", "vt 0 0", "f 1/1/1 2/1/1 3/1/1"]))
    elif form == "npz":
        np.savez(path, vertices=POINTS)
    elif form == "ply-ascii":
        head = "ply\nformat ascii 1.0\nelement vertex 7\nproperty float x\nproperty float y\nproperty float z\n"
        rows = "\n".join(" ".join(map(str, row)) for row in POINTS.astype(float))
        path.write_text(f"{head}element face 0\nend_header\n{rows}\n")
    else:
        order = "<" if form == "ply-little" else ">"
        kind = np.dtype([("x", f"{order}f4"), ("red", "u1"), ("y", f"{order}f4"), ("z", f"{order}f8")])
        table = np.zeros(7, kind)
        for axis, values in zip("xyz", POINTS.T, strict=True):
            table[axis] = values
        name = "little" if order == "<" else "big"
        head = (
            f"ply\nformat binary_{name}_endian 1.0\ncomment x\nelement vertex 7\nproperty float x\nproperty uchar red\n"
        )
        head += (
            "property float y\nproperty double z\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
        )
        path.write_bytes(head.encode() + table.tobytes() + b"\x03rest")
    return path


@pytest.mark.parametrize("form", ["obj", "npz", "ply-ascii", "ply-little", "ply-big"])
def test_the_vertices_come_back(tmp_path: Path, form: str) -> None:
    np.testing.assert_allclose(read_scan(written(tmp_path, form)), POINTS, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.obj", b"v 1 2\nv 3 4 5\n"),
        ("a.obj", b"nothing"),
        ("a.obj", b"v 1 2 nan\n"),
        ("a.ply", b"plx\n"),
        ("a.ply", b"ply\nformat ascii 1.0\nend_header\n"),
        ("a.ply", b"ply\nformat binary_little_endian 1.0\nelement vertex 99\nproperty float x\nend_header\n123"),
        ("a.ply", b"ply\nformat strange 1.0\nelement vertex 1\nproperty float x\nend_header\n1"),
        ("a.npz", b"PK\x03\x04 broken"),
        ("a.npz", b""),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nend_header\n1 2"),
        ("a.ply", b"ply\nelement face 1\nelement vertex 1\nend_header\n"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 1\n"),
        ("a.ply", b"\xff\xfe"),
        ("a.off", b"OFF\nnonsense"),
        ("a.stl", b""),
        ("a.txt", b"1 2 3"),
    ],
)
def test_what_is_no_scan_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        read_scan(tmp_path / name)


def test_pickled_arrays_are_not_executed(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", vertices=np.array([Path("x")], object))
    with pytest.raises(InputError, match="no scan"):
        read_scan(tmp_path / "a.npz")


def test_a_missing_scan_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        read_scan(tmp_path / "nowhere.obj")


@pytest.mark.parametrize("form", ["off", "stl", "glb"])
def test_trimesh_reads_other_formats(tmp_path: Path, form: str) -> None:
    trimesh = pytest.importorskip("trimesh")
    mesh = trimesh.Trimesh(POINTS, [[0, 1, 2], [3, 4, 5], [4, 5, 6]], process=False)
    mesh.export(tmp_path / f"scan.{form}")
    found = read_scan(tmp_path / f"scan.{form}")
    assert {tuple(point) for point in found.round(4)} == {tuple(point) for point in POINTS.astype(float).round(4)}


def test_without_trimesh_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trimesh", None)
    (tmp_path / "a.stl").write_bytes(b"solid")
    with pytest.raises(InputError, match=r"a\.stl needs trimesh"):
        read_scan(tmp_path / "a.stl")


def test_a_scan_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_files, "_MAX_BYTES", 10)
    with pytest.raises(InputError, match="too large"):
        read_scan(written(tmp_path, "obj"))
