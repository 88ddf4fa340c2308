"""The main job on real photographs: portraits that come inside PyPI packages, and pictures made from them.

    python examples/demo.py                       (or: make demo)
    python examples/demo.py PATH/TO/3DDFA_V2      (or: make demo MODEL=PATH/TO/3DDFA_V2)

Makes a folder of pictures: portraits, several faces in one, turned heads, small, dim and sideways ones, some without a
face, and files that are broken. Processes it, with the built-in model or one imported from the official release, draws
meshes and landmarks over the pictures on one sheet, and says what became of each. All of it lies in demo-out/.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import webbrowser
from pathlib import Path

import cv2
import numpy as np
from packaged_portraits import portrait_path
from PIL import Image

import ddfa_batch
from ddfa_batch.pipeline.preview import outcome

OUT = Path("demo-out")
#: The squares (x, y, side) that the portraits' heads fill.
HEADS = {"astronaut": (70, 0, 300), "grace_hopper": (70, 0, 390)}
#: Where heads hang on the wall: whose, x, y, side in pixels, and whether mirrored.
HANGING = [
    ("grace_hopper", 40, 50, 300, False),
    ("astronaut", 380, 60, 210, True),
    ("grace_hopper", 630, 40, 130, True),
    ("astronaut", 650, 220, 180, False),
    ("grace_hopper", 385, 310, 90, False),
    ("astronaut", 505, 310, 100, False),
]
#: EXIF's orientation of a picture that must be turned clockwise to stand upright.
TURN_CLOCKWISE = 6


def ddfa(*words: object) -> None:
    """Run the command line, and end with its exit code where it fails: it has said why."""
    shown = [str(word) for word in words]
    print("\n$ ddfa-batch", *shown, flush=True)
    code = subprocess.run([sys.executable, "-m", "ddfa_batch", *shown], check=False).returncode
    if code:
        sys.exit(code)


def portrait(name: str) -> np.ndarray:
    """A portrait (H, W, 3), BGR."""
    try:
        return cv2.imread(str(portrait_path(name)))
    except FileNotFoundError as fault:
        sys.exit(str(fault))


def head(name: str, side: int, mirrored: bool = False) -> np.ndarray:
    """The head of a portrait (side, side, 3)."""
    x, y, size = HEADS[name]
    square = portrait(name)[y : y + size, x : x + size]
    square = square[:, ::-1] if mirrored else square
    return cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA)


def wall() -> np.ndarray:
    """Framed portraits of several sizes on a wall: six faces in one picture."""
    down = np.linspace(1.0, 0.8, 450)[:, None, None]
    picture = np.clip(down * [176, 188, 178] + np.random.default_rng(1).normal(0, 2, (450, 860, 1)), 0, 255)
    picture = picture.astype(np.uint8)
    for name, x, y, side, mirrored in HANGING:
        edge = max(3, side // 24)
        shadow = np.s_[y - edge + 4 : y + side + edge + 6, x - edge + 4 : x + side + edge + 6]
        picture[shadow] = picture[shadow] * 0.75
        picture[y - edge : y + side + edge, x - edge : x + side + edge] = (236, 240, 242)
        picture[y : y + side, x : x + side] = head(name, side, mirrored)
    return picture


def turned(name: str, yaw: tuple[int, int], model: list[str]) -> np.ndarray:
    """A portrait's head, turned as far as `synth-videos` turns it within a range of degrees."""
    still, clips = OUT / "stills" / f"{name}.png", OUT / f"turned-{name}"
    still.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(still), head(name, 360))
    out_of_plane = ["--yaw-range", *yaw, "--pitch-range", -4, 4, "--speed", 4]
    in_plane = ["--roll", 0, 0, "--scale", 1, 1, "--shift", 0, 0, "--noise", 0, 0, "--blur", 0, 0]
    ddfa("synth-videos", still, clips, "--frames", 40, *out_of_plane, *in_plane, *model, "--quiet")
    run = ddfa_batch.open(clips)
    frames = run.frames(["clip_id", "frame", "motion_yaw"]).to_pylist()
    if not frames:
        sys.exit(f"No face was found in {still}, so there is none to turn.")
    most = max(frames, key=lambda row: abs(row["motion_yaw"]))
    return run.clip(most["clip_id"])[most["frame"]]


def dim(picture: np.ndarray) -> np.ndarray:
    """A picture as a poor camera takes it at dusk."""
    noise = np.random.default_rng(2).normal(0, 7, picture.shape)
    return np.clip(picture * 0.22 + noise, 0, 255).astype(np.uint8)


def hills() -> np.ndarray:
    """A sun over hills: no face."""
    y, x = np.mgrid[:300, :400].astype(np.float32)
    picture = np.stack([235 - y / 4, 190 - y / 6, 150 + y / 4], axis=-1)
    picture[(x - 290) ** 2 + (y - 80) ** 2 < 34**2] = (150, 225, 255)
    for height, wave, colour in ((150, 61, (150, 140, 96)), (190, 43, (104, 118, 70)), (235, 29, (58, 84, 44))):
        picture[y > height + 22 * np.sin(x / wave) + 9 * np.sin(x / wave * 2.7)] = colour
    return cv2.GaussianBlur(picture, (0, 0), 0.8).astype(np.uint8)


def leaves() -> np.ndarray:
    """Blotches of light and shade: no face."""
    picture = np.zeros((300, 400, 3), np.float32)
    rng = np.random.default_rng(3)
    for cells in (8, 16, 32, 64):
        coarse = rng.uniform(0, 1, (cells * 3 // 4, cells, 1)) * rng.uniform(0.5, 1, (cells * 3 // 4, cells, 3))
        picture += cv2.resize(coarse.astype(np.float32), (400, 300), interpolation=cv2.INTER_CUBIC)
    return np.clip(picture / picture.max() * [120, 220, 170], 0, 255).astype(np.uint8)


def pictures(folder: Path, model: list[str]) -> None:
    """Fill a folder with pictures, and with two files that are none."""
    folder.mkdir(parents=True)
    astronaut, hopper = portrait("astronaut"), portrait("grace_hopper")
    small = cv2.resize(astronaut, (160, 160), interpolation=cv2.INTER_AREA)
    made = {
        "01_astronaut.png": astronaut,
        "02_grace_hopper.jpg": hopper,
        "03_wall.png": wall(),
        "04_turned_left.png": turned("astronaut", (-88, 2), model),
        "05_turned_right.png": turned("grace_hopper", (-2, 88), model),
        "06_small.png": small,
        "07_dim.jpg": dim(hopper),
        "09_hills.png": hills(),
        "10_leaves.png": leaves(),
    }
    for name, picture in made.items():
        cv2.imwrite(str(folder / name), picture)
    exif = Image.Exif()
    exif[0x0112] = TURN_CLOCKWISE
    lying = Image.fromarray(np.ascontiguousarray(np.rot90(head("astronaut", 400)[..., ::-1])))
    lying.save(folder / "08_lying_says_exif.jpg", exif=exif, quality=92)
    whole = (folder / "02_grace_hopper.jpg").read_bytes()
    (folder / "11_cut_off.jpg").write_bytes(whole[: len(whole) // 3])
    (folder / "12_text.jpg").write_text("This is no picture.\n")


def table(run: ddfa_batch.Results) -> list[str]:
    """A line of plain words for every input."""
    faces = run.faces(["image_id", "yaw"]).to_pylist()
    lines = []
    for row in run.images().to_pylist():
        its_own = [face for face in faces if face["image_id"] == row["image_id"]]
        lines.append(f"{row['key']:24}{outcome(row, its_own)}")
    return lines


def show(path: Path) -> None:
    """Open a picture where somebody sits in front of a screen."""
    screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if screen and sys.stdout.isatty():
        webbrowser.open(path.resolve().as_uri())


def main() -> None:
    """Run the demo."""
    if len(sys.argv) > 2:
        sys.exit("Give nothing, or the path of a checkout of 3DDFA_V2: make demo MODEL=PATH/TO/3DDFA_V2")
    shutil.rmtree(OUT, ignore_errors=True)
    checkout = sys.argv[1] if len(sys.argv) == 2 else ""
    model = ["--model", "builtin"]
    if checkout:
        ddfa("--models-dir", OUT / "models", "models", "import", "3ddfa-v2", checkout, "--name", "official")
        model = ["--model", str(OUT / "models/official")]
    pictures(OUT / "images", model)
    ddfa("process", OUT / "images", OUT / "run", "--preview", 100, *model)
    print("\nWhat became of each input:\n")
    print("\n".join(table(ddfa_batch.open(OUT / "run"))))
    sheet = OUT / "run/preview.png"
    print(f"\nLook at {sheet}: meshes, and landmarks in green, red where the head hides them.")
    show(sheet)


if __name__ == "__main__":
    main()
