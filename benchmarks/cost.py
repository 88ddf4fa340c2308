"""What a hundred million images would need, reckoned from what a run of some thousand needed.

    ddfa-batch process IMAGES OUT --vertices none
    python benchmarks/cost.py OUT --core-seconds S [--images 100000000] [--cores 1000]
        [--core-hour 0.04] [--gigabyte-month 0.023] [--kilobytes 100]

Storage and files are counted in OUT, by input and by face; core-seconds are those of the run (clock seconds times
workers, start-up included). Prices are a public cloud's list prices in US dollars, as arguments, for they change: a
core's hour (a virtual core of a general-purpose machine, on demand), and a gigabyte's month of object storage.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ddfa_batch
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.files.mesh_files import BYTES_PER_VERTEX

#: Inputs of a shard, beyond which a run has more shards.
SHARD = 4096
#: Files of a shard without meshes: receipt, images, faces.
FILES = 3


def size_of(out: Path, folder: str) -> int:
    return sum(file.stat().st_size for file in (out / folder).rglob("*") if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--core-seconds", type=float, required=True, help="Of the whole run in OUT.")
    parser.add_argument("--images", type=int, default=100_000_000)
    parser.add_argument("--cores", type=int, default=1000)
    parser.add_argument("--core-hour", type=float, default=0.04)
    parser.add_argument("--gigabyte-month", type=float, default=0.023)
    parser.add_argument("--kilobytes", type=float, default=100.0, help="Of an input, read once.")
    given = parser.parse_args()
    run = ddfa_batch.open(given.out)
    n, faces = run.run.n_inputs, run.faces(columns=["face_id"]).num_rows
    times = given.images / n
    hours = given.core_seconds * times / 3600
    tables = {name: size_of(given.out, name) * times / 1e9 for name in ("images", "faces", "shards")}
    vertices = load_morphable(run.bundle).n_vertices
    meshes = {form: size * vertices * faces * times / 1e9 for form, size in BYTES_PER_VERTEX.items()}
    shards = -(-given.images // SHARD)
    print(f"{given.images:,} images with {faces * times:,.0f} faces, as in {n:,} images")
    spread = f"{hours / given.cores:.1f} h on {given.cores:,} cores"
    print(f"work      {hours:,.0f} core-hours, ${hours * given.core_hour:,.0f}; {spread}")
    print(f"inputs    {given.images * given.kilobytes / 1e6:,.0f} GB read once")
    size = sum(tables.values())
    parts = ", ".join(f"{name} {part:,.1f}" for name, part in tables.items())
    print(f"tables    {size:,.0f} GB ({parts}), ${size * given.gigabyte_month:,.2f} a month; {shards * FILES:,} files")
    for form, size in meshes.items():
        print(f"{form:9s} {size:,.0f} GB of meshes, ${size * given.gigabyte_month:,.0f} a month; {shards:,} files more")


if __name__ == "__main__":
    main()
