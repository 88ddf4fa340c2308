"""Small films of real faces for whole runs: two portraits that pass each other, for the built-in model to follow."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import portraits

from ddfa_batch.schemas.arrays import U8

#: Pixels of a frame, and of a portrait in it; frames of a film.
WIDTH, HEIGHT, TILE = 400, 300, 130
N_FRAMES = 40


@cache
def _tiles() -> tuple[U8, U8]:
    astronaut, hopper = cv2.imread(str(portraits.astronaut())), cv2.imread(str(portraits.hopper()))
    heads = astronaut[20:240, 110:330], hopper[80:400, 110:430]
    first, second = (cv2.resize(head, (TILE, TILE), interpolation=cv2.INTER_AREA) for head in heads)
    return np.asarray(first, np.uint8), np.asarray(second, np.uint8)


def picture(number: int, n_frames: int = N_FRAMES) -> U8:
    """A frame: one portrait goes from left to right above, the other from right to left below."""
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    image[::20] = 110
    way = round((WIDTH - TILE) * number / max(n_frames - 1, 1))
    first, second = _tiles()
    image[10 : 10 + TILE, way : way + TILE] = first
    image[160 : 160 + TILE, WIDTH - TILE - way : WIDTH - way] = second
    return image


def write(path: Path, n_frames: int = N_FRAMES, shown: range | None = None) -> Path:
    """The film at 25 frames a second, a keyframe every 10; `shown`: only these of its pictures."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = 10
        for number in shown or range(n_frames):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number, n_frames), format="bgr24")))
        file.mux(stream.encode(None))
    return path


def write_close_up(path: Path, n_frames: int = 12) -> Path:
    """A face that fills the picture and moves to and fro by a third of its size: a quick head at 6 frames a second."""
    portrait = cv2.imread(str(portraits.astronaut()))
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=6)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(n_frames):
            left, top = 140 + (number % 2) * 36, 30 + (number // 2 % 2) * 30
            image = cv2.resize(portrait[top : top + 141, left : left + 188], (WIDTH, HEIGHT))
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        file.mux(stream.encode(None))
    return path


def animation(path: Path, n_frames: int) -> Path:
    """The film's first pictures as an animated GIF or WebP, or a still where there is one only."""
    from PIL import Image

    frames = [Image.fromarray(picture(number)[:, :, ::-1]) for number in range(n_frames)]
    frames[0].save(path, save_all=n_frames > 1, append_images=frames[1:], duration=40)
    return path
