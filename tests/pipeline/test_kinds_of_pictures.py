"""However a picture is stored, its landmarks are those of the plain one: through `process` and the built-in model."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import portraits
import pytest
from PIL import Image, PngImagePlugin
from turned_pictures import exif, stored, xmp

import ddfa_batch

#: Pixels that a landmark may move: what lossy codecs change.
NEAR = 0.5
PLAIN = cv2.imread(str(portraits.astronaut()))[20:260, 100:340]
RGB = Image.fromarray(PLAIN[..., ::-1].copy())
GREY = RGB.convert("L")
PALETTE = RGB.quantize(256)
#: Opaque, half and not at all, the face in all three.
ALPHA = np.repeat(np.array([255, 120, 0], np.uint8), (90, 30, 120))[:, None].repeat(PLAIN.shape[1], axis=1)
#: How pictures are saved whose orientation is told.
LOSSLESS = {"png": {}, "webp": {"lossless": True}, "tiff": {"compression": "tiff_lzw"}}
LOSSY = {"jpg": {"quality": 98, "subsampling": 0}, "avif": {"quality": 100, "subsampling": "4:4:4", "speed": 10}}


def write_turned(folder: Path, suffix: str, orientation: int, tells: str) -> None:
    """Write the picture so that EXIF, XMP, or both, tell how it is meant."""
    picture = Image.fromarray(stored(PLAIN, orientation)[..., ::-1].copy())
    told: dict[str, object] = dict((LOSSLESS | LOSSY)[suffix])
    of_tiff: dict[int, object] = {}
    if "exif" in tells:
        told["exif"], of_tiff[0x0112] = exif(orientation), orientation
    if "xmp" in tells:
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp(orientation).decode())
        told["pnginfo"], told["xmp"], of_tiff[700] = info, xmp(orientation), xmp(orientation)
    if suffix == "tiff":  # Pillow writes its tags this way alone
        told = dict(LOSSLESS["tiff"]) | {"tiffinfo": of_tiff}
    picture.save(folder / f"{tells}-{orientation}.{suffix}", **told)  # type: ignore[arg-type]


def write_kinds(folder: Path) -> None:
    """Write the picture in every depth, number of colours and kind of alpha."""
    deep = PLAIN.astype(np.uint16) * 257
    for suffix in ("png", "tiff"):
        cv2.imwrite(str(folder / f"16-bit.{suffix}"), deep)
        cv2.imwrite(str(folder / f"16-bit-alpha.{suffix}"), np.dstack([deep, ALPHA.astype(np.uint16) * 257]))
        cv2.imwrite(str(folder / f"16-bit-grey.{suffix}"), np.asarray(GREY).astype(np.uint16) * 257)
    transparent = RGB.convert("RGBA")
    transparent.putalpha(Image.fromarray(ALPHA))
    for suffix, how in (LOSSLESS | {"bmp": {}}).items():
        transparent.save(folder / f"alpha.{suffix}", **how, **({"exact": True} if suffix == "webp" else {}))
        GREY.save(folder / f"grey.{suffix}", **how)
    grey_alpha = GREY.convert("LA")
    grey_alpha.putalpha(Image.fromarray(ALPHA))
    grey_alpha.save(folder / "grey-alpha.png")
    GREY.save(folder / "grey.jpg", **LOSSY["jpg"])
    GREY.save(folder / "white-is-zero.tiff", tiffinfo={262: 0})
    RGB.convert("CMYK").save(folder / "cmyk.jpg", **LOSSY["jpg"])
    RGB.convert("CMYK").save(folder / "cmyk.tiff")
    for suffix in ("png", "gif", "bmp", "tiff"):
        PALETTE.save(folder / f"palette.{suffix}")
    PALETTE.save(folder / "palette-transparent.png", transparency=3)


#: What tells the orientation, in which files, and which orientations are tried.
TOLD = {
    "exif": (("jpg", "png", "webp", "avif", "tiff"), range(1, 9)),
    "xmp": (("jpg", "webp", "avif"), (5, 8)),
    "exif+xmp": (("jpg", "tiff"), (2, 6)),
}
TURNED = [(suffix, n, tells) for tells, (suffixes, some) in TOLD.items() for suffix in suffixes for n in some]
KINDS = {
    "plain.png": ["16-bit.png", "16-bit.tiff", "16-bit-alpha.png", "16-bit-alpha.tiff", "cmyk.jpg", "cmyk.tiff"]
    + [f"alpha.{suffix}" for suffix in ("png", "webp", "tiff", "bmp")],
    "plain-grey.png": ["16-bit-grey.png", "16-bit-grey.tiff", "grey-alpha.png", "grey.jpg", "white-is-zero.tiff"]
    + [f"grey.{suffix}" for suffix in ("png", "webp", "tiff", "bmp")],
    "plain-palette.png": [f"palette.{suffix}" for suffix in ("png", "gif", "bmp", "tiff")]
    + ["palette-transparent.png"],
}


@pytest.fixture(scope="module")
def landmarks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """x and y (68, 2) of the face in every file."""
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "in").mkdir()
    for plain, picture in zip(KINDS, (RGB, GREY, PALETTE), strict=True):
        picture.convert("RGB").save(folder / "in" / plain)
    write_kinds(folder / "in")
    for suffix, orientation, tells in TURNED:
        write_turned(folder / "in", suffix, orientation, tells)
    results = ddfa_batch.process(folder / "in", folder / "out", vertices="none", workers=1)
    faces = results.faces().to_pandas().set_index("key")
    assert faces.index.is_unique
    return {key: np.stack(points).reshape(68, 3)[:, :2] for key, points in faces.landmarks68.items()}


def moved(landmarks: dict[str, np.ndarray], keys: list[str], plain: str) -> dict[str, float]:
    """How many pixels the landmark goes that goes farthest, of each file."""
    return {key: float(np.linalg.norm(landmarks[key] - landmarks[plain], axis=1).max()) for key in keys}


def test_colours_depth_and_palettes_leave_the_face_where_it_is(landmarks: dict[str, np.ndarray]) -> None:
    """Grey is not what colour is to the model, nor are 256 colours: both are held against the same pixels."""
    for plain, keys in KINDS.items():
        far = moved(landmarks, keys, plain)
        assert max(far.values()) <= NEAR, far


@pytest.mark.parametrize("tells", TOLD)
def test_turned_pictures_have_the_face_of_the_upright_one(tells: str, landmarks: dict[str, np.ndarray]) -> None:
    keys = [f"{tells}-{orientation}.{suffix}" for suffix, orientation, told in TURNED if told == tells]
    far = moved(landmarks, keys, "plain.png")
    assert max(far.values()) <= NEAR, far


@pytest.mark.parametrize("kind", ["plain-grey.png", "plain-palette.png"])
def test_fewer_colours_move_a_face_by_less_than_a_pixel(kind: str, landmarks: dict[str, np.ndarray]) -> None:
    assert moved(landmarks, [kind], "plain.png")[kind] < 1
