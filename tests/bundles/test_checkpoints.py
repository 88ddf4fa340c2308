"""Untrusted checkpoints and pickles: read without running, and every fault named."""

from __future__ import annotations

import io
import os
import pickle
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import upstream_files
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from ddfa_batch.schemas.errors import BundleError, UnsafeFileError
from ddfa_batch.tasks.bundles import checkpoints, official_release
from ddfa_batch.tasks.bundles.checkpoints import read_arrays
from ddfa_batch.tasks.bundles.loaded_model import load_morphable, loaded_model
from ddfa_batch.tasks.bundles.pickle_bounds import refuse_excess
from ddfa_batch.tasks.files.checksums import sha256

RNG = np.random.default_rng(9)
WEIGHTS = {"a.weight": RNG.normal(size=(3, 4)).astype(np.float32), "b": np.arange(5, dtype=np.float32)}


@pytest.mark.parametrize("save", [upstream_files.legacy_checkpoint, upstream_files.zip_checkpoint])
def test_both_formats_of_torch_give_their_arrays(tmp_path: Path, save: Callable[..., bytes]) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(save(WEIGHTS, "module."))
    found = read_arrays(path)
    assert set(found) == {"module.a.weight", "module.b"}
    np.testing.assert_array_equal(found["module.a.weight"], WEIGHTS["a.weight"])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_arrays(tmp_path: Path, protocol: int) -> None:
    content = {
        "u": np.arange(6.0).reshape(3, 2),
        "nested": {"i": np.arange(4, dtype=np.int64)},
        "fortran": np.asfortranarray(RNG.normal(size=(3, 5))),
    }
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    found = read_arrays(path)
    np.testing.assert_array_equal(found["u"], content["u"])
    np.testing.assert_array_equal(found["nested.i"], np.arange(4))
    np.testing.assert_array_equal(found["fortran"], content["fortran"])


class Attack:
    """Pickles as a call of anything."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def attacks(witness: Path) -> dict[str, object]:
    command = f"touch {witness}"
    return {
        "os.system": Attack(os.system, command),
        "eval": Attack(eval, f"__import__('os').system('{command}')"),
        "getattr": Attack(getattr, "", "join"),
        "open": Attack(open, str(witness), "w"),
        "numpy loader": Attack(np.load, str(witness)),
        "object array": np.array([Attack(os.system, command)], dtype=object),
        "inside a dict": {"u": Attack(os.system, command)},
    }


@pytest.mark.parametrize("name", attacks(Path("x")))
@pytest.mark.parametrize("wrapped", ["bare", "in a torch zip"])
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, name: str, wrapped: str) -> None:
    witness, path = tmp_path / "it-ran", tmp_path / "evil.pkl"
    raw = pickle.dumps(attacks(witness)[name])
    if wrapped == "in a torch zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", raw)
        raw = buffer.getvalue()
    path.write_bytes(raw)
    with pytest.raises(BundleError, match=r"evil\.pkl was refused") as fault:
        read_arrays(path)
    assert isinstance(fault.value, UnsafeFileError)
    assert not witness.exists()


def test_the_attack_is_a_real_one(tmp_path: Path) -> None:
    """The test above would mean nothing if the pickle did not run where it is trusted."""
    witness = tmp_path / "it-ran"
    pickle.loads(pickle.dumps(attacks(witness)["os.system"]))
    assert witness.exists()


@pytest.mark.parametrize("save", [upstream_files.legacy_checkpoint, upstream_files.zip_checkpoint])
def test_every_truncation_is_an_error_that_names_the_file(tmp_path: Path, save: Callable[..., bytes]) -> None:
    raw, path = save(WEIGHTS, ""), tmp_path / "short.pth"
    for length in range(0, len(raw) - 1, 7):
        path.write_bytes(raw[:length])
        with pytest.raises(BundleError, match=r"short\.pth"):
            read_arrays(path)


@given(position=st.integers(0, 10**6), value=st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_a_flipped_byte_gives_arrays_or_a_named_error(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    raw = bytearray(upstream_files.legacy_checkpoint(WEIGHTS, ""))
    raw[position % len(raw)] = value
    path = tmp_path_factory.getbasetemp() / "flipped.pth"
    path.write_bytes(raw)
    try:
        found = read_arrays(path)
    except BundleError as fault:
        assert "flipped.pth" in str(fault)
    else:
        assert all(isinstance(a, np.ndarray) and a.dtype != object for a in found.values())


@pytest.mark.parametrize("wrapped", ["bare", "in a torch zip"])
def test_five_bytes_cannot_ask_for_all_memory(tmp_path: Path, wrapped: str) -> None:
    """LONG_BINPUT 4,294,967,295: Python would make a table of that many entries."""
    raw, path = b"\x80\x02K\x01r\xff\xff\xff\xff.", tmp_path / "greedy.pkl"
    if wrapped != "bare":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", raw)
        raw = buffer.getvalue()
    path.write_bytes(raw)
    with pytest.raises(UnsafeFileError, match="numbers an object 4294967295"):
        read_arrays(path)


def test_a_tensor_cannot_reach_beyond_its_storage(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    raw = upstream_files.legacy_checkpoint({"a": np.arange(4, dtype=np.float32)})
    # the tensor's size (4,) and the storage's 4 numbers are both BININT1 4; make the size 200
    at = raw.index(b"K\x04\x85")
    path.write_bytes(raw[:at] + b"K\xc8\x85" + raw[at + 3 :])
    with pytest.raises(BundleError, match="beyond its storage"):
        read_arrays(path)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return upstream_files.checkout(tmp_path_factory.mktemp("checkout") / "3DDFA_V2")


def test_a_checkout_becomes_a_bundle_that_loads(checkout: Path, tmp_path: Path) -> None:
    assert official_release.available_weights(checkout) == ["mb05"]
    bundle = official_release.import_3ddfa_v2(checkout, "mb05", tmp_path / "mine")
    model = loaded_model(str(bundle.folder), bundle.digest)
    assert bundle.manifest.layout.size == 62
    assert model.morphable.topology == "bfm_noneck_v3"
    (out,) = model.regressor.run(None, {"input": np.zeros((3, 3, 120, 120), np.float32)})
    assert out.shape == (3, 62)
    a, b, c = (model.morphable.mean[model.morphable.triangles[:, i]] for i in range(3))
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()
    assert bundle.manifest.files["regressor.onnx"] == sha256(bundle.folder / "regressor.onnx")


@pytest.mark.parametrize(
    "file",
    [
        "weights/mb05_120x120.pth",
        "FaceBoxes/weights/FaceBoxesProd.pth",
        "configs/bfm_noneck_v3.pkl",
        "configs/param_mean_std_62d_120x120.pkl",
    ],
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "another network", "malicious"])
def test_a_damaged_checkout_names_the_file_and_leaves_nothing(tmp_path: Path, file: str, damage: str) -> None:
    folder = upstream_files.checkout(tmp_path / "3DDFA_V2")
    path = folder / file
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "malicious":
        path.write_bytes(pickle.dumps(Attack(os.system, f"touch {tmp_path / 'it-ran'}")))
    else:
        path.write_bytes(upstream_files.legacy_checkpoint(WEIGHTS))
    with pytest.raises(BundleError) as fault:
        official_release.import_3ddfa_v2(folder, "mb05", tmp_path / "models" / "mine")
    assert path.name in str(fault.value)
    assert not (tmp_path / "it-ran").exists()
    assert not list((tmp_path / "models").glob("*")) if (tmp_path / "models").exists() else True


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is it a checkout of 3DDFA_V2"):
        official_release.available_weights(tmp_path)
    with pytest.raises(BundleError, match="is not a folder"):
        official_release.available_weights(tmp_path / "nothing")


def doubled(levels: int, begin: bytes, twice: bytes) -> bytes:
    """A pickle of `levels` objects, each of which holds the one before twice; 2^levels members for whoever counts."""
    return b"\x80\x02" + begin + twice * levels


COSTLY = {
    # t = (t, t), thirty-three times: its hash, as a key, and its text take hours
    "a key": doubled(33, b")", b"2\x86").replace(b"\x80\x02", b"\x80\x02}", 1) + b"K\x01s.",
    "a storage's key": b"\x80\x02(X\x07\x00\x00\x00storageK\x01" + doubled(33, b")", b"2\x86")[2:] + b"K\x01K\x01tQ.",
    "a dtype": b"\x80\x02cnumpy\ndtype\n" + doubled(33, b")", b"2\x86")[2:] + b"\x85R.",
    # d = {"a": d, "b": d}, thirty-three times
    "dicts": b"\x80\x02}q\x00" + b"".join(b"}q%c(U\x01ah%cU\x01bh%cu" % (i + 1, i, i) for i in range(33)) + b".",
    # a tuple within a tuple a hundred thousand times
    "depth": b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s.",
    "instructions": b"\x80\x02" + b"N0" * 150_000 + b"N.",
    "an empty stack": b"\x80\x02\x86.",
    "no mark": b"\x80\x02K\x01t.",
    "keys that are tuples": pickle.dumps({(1, 2): 3}, 2),
}


@pytest.mark.parametrize("what", COSTLY)
@pytest.mark.parametrize("wrapped", ["stream", "zip"])
def test_a_small_file_cannot_ask_for_hours(tmp_path: Path, what: str, wrapped: str) -> None:
    path = tmp_path / "costly.pth"
    if wrapped == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("w/data.pkl", COSTLY[what])
    else:
        path.write_bytes(COSTLY[what])
    started = time.perf_counter()
    with pytest.raises(BundleError, match=r"costly\.pth (was refused|is truncated or damaged)"):
        read_arrays(path)
    assert time.perf_counter() - started < 30


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_the_walk_understands_what_pickle_writes(protocol: int) -> None:
    shared = (1, "a", b"b", 2.5, None, True, 10**30)
    content = [{"x": shared, "y": [shared, {shared: {1, 2}}]}, frozenset({3}), bytearray(b"z"), OrderedDict(a=shared)]
    file = io.BytesIO(pickle.dumps(content, protocol) + b"rest")
    refuse_excess(file)
    assert file.tell() == 0


@pytest.mark.parametrize("kind", [">i4", "?", "<f8", "u1"])
def test_arrays_of_every_number_come_back(tmp_path: Path, kind: str) -> None:
    array = np.array([[0, 1, 2]]).astype(kind)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(array, 2))
    found = read_arrays(tmp_path / "a.pkl")[""]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("array", [np.array([{}], object), np.zeros(2, "f4,i4"), np.array(["text"])])
def test_arrays_that_are_no_numbers_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(array, 2))
    with pytest.raises(UnsafeFileError, match="not plain numbers"):
        read_arrays(tmp_path / "a.pkl")


def test_a_state_dict_is_taken_out_of_what_surrounds_it(tmp_path: Path) -> None:
    content = {"epoch": 3, "state_dict": {"w": np.arange(3.0)}, "optimizer": {"lr": np.ones(1)}}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, 2))
    assert list(read_arrays(tmp_path / "a.pkl")) == ["w"]


def test_what_is_not_there_or_far_too_large_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BundleError, match=r"a\.pkl does not exist"):
        read_arrays(tmp_path / "a.pkl")
    monkeypatch.setattr(checkpoints, "MAX_BYTES", 1 << 20)
    (tmp_path / "a.pkl").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(BundleError, match="more than 1 MiB"):
        read_arrays(tmp_path / "a.pkl")
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", bytes((1 << 20) + 1))
    with pytest.raises(BundleError, match="unpacks to more than 1 MiB"):
        read_arrays(tmp_path / "bomb.pth")


def with_texture(folder: Path) -> Path:
    """A checkout that also has UV coordinates of a larger mesh, the indices into it, and a coordinate code."""
    made = upstream_files.checkout(folder)
    v = len(read_arrays(made / "configs/bfm_noneck_v3.pkl")["u"]) // 3
    savemat(made / "configs/BFM_UV.mat", {"UV": np.linspace(0, 1, 2 * (v + 5)).reshape(-1, 2)})
    np.save(made / "configs/indices.npy", np.arange(5, v + 5))
    np.save(made / "configs/ncc_code.npy", np.linspace(0, 1, 3 * v).reshape(3, v))
    return made


def test_uv_and_the_coordinate_code_come_along(tmp_path: Path) -> None:
    bundle = official_release.import_3ddfa_v2(with_texture(tmp_path / "checkout"), "mb05", tmp_path / "models/a")
    model = load_morphable(bundle)
    assert model.uv is not None
    assert model.ncc is not None
    assert (model.uv.shape, model.ncc.shape) == ((model.n_vertices, 2), (model.n_vertices, 3))
    assert model.uv[0, 0] > 0  # the sixth of the larger mesh


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("BFM_UV.mat", b"no", "BFM_UV.mat cannot be read"),
        ("indices.npy", b"no", "BFM_UV.mat cannot be read"),
        ("indices.npy", np.arange(3), "UV of shape"),
        ("indices.npy", np.arange(10**6), "BFM_UV.mat cannot be read"),
        ("ncc_code.npy", b"no", "ncc_code.npy cannot be read"),
        ("ncc_code.npy", np.zeros((3, 2)), "ncc_code.npy has a code of shape"),
    ],
)
def test_damaged_textures_are_named(tmp_path: Path, file: str, content: bytes | np.ndarray, said: str) -> None:
    made = with_texture(tmp_path / "checkout")
    if isinstance(content, bytes):
        (made / "configs" / file).write_bytes(content)
    else:
        np.save(made / "configs" / file, content)
    with pytest.raises(BundleError, match=said):
        official_release.import_3ddfa_v2(made, "mb05", tmp_path / "models/a")
