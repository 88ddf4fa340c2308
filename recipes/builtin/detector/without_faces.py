"""200 pictures of animals, foliage, textures and things that trained nothing and chose nothing: what is found in them?

    python -m recipes.builtin.detector.without_faces WORK [--model builtin] [--sheet sheet.png]

Fetched by name, once, into WORK/without_faces: photographs of Debian packages, with apt-get, and of Python packages,
with pip. The picture's highest score counts, of all passes up to the one after which no more are made. --sheet draws
the pictures that score highest, each with its box.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import F32, U8
from ddfa_batch.tasks.bundles.loaded_model import loaded_model
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.inference.face_finder import FaceFinder, best_pass
from ddfa_batch.tasks.inference.regressor import Regressor
from recipes.builtin.detector.background_formats import embedded_pictures, on_plain_ground
from recipes.builtin.detector.backgrounds import GCOMPRIS, fetch_debian, reserved
from recipes.builtin.detector.pictures import read_picture, scaled

#: Debian packages, and where below usr/share the photographs lie.
DEBIAN = (
    "gcompris-qt-data",
    "palapeli-data",
    "tuxpaint-data",
    "lomiri-wallpapers-16.04",
    "lomiri-wallpapers-20.04",
)
PHOTOGRAPHS = ("palapeli/collection/*.jpg", "tuxpaint/templates/*.jp*g", "backgrounds/*.jpg")
#: Python packages, and their pictures.
WHEELS = {
    "imgaug==0.4.0": "imgaug/quokka.jpg",
    "foolbox==3.3.4": "foolbox/data/imagenet_*.jpg",
    "gradio==6.31.0": "gradio/media_assets/images/[cl][hi]*.jpg",
    "robosuite==1.5.2": "robosuite/models/assets/textures/*.png",
}
#: A further activity of gcompris-qt-data, of which also the reserved half is taken, and its pictures of statues.
_THINGS = "categorization"
STATUES = (
    "categorization-1470956",
    "categorization-1805146",
    "categorization-2362210",
    "categorization-2685547",
)
#: How many pictures there are, things last, and their longest side in pixels.
N_PICTURES, _LONGEST = 200, 800
#: Scores above which pictures are counted.
SHOWN = (0.3, 0.5, 0.7, 0.9)
#: Cells of a sheet, in a row and in all, and their side in pixels.
_A_ROW, _CELLS, _SIDE = 6, 24, 220


def fetch(folder: Path) -> list[Path]:
    """The pictures, fetched if they are not there yet."""
    if not folder.is_dir():
        root = fetch_debian(DEBIAN, folder.parent / "debian_without_faces")
        wheels = folder.parent / "wheels_without_faces"
        ask = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), *WHEELS]
        subprocess.run(ask, check=True)
        folder.mkdir()
        for name, image in [*of_debian((root or Path()) / "usr/share"), *of_wheels(wheels)]:
            small = scaled(image, min(1.0, _LONGEST / max(image.shape[:2])), cv2.INTER_AREA)
            cv2.imwrite(str(folder / f"{name}.png"), small)
    return sorted(folder.glob("*.png"), key=lambda path: (path.stem.startswith(_THINGS), path.name))[:N_PICTURES]


def of_debian(share: Path) -> Iterator[tuple[str, U8]]:
    """The photographs of the unpacked Debian packages, of gcompris-qt-data the reserved half."""
    for path in sorted(path for pattern in PHOTOGRAPHS for path in share.glob(pattern)):
        yield f"{path.parent.name}-{path.stem}", read_picture(path)
    for path in sorted(share.glob("gcompris-qt/rcc/*.rcc")):
        if path.stem in (*GCOMPRIS, _THINGS):
            for name, image in embedded_pictures(path):
                if reserved(name) and name not in STATUES:
                    yield name, on_plain_ground(image, (200, 200, 200))


def of_wheels(folder: Path) -> Iterator[tuple[str, U8]]:
    """The pictures of the Python packages whose wheels lie in a folder."""
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            package = wheel.name.split("-")[0]
            pattern = next(each for name, each in WHEELS.items() if name.split("==")[0] == package)
            for inside in sorted(name for name in archive.namelist() if Path(name).match(pattern)):
                image = cv2.imdecode(np.frombuffer(archive.read(inside), np.uint8), cv2.IMREAD_COLOR)
                if image is not None:
                    yield f"{package}-{Path(inside).stem}", np.asarray(image, np.uint8)


def finder(model: str) -> FaceFinder:
    """What finds the faces of a bundle's default detector, whatever they score."""
    bundle = find_bundle(model, Path())
    loaded, (_, spec) = loaded_model(str(bundle.folder), bundle.digest), bundle.detector(None)
    return FaceFinder(spec, loaded.detector_session(spec), Regressor(loaded.regressor, bundle.manifest), 0.0)


def highest(find: FaceFinder, image: U8, asked: Sequence[float], stop_score: float) -> tuple[float, F32]:
    """The highest score of a picture and its box (4,), as a run with no least score would tell them."""
    found = best_pass(find.passes(image), asked, stop_score).detections
    return (float(found.scores[0]), found.boxes[0]) if len(found.scores) else (0.0, np.zeros(4, np.float32))


def sheet(rows: Sequence[tuple[float, Path, F32]]) -> U8:
    """The pictures that score highest with their boxes, in rows."""
    cells = []
    for score, path, box in sorted(rows, key=lambda row: -row[0])[:_CELLS]:
        image = read_picture(path)
        (x0, y0), (x1, y1) = box.round().astype(int).reshape(2, 2).tolist()
        cv2.rectangle(image, (x0, y0), (x1, y1), (0, 0, 255), max(2, max(image.shape) // 200))
        small = scaled(image, _SIDE / max(image.shape[:2]), cv2.INTER_AREA)[:_SIDE, :_SIDE]
        cell = np.full((_SIDE + 16, _SIDE, 3), 255, np.uint8)
        cell[: small.shape[0], : small.shape[1]] = small
        told = f"{score:.3f} {path.stem[:26]}"
        cv2.putText(cell, told, (2, _SIDE + 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1)
        cells.append(cell)
    cells += [np.full((_SIDE + 16, _SIDE, 3), 255, np.uint8)] * (-len(cells) % _A_ROW)
    return np.concatenate([np.concatenate(cells[i : i + _A_ROW], axis=1) for i in range(0, len(cells), _A_ROW)])


def main(words: Sequence[str] | None = None) -> None:
    """Print how many pictures score more than `SHOWN`, and those that score most."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", default="builtin", help="builtin, or a bundle's folder")
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args(words)
    find, (_, spec) = finder(arguments.model), find_bundle(arguments.model, Path()).detector(None)
    rows = []
    for path in fetch(arguments.work / "without_faces"):
        image = read_picture(path)
        plain, _ = highest(find, image, [0.0] * len(spec.passes), 1.0)
        asked, box = highest(find, image, [each.score_threshold for each in spec.passes], spec.stop_score)
        rows.append((plain, asked, path, box))
    for score in SHOWN:
        of_all, told = sum(row[0] > score for row in rows), sum(row[1] > score for row in rows)
        print(f"above {score}: {of_all} of {len(rows)} pictures in any pass, {told} where the last one asks for more")
    print("highest:", ", ".join(f"{row[1]:.3f} {row[2].stem}" for row in sorted(rows, key=lambda r: -r[1])[:12]))
    if arguments.sheet:
        cv2.imwrite(str(arguments.sheet), sheet([(score, path, box) for _, score, path, box in rows]))


if __name__ == "__main__":
    main()
