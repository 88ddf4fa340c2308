"""What a process that works at large photographs takes, at the defaults."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import peak_memory
import portraits
import pytest
from command_line import COMMAND, environment
from PIL import Image

from ddfa_batch.pipeline.results import open_run

#: Bytes that a process may take for pictures of up to 12 megapixels, and of 100.
FOR_12, FOR_100 = 700 << 20, 1536 << 20
_LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""


def portrait(width: int, height: int) -> np.ndarray:
    image = cv2.imread(str(portraits.astronaut()))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where pictures lie, which are too large to be kept."""
    (tmp_path / "in").mkdir()
    yield tmp_path / "in"
    for picture in (tmp_path / "in").iterdir():
        picture.unlink()


def command(folder: Path) -> list[str]:
    out = folder.parent / "out"
    return [COMMAND, "process", str(folder), str(out), "--scheduler", "in-process", "--quiet"]


def all_have_a_face(folder: Path, n: int) -> None:
    rows = open_run(folder.parent / "out").images().to_pylist()
    assert [(row["error_message"], row["n_faces"]) for row in rows] == [(None, 1)] * n


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not count what is mapped as data")
def test_pictures_of_12_megapixels_stay_within_a_limit_of_the_system(folder: Path, models: Path) -> None:
    """RLIMIT_DATA: heap, stacks and private mappings together, touched or not."""
    image = portrait(4000, 3000)
    cv2.imwrite(str(folder / "a.png"), image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    picture, turned = Image.fromarray(image[..., ::-1]), Image.Exif()
    turned[0x0112] = 6
    picture.save(folder / "turned.jpg", exif=turned)
    picture.convert("RGBA").save(folder / "alpha.tiff")
    limited = [sys.executable, "-c", _LIMITED, str(FOR_12), *command(folder)]
    variables = environment(models, None)
    done = subprocess.run(limited, check=False, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    all_have_a_face(folder, 3)


def test_a_picture_of_100_megapixels_takes_what_is_told(folder: Path, models: Path) -> None:
    """As the system counts it. Of a BMP the file takes as much as the pixels, besides."""
    cv2.imwrite(str(folder / "a.bmp"), portrait(10_000, 10_000))
    code, peak = peak_memory.run(command(folder), environment(models, None))
    assert code == 0
    all_have_a_face(folder, 1)
    assert peak < FOR_100, f"{peak >> 20} MiB"
