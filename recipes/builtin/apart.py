"""Leave out the crops that show a photograph which the model is measured on, and prove that none is left.

    python -m recipes.builtin.apart WORK [--most 0.82]

Of every crop of WORK/aflw/labels-all.parquet and every photograph of AFLW2000-3D's dev half the face is set upright and
scaled by its labels. Pairs whose faces correlate by more than --most are taken for one shot: the crop is named in
WORK/aflw/alike.txt and taken out of labels-all.parquet. What is correlated is the light's local variation, not the
light: profiles before a dark wall are all alike in grey levels. By grey levels duplicates.txt was made, which `prepare`
follows; it had missed some 50 crops: of 85 above 0.82, as one sees who looks at them, all above 0.93 are the same shot.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ddfa_batch.schemas.arrays import F32, F64, U8, Floats
from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.files.landmark_files import read_landmarks
from recipes.builtin.detector.pictures import read_picture

#: Files of WORK/aflw: crops that `prepare` left out, those that this step leaves out, and the labels of all others.
DUPLICATES, ALIKE, LABELS = "duplicates.txt", "alike.txt", "labels-all.parquet"
#: Least correlation of two faces of one shot: some 50 of 85 crops above it are, and hardly one near it.
MOST = 0.82
#: Side of the aligned faces, pixels, and what share of it the root of the mean squared distance of the points from
#: their middle takes: brows to mouth fill it.
_SIDE, _SHARE = 32, 0.3
#: Eyes and mouth among the 68: what tells up from down. Brows, nose, eyes and mouth: what the face is set by.
_EYES, _MOUTH, _INNER = slice(36, 48), slice(48, 68), slice(17, 68)
#: Standard deviations, pixels: of the blur of a crop before it is made small, for each of its pixels in one of the
#: small one; of the blurs whose difference is looked at; and of the neighbourhood whose contrast is made one.
_ANTI_ALIAS, _FINE, _COARSE, _NEAR = 0.4, 0.7, 3.0, 5.0
#: Least contrast of a neighbourhood, share of the whole's: flat ones hold nothing but noise.
_LEAST_CONTRAST = 0.15


def aligned_face(image: U8, points: F64) -> F32:
    """The face with points (68, 2) in a grey image: upright, small, (_SIDE, _SIDE)."""
    inner = points[_INNER]
    middle = inner.mean(axis=0)
    down = points[_MOUTH].mean(axis=0) - points[_EYES].mean(axis=0)
    down = down / max(float(np.linalg.norm(down)), 1e-9)
    spread = float(np.sqrt(np.square(inner - middle).sum(axis=1).mean()))
    scale = _SHARE * _SIDE / max(spread, 1e-9)
    turn = scale * np.array([[down[1], -down[0]], [down[0], down[1]]])
    map_ = np.column_stack([turn, np.array([_SIDE, _SIDE]) / 2 - 0.5 - turn @ middle])
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), max(_ANTI_ALIAS / scale, 0.3))
    return np.asarray(cv2.warpAffine(smooth, map_, (_SIDE, _SIDE), borderMode=cv2.BORDER_REPLICATE), np.float32)


def variation(face: F32) -> F32:
    """How light varies from place to place in a small face, whatever its contrast there: a vector of length 1."""
    band = cv2.GaussianBlur(face, (0, 0), _FINE) - cv2.GaussianBlur(face, (0, 0), _COARSE)
    contrast = np.sqrt(cv2.GaussianBlur(np.square(band), (0, 0), _NEAR))
    even = band / (contrast + _LEAST_CONTRAST * np.sqrt(np.square(band).mean()) + 1e-6)
    flat = (even - even.mean()).ravel()
    return np.asarray(flat / max(float(np.linalg.norm(flat)), 1e-6), np.float32)


def faces(table: Path, folder: Path) -> tuple[list[str], F32]:
    """Keys, and the variation (N, _SIDE²) of each face, of a table of labels whose pictures lie in `folder`."""
    labels = read_landmarks(table)
    usable = np.flatnonzero(np.isfinite(labels.landmarks[:, _INNER, :2]).any(axis=(1, 2)))
    keys = [labels.keys[row] for row in usable]
    shown = [
        variation(aligned_face(read_picture(folder / key, cv2.IMREAD_GRAYSCALE), _whole(points[:, :2])))
        for key, points in zip(keys, labels.landmarks[usable], strict=True)
    ]
    return keys, np.stack(shown)


def _whole(points: Floats) -> F64:
    """Points (68, 2) with the mean of their part, eyes or mouth or all, where one is not labelled."""
    whole = np.array(points, np.float64)
    for part in (_EYES, _MOUTH, _INNER):
        rows = whole[part]
        if np.isfinite(rows).any():
            rows[~np.isfinite(rows).all(axis=1)] = np.nanmean(rows, axis=0)
    return whole


def alike(work: Path, most: float) -> list[tuple[str, str, float]]:
    """Crops of one shot with a photograph: the crop, the photograph, how far they correlate; most first."""
    crops, ours = faces(work / "aflw" / LABELS, work / "aflw/images")
    photographs, theirs = faces(work / "dev/original.parquet", work / "dev/photographs")
    correlation = ours @ theirs.T
    nearest = correlation.argmax(axis=1)
    found = correlation[np.arange(len(crops)), nearest]
    rows = np.argsort(-found)[: int((found > most).sum())]
    return [(crops[i], photographs[nearest[i]], float(found[i])) for i in rows]


def check_apart(folder: Path, trained_on: Iterable[str]) -> str:
    """A sentence that none of the crops trained on is one that WORK/aflw, `folder`, lists as a photograph's duplicate.

    Raises `InputError` where one is, or where nothing lists them.
    """
    names = set(trained_on)
    if not (folder / DUPLICATES).exists() or not (folder / ALIKE).exists():
        raise InputError(f"{folder} does not tell which crops are duplicates; run prepare and apart.")
    listed = {line.split()[0] for file in (DUPLICATES, ALIKE) for line in (folder / file).read_text().splitlines()}
    if both := sorted(names & listed):
        raise InputError(f"{', '.join(both[:5])} would be trained on, but show photographs that are measured on.")
    return f"None of the {len(names):,} crops that train or validate is one of the {len(listed):,} duplicates."


def main(words: Sequence[str] | None = None) -> None:
    """The step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--most", type=float, default=MOST)
    arguments = parser.parse_args(words)
    folder = arguments.work / "aflw"
    found = alike(arguments.work, arguments.most)
    table = pq.read_table(folder / LABELS)
    kept = table.filter(pc.invert(pc.is_in(table["name"], pa.array([crop for crop, _, _ in found], pa.string()))))
    pq.write_table(kept, folder / LABELS)
    (folder / ALIKE).write_text("".join(f"{crop} {shot} {value:.3f}\n" for crop, shot, value in found))
    left = f"{len(found)} crops that show a photograph of the dev half are left out of {len(table):,}"
    print(f"{left}; {len(kept):,} stay.")


if __name__ == "__main__":
    main()
