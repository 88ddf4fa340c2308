"""Pictures without a face: scikit-image's, and wallpapers, stamps, patterns and photographs of Debian packages."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from ddfa_batch.schemas.arrays import U8
from recipes.builtin.detector.background_formats import embedded_pictures, gimp_pattern, on_plain_ground
from recipes.builtin.detector.pictures import (
    Layer,
    no_faces,
    scaled,
)

#: Packages of pictures.
DEBIAN = (
    "mate-backgrounds",
    "gnome-backgrounds",
    "plasma-workspace-wallpapers",
    "tuxpaint-stamps-default",
    "gimp-data",
    "gimp-data-extras",
    "krita-data",
    "gcompris-qt-data",
)
#: Activities of gcompris-qt-data that show photographs of animals, in the wild, on farms and under water.
GCOMPRIS = ("erase", "explore_world_animals", "explore_farm_animals", "clickgame")
#: Stamps that show a face, even a drawn one, or none but letters.
NOT_THESE = (
    "cartoon",
    "faces",
    "people",
    "money",
    "monuments",
    "halloween",
    "alphabets",
    "christmas",
    "hanukkah",
    "easter",
    "flags",
    "operators",
    "statue",
)
#: scikit-image's pictures without a face. `astronaut` is for tests, `camera` and `lfw_subset` show faces.
SKIMAGE = (
    "brick",
    "cell",
    "chelsea",
    "clock_motion",
    "coffee",
    "coins",
    "color",
    "grass",
    "gravel",
    "horse",
    "hubble_deep_field",
    "ihc",
    "logo",
    "moon",
    "motorcycle_left",
    "motorcycle_right",
    "page",
    "retina",
    "rocket",
    "text",
)
#: Longest side of a stamp, and of another picture, pixels; shortest side that is used, of either and of any.
_STAMP_SIDE, _PICTURE_SIDE, _SHORTEST_FETCHED, _SHORTEST = 350, 800, 64, 32


def fetch_backgrounds(folder: Path) -> None:
    """Unpack the Debian packages' pictures into `folder`, stamps on plain ground, once."""
    if folder.is_dir() and any(folder.iterdir()):
        return
    folder.mkdir(parents=True, exist_ok=True)
    root = fetch_debian(DEBIAN, folder.parent / "debian")
    if root is None:
        print(f"No Debian packages here: put pictures without a face into {folder} yourself.")
        return
    unpacked(root / "usr/share", folder)


def fetch_debian(packages: Sequence[str], folder: Path) -> Path | None:
    """Fetch packages with apt-get and unpack them all below one root, which is told; None where that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["apt-get", "download", "-q", *packages], cwd=folder, check=True)
        for package in folder.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, folder / "root"], check=True)
    except (OSError, subprocess.CalledProcessError) as fault:
        print(f"apt-get does not fetch {', '.join(packages)} ({fault}).")
        return None
    return folder / "root"


def unpacked(share: Path, folder: Path) -> None:
    """Write the pictures below `share`, as packages lay them out, to `folder` as PNG files."""
    rng = np.random.default_rng(0)
    for path in sorted([*share.glob("backgrounds/*/**/*"), *wallpapers(share)]):
        if path.is_file():
            _keep(_read(path, cv2.IMREAD_COLOR), _name(path, share), folder, _PICTURE_SIDE)
    for path in sorted(share.glob("tuxpaint/stamps/**/*.png")):
        stamp = _read(path, cv2.IMREAD_UNCHANGED)
        if any(word in str(path) for word in NOT_THESE) or stamp is None or stamp.shape[2:] != (4,):
            continue
        _keep(stamp, _name(path, share), folder, _STAMP_SIDE, rng.integers(0, 256, 3).tolist())
    for path in sorted([*share.glob("gimp/*/patterns/**/*.pat"), *share.glob("krita/patterns/*.pat")]):
        _keep(gimp_pattern(path.read_bytes()), _name(path, share), folder, _PICTURE_SIDE)
    for path in sorted(share.glob("gcompris-qt/rcc/*.rcc")):
        if path.stem in GCOMPRIS:
            for name, image in embedded_pictures(path):
                if not reserved(name):
                    _keep(image, name, folder, _PICTURE_SIDE)


def reserved(name: str) -> bool:
    """Whether a photograph of gcompris-qt-data is kept for the last test: every other one, by a hash of its name."""
    return hashlib.sha256(name.encode()).digest()[-1] % 2 == 1


def wallpapers(share: Path) -> Iterator[Path]:
    """The smallest file of each of Plasma's wallpapers."""
    for folder in share.glob("wallpapers/*/contents/images"):
        yield min(folder.iterdir(), key=lambda path: path.stat().st_size)


def _read(path: Path, flags: int) -> U8 | None:
    image = cv2.imread(str(path), flags)
    return None if image is None else np.asarray(image, np.uint8)


def _name(path: Path, share: Path) -> str:
    return re.sub(r"\W", "_", str(path.relative_to(share).with_suffix("")))[-80:]


def _keep(image: U8 | None, name: str, folder: Path, longest: int, ground: Sequence[int] = (200, 200, 200)) -> None:
    """Write a picture, made smaller to `longest` where it is larger; what is hardly a picture is left out."""
    if image is None or image.ndim != 3 or min(image.shape[:2]) < _SHORTEST_FETCHED:
        return
    small = scaled(np.asarray(image, np.uint8), min(1.0, longest / max(image.shape[:2])), cv2.INTER_AREA)
    cv2.imwrite(str(folder / f"{name}.png"), on_plain_ground(small, ground))


def backgrounds(work: Path) -> Iterator[tuple[str, Layer]]:
    """All pictures without a face, by file name."""
    import skimage

    fetch_backgrounds(work / "backgrounds")
    data = Path(skimage.__file__).parent / "data"
    paths = [path for stem in SKIMAGE for path in data.glob(f"{stem}.*")]
    for path in sorted([*paths, *(work / "backgrounds").iterdir()]):
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is not None and min(image.shape[:2]) >= _SHORTEST:
            yield path.name, Layer(np.asarray(image, np.uint8), no_faces(), np.zeros(0, bool))
