"""One set of labels out of two: faces with 68 points, and faces that only have AFLW's 21.

    python -m recipes.builtin.union WORK [--turn 15] [--residual 4]

WORK/aflw/fit21 is the fit of labels21.parquet. Of its faces, those whose fit agrees with AFLW's own yaw to --turn
degrees and with the 21 points to --residual % of the face's size get the 68 points of their fit for labels; with
labels68.parquet they are WORK/aflw/labels-all.parquet. Most of them are seen from the side, as few of the others are.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ddfa_batch.pipeline.results import open_run


def main(words: Sequence[str] | None = None) -> None:
    """The step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--turn", type=float, default=15.0)
    parser.add_argument("--residual", type=float, default=4.0)
    arguments = parser.parse_args(words)
    folder = arguments.work / "aflw"
    run = folder / "fit21"
    faces = open_run(run).faces(columns=["key", "yaw", "landmarks68"]).to_pandas().set_index("key")
    fits = pd.read_parquet(run / "fits.parquet", columns=["key", "residual"]).set_index("key")
    known = pd.read_parquet(folder / "labels21.parquet", columns=["name", "yaw_deg"]).set_index("name")
    human = pd.read_parquet(folder / "labels68.parquet", columns=["name", "pts68"])
    faces = faces.join(known).join(fits)
    faces = faces[~faces.index.isin(human.name)]
    fine = faces[((faces.yaw - faces.yaw_deg).abs() < arguments.turn) & (100 * faces.residual < arguments.residual)]
    fitted = np.stack(fine.landmarks68.to_list()).reshape(-1, 68, 3)[..., :2].reshape(-1, 136)
    points = np.concatenate([np.stack(human.pts68.to_list()), fitted]).astype(np.float32)
    lists = pa.FixedSizeListArray.from_arrays(points.ravel(), 136)
    names = [*human.name, *fine.index]
    pq.write_table(pa.table({"name": names, "pts68": lists}), folder / "labels-all.parquet")
    print(f"{len(fine):,} of {len(faces):,} faces with 21 points join {len(human):,} with 68")


if __name__ == "__main__":
    main()
