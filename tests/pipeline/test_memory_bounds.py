"""What a process that works at large photographs takes, at the defaults."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
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


def command(folder: Path, out: Path) -> list[str]:
    return [COMMAND, "process", str(folder), str(out), "--scheduler", "in-process", "--quiet"]


def all_have_a_face(out: Path, n: int) -> None:
    rows = open_run(out).images().to_pylist()
    assert [(row["error_message"], row["n_faces"]) for row in rows] == [(None, 1)] * n


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three of 12 megapixels, whose formats and turn cost copies."""
    with tempfile.TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as name:
        folder, image = Path(name) / "in", portrait(4000, 3000)
        folder.mkdir()
        cv2.imwrite(str(folder / "a.png"), image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        picture, turned = Image.fromarray(image[..., ::-1]), Image.Exif()
        turned[0x0112] = 6
        picture.save(folder / "turned.jpg", exif=turned)
        picture.convert("RGBA").save(folder / "alpha.tiff")
        yield folder


def in_this_process(folder: Path, out: Path) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-c", _LIMITED, str(FOR_12), *command(folder, out)], {}


def by_a_local_worker(folder: Path, out: Path) -> tuple[list[str], dict[str, str]]:
    """The worker sets its limit first of all."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_DATA, ({FOR_12}, {FOR_12}))"
    words = ("--scheduler", "local", "--workers", "1", "--shard-size", "1")  # which come after, and so count
    return [*command(folder, out), *words], {"DASK_DISTRIBUTED__WORKER__PRELOAD": limit}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not count what is mapped as data")
@pytest.mark.parametrize("way", [in_this_process, by_a_local_worker])
def test_pictures_of_12_megapixels_stay_within_a_limit_of_the_system(
    way: Callable[[Path, Path], tuple[list[str], dict[str, str]]], pictures: Path, models: Path, tmp_path: Path
) -> None:
    """RLIMIT_DATA: heap, stacks and private mappings together, touched or not."""
    words, more = way(pictures, tmp_path / "out")
    variables = environment(models, None, **more)
    done = subprocess.run(words, check=False, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    all_have_a_face(tmp_path / "out", 3)


def test_a_picture_of_100_megapixels_takes_what_is_told(models: Path, tmp_path: Path) -> None:
    """As the system counts it. Of a BMP the file takes as much as the pixels, besides."""
    picture = tmp_path / "in/a.bmp"
    picture.parent.mkdir()
    cv2.imwrite(str(picture), portrait(10_000, 10_000))
    code, peak = peak_memory.run(command(picture.parent, tmp_path / "out"), environment(models, None))
    picture.unlink()  # three hundred megabytes
    assert code == 0
    all_have_a_face(tmp_path / "out", 1)
    assert peak < FOR_100, f"{peak >> 20} MiB"
