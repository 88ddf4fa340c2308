"""Arrays out of untrusted pickles and torch checkpoints, without executing them.

A pickle is a program: loading one with `pickle.load` or an unrestricted `torch.load` can run anything. The
reader here answers every name a pickle asks for with an inert stand-in or an error, so the most a file can do
is describe arrays, whose sizes are checked against the bytes that are really there.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ddfa_batch.schemas.errors import BundleError, UnsafeFileError
from ddfa_batch.tasks.bundles.pickle_bounds import refuse_excess

Array = npt.NDArray[Any]

#: Larger pickles are refused before they are read; the largest file of a release has 25 MB.
MAX_BYTES = 1 << 30
#: Entries of all nested dicts of a checkpoint, and how deep they may lie in one another.
_MAX_ENTRIES, _MAX_DEPTH = 100_000, 32

_DTYPE = re.compile(r"[<>|=]?[fiub][1248]|\?")
_TORCH_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
#: First pickle of torch's format before 1.6.
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C


class _Dtype:
    """Stand-in for `numpy.dtype(code, align, copy)`."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            told = repr(code[:20]) if isinstance(code, str) else type(code).__name__
            raise UnsafeFileError(f"it holds an array of type {told}, not plain numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            self.dtype = self.dtype.newbyteorder(">")


class _Array:
    """Stand-in for `numpy.ndarray`, filled by `__setstate__` as numpy's own would be."""

    array: Array

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise UnsafeFileError("it holds an array that is not plain numbers")
        self.array = _shaped(np.frombuffer(data, dtype.dtype), shape, "F" if fortran else "C")


class _Storage:
    """One storage of a torch checkpoint; its numbers follow the pickle."""

    def __init__(self, code: str, numel: int) -> None:
        if numel < 0:
            raise BundleError(f"a storage has {numel} numbers")
        self.dtype, self.numel = np.dtype(code), numel
        self.data: Array | None = None


class _Tensor:
    """Stand-in for `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, …)`."""

    def __init__(self, storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> None:
        if not isinstance(storage, _Storage):
            raise UnsafeFileError("it holds a tensor without a plain storage")
        self.storage, self.offset = storage, int(offset)
        self.size, self.stride = tuple(map(int, size)), tuple(map(int, stride))

    def array(self) -> Array:
        data = self.storage.data
        if data is None or len(self.size) != len(self.stride):
            raise BundleError("a tensor's numbers are missing")
        if min((self.offset, *self.size, *self.stride)) < 0:
            raise BundleError("a tensor has a negative size or stride")
        if 0 in self.size:
            return np.empty(self.size, data.dtype)
        last = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        if last >= data.size or math.prod(self.size) > data.size:
            raise BundleError("a tensor reaches beyond its storage")
        strides = tuple(s * data.itemsize for s in self.stride)
        return np.lib.stride_tricks.as_strided(data[self.offset :], self.size, strides).copy()


def _shaped(flat: Array, shape: Any, order: Any) -> Array:
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise UnsafeFileError("it holds an array without a proper shape")
    if math.prod(shape) != flat.size:
        raise BundleError(f"an array of shape {shape} comes with {flat.size} numbers")
    return flat.reshape(shape, order=order).copy()


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> _Array:
    """Stand-in for `numpy._core.numeric._frombuffer`, with which protocol 5 writes arrays."""
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray) or order not in ("C", "F"):
        raise UnsafeFileError("it holds an array that is not plain numbers")
    made = _Array()
    made.array = _shaped(np.frombuffer(data, dtype.dtype), shape, order)
    return made


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _encode(text: Any, encoding: Any) -> bytes:
    """Stand-in for `_codecs.encode`, with which protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise UnsafeFileError("it holds bytes in an unknown encoding")
    return text.encode("latin1")


_NUMPY_NAMES: dict[str, Callable[..., Any]] = {
    "multiarray._reconstruct": _reconstruct,
    "numeric._frombuffer": _from_buffer,
    "dtype": _Dtype,
    "ndarray": _Array,
}


class _ArraysOnly(pickle.Unpickler):
    """Unpickler that knows arrays, tensors and the containers that hold them, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Answer a global with its stand-in, or refuse the file."""
        full = f"{module}.{name}"
        for prefix in ("numpy.core.", "numpy._core.", "numpy."):
            if full.startswith(prefix) and full.removeprefix(prefix) in _NUMPY_NAMES:
                return _NUMPY_NAMES[full.removeprefix(prefix)]
        if full == "collections.OrderedDict":
            return OrderedDict
        if full == "_codecs.encode":
            return _encode
        if full == "torch._utils._rebuild_tensor_v2":
            return _Tensor
        if full == "torch._utils._rebuild_parameter":
            return _parameter
        if module == "torch" and name in _TORCH_STORAGES:
            return _TORCH_STORAGES[name]
        raise UnsafeFileError(f"it asks for {full}, which is no array, and nothing of it was executed")

    storages: dict[str, _Storage]

    def persistent_load(self, pid: Any) -> _Storage:
        """Note a torch storage; `pid` is ("storage", type, key, location, numel, …)."""
        if not isinstance(pid, tuple) or len(pid) < 5 or not isinstance(pid[0], str) or pid[0] != "storage":
            raise UnsafeFileError("it refers to something that is not a storage")
        _, kind, key, _, numel, *_ = pid
        if not (isinstance(kind, str) and isinstance(key, str | int) and isinstance(numel, int)):
            raise UnsafeFileError("it refers to a storage that is not plain numbers")
        return self.storages.setdefault(str(key), _Storage(kind, numel))


def read_arrays(path: Path) -> dict[str, Array]:
    """Read a pickle of arrays, or a torch checkpoint of either format, as a flat dict of arrays.

    Nested dicts are joined with dots and a checkpoint's `state_dict` is taken out of what surrounds it;
    a pickle of a single array has the key ''. Raises `BundleError` for a missing or damaged file and
    `UnsafeFileError` for one that asks for anything but arrays; nothing of the file is ever executed.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BundleError(f"it has more than {MAX_BYTES >> 20} MiB")
        return _flatten(_read_zip(path) if zipfile.is_zipfile(path) else _read_stream(path))
    except FileNotFoundError:
        raise BundleError(f"{path} does not exist.") from None
    except BundleError as fault:
        raise type(fault)(f"{path} was refused: {fault}.") from None
    except Exception as fault:  # whatever an unpickler meets in arbitrary bytes
        reason = str(fault).splitlines()[0][:200] if str(fault) else type(fault).__name__
        raise BundleError(f"{path} is truncated or damaged ({reason}); fetch it again.") from None


def _read_stream(path: Path) -> Any:
    with path.open("rb") as file:
        storages: dict[str, _Storage] = {}

        def load() -> Any:
            refuse_excess(file)
            unpickler = _ArraysOnly(file)
            unpickler.storages = storages
            return unpickler.load()

        first = load()
        if first != _TORCH_MAGIC or not isinstance(first, int):
            return first
        load(), load()  # protocol version and system information
        found, keys = load(), load()
        for key in keys:
            storage = storages[str(key)]
            numel = int.from_bytes(file.read(8), "little")
            if numel != storage.numel:
                raise BundleError(f"storage {key} has {numel} numbers instead of {storage.numel}")
            storage.data = _numbers(file.read(numel * storage.dtype.itemsize), storage)
        return found


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        if sum(sizes.values()) > MAX_BYTES:
            raise BundleError(f"it unpacks to more than {MAX_BYTES >> 20} MiB")
        name = next((n for n in sizes if n.endswith("/data.pkl") or n == "data.pkl"), None)
        if name is None:
            raise BundleError("it is a zip file without data.pkl, not a torch checkpoint")
        content = io.BytesIO(archive.read(name))
        refuse_excess(content)
        unpickler = _ArraysOnly(content)
        unpickler.storages = {}
        found = unpickler.load()
        for key, storage in unpickler.storages.items():
            storage.data = _numbers(archive.read(name.removesuffix("data.pkl") + f"data/{key}"), storage)
        return found


def _numbers(raw: bytes, storage: _Storage) -> Array:
    if len(raw) != storage.numel * storage.dtype.itemsize:
        raise BundleError(f"it ends {storage.numel * storage.dtype.itemsize - len(raw)} bytes early")
    return np.frombuffer(raw, storage.dtype)


def _flatten(found: Any) -> dict[str, Array]:
    """The arrays and tensors of nested dicts by their joined keys."""
    flat: dict[str, Array] = {}
    entries = 0

    def visit(value: Any, name: str, depth: int) -> None:
        nonlocal entries
        entries += 1
        if depth > _MAX_DEPTH or entries > _MAX_ENTRIES:
            raise UnsafeFileError("its dicts hold one another deeper or more often than any checkpoint's")
        if isinstance(value, _Array):
            flat[name] = value.array
        elif isinstance(value, _Tensor):
            flat[name] = value.array()
        elif isinstance(value, dict):
            inner = value.get("state_dict")
            for key, item in (inner if isinstance(inner, dict) else value).items():
                if not isinstance(key, str | int):
                    raise UnsafeFileError("it holds a dict whose keys are no names")
                visit(item, f"{name}.{key}" if name else str(key), depth + 1)

    visit(found, "", 0)
    return flat
