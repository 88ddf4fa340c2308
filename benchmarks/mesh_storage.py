"""What each way to keep dense meshes costs: bytes, and time to write and to read, by face.

    python benchmarks/mesh_storage.py [--model NAME] [--faces 256] [--rounds 5]

Meshes are those of random faces of the model, 300 pixels large. `float32`, `quantised` and `none` are what `process`
does; the rest are HDF5's own filters, and those of hdf5plugin where it is installed, over the same chunks (one face).
To read is to read every face by itself; of `none` it is to rebuild it from its parameters.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ddfa_batch.commands.model_choice import default_models_folder
from ddfa_batch.schemas.arrays import F32
from ddfa_batch.schemas.config import BUILTIN
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import Bundle, find_bundle
from ddfa_batch.tasks.files.mesh_files import MeshFile, QuantisedMeshes, put_vertices
from ddfa_batch.tasks.geometry.reconstruct import BLOCK, PointBasis, points

#: Pixels of the crops' side that the faces are taken to have come from.
ROI_SIDE = 400.0


def random_params(bundle: Bundle, n: int) -> F32:
    """Parameters (n, P) as the model's training had them, at its mean pose."""
    random, manifest = np.random.default_rng(0), bundle.manifest
    params = np.array(manifest.param_mean) + random.normal(0, 0.5, (n, manifest.layout.size)) * manifest.param_std
    return np.asarray(params, np.float32)


def filters() -> dict[str, dict[str, Any]]:
    """Filters by name, as h5py takes them."""
    known: dict[str, dict[str, Any]] = {
        "gzip 4, shuffle": {"compression": "gzip", "compression_opts": 4, "shuffle": True},
        "lzf, shuffle": {"compression": "lzf", "shuffle": True},
    }
    try:
        import hdf5plugin
    except ImportError:
        return known
    bit = hdf5plugin.Blosc2.BITSHUFFLE
    return known | {
        "Zstd 3, shuffle": {**hdf5plugin.Zstd(clevel=3), "shuffle": True},
        "Blosc2 zstd 3, bitshuffle": dict(hdf5plugin.Blosc2(cname="zstd", clevel=3, filters=bit)),
        "Blosc2 lz4, bitshuffle": dict(hdf5plugin.Blosc2(cname="lz4", clevel=5, filters=bit)),
    }


def ours(form: str, meshes: F32) -> tuple[Callable[[Path], None], Callable[[Path], None]]:
    def blocks() -> Iterator[F32]:
        return (meshes[start : start + BLOCK] for start in range(0, len(meshes), BLOCK))

    def write(path: Path) -> None:
        put_vertices(path, np.arange(len(meshes)), blocks(), meshes.shape[1], "benchmark", form)

    def read(path: Path) -> None:
        with h5py.File(path, "r") as file:
            stored = MeshFile(file)
            for row in range(len(meshes)):
                stored.mesh(row)

    return write, read


def filtered(meshes: Any, options: dict[str, Any]) -> tuple[Callable[[Path], None], Callable[[Path], None]]:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("vertices", data=meshes, chunks=(1, *meshes.shape[1:]), **options)

    def read(path: Path) -> None:
        with h5py.File(path, "r") as file:
            stored = file["vertices"]
            for row in range(len(meshes)):
                stored[row]

    return write, read


def measured(name: str, ways: tuple[Callable[[Path], None], Callable[[Path], None]], n: int, rounds: int) -> str:
    write, read = ways
    spent: dict[str, list[float]] = {"write": [], "read": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            path = Path(folder, f"{number}.h5")
            for what, work in (("write", write), ("read", read)):
                began = time.perf_counter()
                work(path)
                spent[what].append(1e3 * (time.perf_counter() - began) / n)
        size = path.stat().st_size / n / 1e3 if path.exists() else 0.0
    return f"| {name} | {size:.1f} | {statistics.median(spent['write']):.2f} | {statistics.median(spent['read']):.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=BUILTIN)
    parser.add_argument("--faces", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    bundle = find_bundle(given.model, default_models_folder())
    basis, params = PointBasis.of(load_morphable(bundle)), random_params(bundle, given.faces)
    rois = np.tile([100.0, 100.0, 100 + ROI_SIDE, 100 + ROI_SIDE], (given.faces, 1))
    rebuild = lambda: points(basis, params, rois, bundle.manifest.input_size)  # noqa: E731
    meshes = rebuild()
    quantised = QuantisedMeshes.of(meshes).quantised
    print("| | kB | write | read |\n|---|---|---|---|")
    for form in ("float32", "quantised"):
        print(measured(f"`--vertices {form}`", ours(form, meshes), given.faces, given.rounds), flush=True)
    print(measured("`--vertices none`, rebuilt", (lambda _: None, lambda _: rebuild()), given.faces, given.rounds))
    for stored, array in (("float32", meshes), ("int16", quantised)):
        for name, options in filters().items():
            print(measured(f"{stored}, {name}", filtered(array, options), given.faces, given.rounds), flush=True)


if __name__ == "__main__":
    main()
