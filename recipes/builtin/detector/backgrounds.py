"""Pictures without a face: scikit-image's, and the wallpapers and stamps of Debian packages."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from recipes.builtin.detector.pictures import (
    Layer,
    no_faces,
    scaled,
)

#: Packages of pictures.
DEBIAN = ("mate-backgrounds", "gnome-backgrounds", "plasma-workspace-wallpapers", "tuxpaint-stamps-default")
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
    packages = folder.parent / "debian"
    packages.mkdir(exist_ok=True)
    try:
        subprocess.run(["apt-get", "download", "-q", *DEBIAN], cwd=packages, check=True)
        for package in packages.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, packages / "root"], check=True)
    except (OSError, subprocess.CalledProcessError) as fault:
        print(f"No Debian packages here ({fault}): put pictures without a face into {folder} yourself.")
        return
    unpacked(packages / "root/usr/share", folder)


def unpacked(share: Path, folder: Path) -> None:
    """Write the pictures below `share`, as packages lay them out, to `folder` as PNG files."""
    wallpapers = [min(f.iterdir(), key=lambda p: p.stat().st_size) for f in share.glob("wallpapers/*/contents/images")]
    rng = np.random.default_rng(0)
    for path in sorted([*share.glob("backgrounds/*/**/*"), *wallpapers, *share.glob("tuxpaint/stamps/**/*.png")]):
        stamp = "stamps" in path.parts
        if not path.is_file() or (stamp and any(word in str(path) for word in NOT_THESE)):
            continue
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED if stamp else cv2.IMREAD_COLOR)
        if image is None or image.ndim != 3 or min(image.shape[:2]) < _SHORTEST_FETCHED:
            continue
        if stamp and image.shape[2] != 4:
            continue
        longest = _STAMP_SIDE if stamp else _PICTURE_SIDE
        picture = scaled(np.asarray(image, np.uint8), min(1.0, longest / max(image.shape[:2])), cv2.INTER_AREA)
        if stamp:
            alpha = picture[..., 3:] / np.float32(255)
            picture = (picture[..., :3] * alpha + rng.integers(0, 256, 3) * (1 - alpha)).astype(np.uint8)
        name = re.sub(r"\W", "_", str(path.relative_to(share).with_suffix("")))[-80:]
        cv2.imwrite(str(folder / f"{name}.png"), picture)


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
