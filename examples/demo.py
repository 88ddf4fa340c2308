"""The main job on real photographs: portraits that come inside PyPI packages, and a few pictures that are none.

    python examples/demo.py PATH/TO/3DDFA_V2        (or: make demo MODEL=PATH/TO/3DDFA_V2)

Imports the model, processes the pictures, and draws the landmarks over them to demo-out/overlays.png.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

import ddfa_batch

OUT = Path("demo-out")
#: Public-domain photographs inside PyPI packages.
PORTRAITS = {"skimage": "data/astronaut.png", "matplotlib": "mpl-data/sample_data/grace_hopper.jpg"}
TILE = 480


def pictures(folder: Path) -> None:
    """Two portraits, one picture with both, one without a face, and a broken file."""
    folder.mkdir(parents=True)
    portraits = []
    for package, file in PORTRAITS.items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            sys.exit(f"pip install {'scikit-image' if package == 'skimage' else package} first: it holds a portrait.")
        path = Path(spec.origin).parent / file
        shutil.copy(path, folder / path.name)
        image = cv2.imread(str(path))
        portraits.append(cv2.resize(image, (400, 400 * image.shape[0] // image.shape[1]))[:400])
    cv2.imwrite(str(folder / "both.png"), np.hstack(portraits))
    across = np.linspace(0, 255, 400, dtype=np.uint8)
    cv2.imwrite(str(folder / "no_face.png"), np.dstack([np.tile(across, (300, 1))] * 3))
    (folder / "broken.jpg").write_bytes((folder / "grace_hopper.jpg").read_bytes()[:20_000])


def overlay(image: np.ndarray, landmarks: np.ndarray, visible: np.ndarray) -> None:
    """Draw landmarks (68, 3): green where they can be seen, red where the head hides them."""
    radius = max(2, image.shape[0] // 200)
    for (x, y, _), seen in zip(landmarks, visible, strict=True):
        cv2.circle(image, (round(float(x)), round(float(y))), radius, (80, 220, 80) if seen else (60, 60, 230), -1, 16)


def main() -> None:
    """Run the demo."""
    if len(sys.argv) != 2 or not sys.argv[1]:
        sys.exit("Give the path of a checkout of 3DDFA_V2: make demo MODEL=PATH/TO/3DDFA_V2")
    shutil.rmtree(OUT, ignore_errors=True)
    pictures(OUT / "images")
    command = [str(Path(sys.executable).with_name("ddfa-batch")), "--models-dir", str(OUT / "models")]
    subprocess.run([*command, "models", "import", "3ddfa-v2", sys.argv[1], "--name", "demo"], check=True)
    subprocess.run([*command, "process", str(OUT / "images"), str(OUT / "run")], check=True)
    run = ddfa_batch.open(OUT / "run")
    tiles = []
    for key in ("astronaut.png", "grace_hopper.jpg", "both.png"):
        image = cv2.imread(str(OUT / "images" / key))
        for face in run.faces().to_pylist():
            if face["key"] == key:
                overlay(image, np.reshape(face["landmarks68"], (68, 3)), np.array(face["landmarks68_visible"]))
        tiles.append(cv2.resize(image, (TILE * image.shape[1] // image.shape[0], TILE), interpolation=cv2.INTER_AREA))
    cv2.imwrite(str(OUT / "overlays.png"), np.hstack(tiles))
    print(f"\nLook at {OUT / 'overlays.png'}")


if __name__ == "__main__":
    main()
