"""Small files that announce, or become, more than there is memory: a row each, and no process swells."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import hostile_pictures
import peak_memory
import pytest
from command_line import COMMAND, environment

from ddfa_batch.pipeline.results import open_run
from ddfa_batch.schemas.picture_formats import FORMATS

NAMES = (
    *("whole.png", "text.png", "profile.png", "surplus.png", "length.png", "header.jpg", "screen.gif", "frame.gif"),
    *("canvas.webp", "pixels.webp", "header.tif", "strip.tif", "tile.tif", "header.bmp", "runs.bmp", "negative.bmp"),
    *("header.avif", "lying.avif", "header.ppm", "text.pgm", "header.jp2", "heic.avif", "codestream.jp2"),
)
#: Pixels of a picture, and bytes of a process, that the run allows.
PIXELS, MEMORY = 1_000_000, 512 << 20
#: What ends a bomb: the header that is read first, the format's own limits, or those of the decoder's process. The two
#: that are pictures of 8 × 8 pixels, or of few, besides what swells are decoded as such where the decoder drops that.
ENDED = {"too_large", "undecodable", "truncated", "out_of_memory", "not_an_image"}
HARMLESS = {"text.png", "profile.png", "surplus.png", "frame.gif", "lying.avif"}


class Ran:
    """What became of a run over all bombs."""

    def __init__(self, folder: Path, models: Path) -> None:
        (folder / "in").mkdir()
        bombs = hostile_pictures.bombs()
        assert tuple(bombs) == NAMES
        for name, data in bombs.items():
            (folder / "in" / name).write_bytes(data)
            assert len(data) < 2_000_000, name
        words = [COMMAND, "process", folder / "in", folder / "out", "--scheduler", "in-process", "--vertices", "none"]
        words += ["--max-pixels", PIXELS, "--memory-limit", MEMORY, "--formats", ",".join(FORMATS), "--quiet"]
        began = time.monotonic()
        self.code, self.peak = peak_memory.run(words, environment(models, "small"))
        self.seconds = time.monotonic() - began
        rows = open_run(folder / "out").images().to_pylist()
        self.rows: dict[str, dict[str, Any]] = {row["key"]: row for row in rows}


@pytest.fixture(scope="module")
def ran(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return Ran(tmp_path_factory.mktemp("bombs"), models)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_a_row(ran: Ran, name: str) -> None:
    kind = ran.rows[name]["error_kind"]
    assert kind in ENDED or (kind is None and name in HARMLESS), ran.rows[name]


def test_a_thousand_million_pixels_are_refused_by_the_header(ran: Ran) -> None:
    announced = {name for name, row in ran.rows.items() if row["error_kind"] == "too_large"}
    headers = {f"header.{ending}" for ending in ("jpg", "tif", "bmp", "ppm", "jp2")}
    assert announced >= headers | {"whole.png", "screen.gif", "canvas.webp", "negative.bmp"}


def test_no_process_swells_and_none_takes_long(ran: Ran) -> None:
    assert ran.code == 0
    assert ran.peak < MEMORY, f"{ran.peak >> 20} MiB"
    assert ran.seconds < 30
