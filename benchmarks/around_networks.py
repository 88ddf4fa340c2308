"""What a picture costs besides its networks: they answer from memory, and what is done before and after is timed.

    python benchmarks/around_networks.py FOLDER [--model NAME --detector NAME --refine 0]

Told are microseconds of this thread a picture, the least of `--rounds`: finding faces (scaling, planes, boxes, crops,
scores, poses), their geometry, and decoding. A digest of all answers tells whether two versions give the same.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddfa_batch.commands.model_choice import default_models_folder
from ddfa_batch.pipeline.cluster import one_thread_each
from ddfa_batch.pipeline.context import ModelContext, model_context
from ddfa_batch.pipeline.faces import found_faces, geometry, image_faces
from ddfa_batch.pipeline.process_request import resolved_options
from ddfa_batch.schemas.arrays import U8
from ddfa_batch.schemas.config import BUILTIN, FaceOptions
from ddfa_batch.schemas.faces import Faces
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.files import guarded_images
from ddfa_batch.tasks.files.format_signatures import SUFFIXES
from ddfa_batch.tasks.geometry.picture import Picture
from ddfa_batch.tasks.inference import faceboxes, fcos, network_answers, regressor


class Memory:
    """Takes the networks' place: answers as they do the first time, and from memory when it is rewound."""

    def __init__(self) -> None:
        self._real, self._known = network_answers.answers, list[Any]()
        self._next: Iterator[Any] | None = None
        for module in (fcos, faceboxes, regressor):
            module.answers = self  # type: ignore[attr-defined]

    def __call__(self, *call: Any) -> Any:
        """What a network answers."""
        if self._next is not None:
            return next(self._next)
        self._known.append(self._real(*call))
        return self._known[-1]

    def rewind(self) -> None:
        """From now on the answers so far are given again, in their order."""
        self._next = iter(self._known)


def all_faces(context: ModelContext, pictures: Sequence[U8]) -> Faces:
    """The faces of pictures, as a shard's first stage finds them."""
    parts = []
    for number, pixels in enumerate(pictures):
        picture = Picture.of(pixels)
        if len(found := found_faces(context, picture)):
            parts.append(image_faces(found, picture, number))
    return Faces.concatenate(parts, context.n_params)


def least(rounds: int, work: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    """Seconds of this thread that `work` takes, the least of so many rounds."""
    spent = []
    for _ in range(rounds):
        before()
        start = time.thread_time()
        work()
        spent.append(time.thread_time() - start)
    return min(spent)


def main() -> None:
    """Measure, and print a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default=BUILTIN)
    parser.add_argument("--detector")
    parser.add_argument("--refine", type=int, default=1)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=15)
    a = parser.parse_args()
    bundle = find_bundle(a.model, default_models_folder())
    options = resolved_options(FaceOptions(detector=a.detector, refine=a.refine), bundle)
    context = model_context(str(bundle.folder), bundle.digest, options)
    files = sorted(path for path in a.folder.rglob("*") if path.suffix.lower() in SUFFIXES)[: a.pictures]
    data, memory = [path.read_bytes() for path in files], Memory()

    def decode() -> list[U8]:
        return [guarded_images.decode(each, options.max_pixels, options.formats) for each in data]

    with one_thread_each():
        pictures = decode()
        faces = all_faces(context, pictures)
        meaning = geometry(context, faces.params, faces.roi)
        gc.disable()  # as in a run
        seconds = {
            "finding": least(a.rounds, lambda: all_faces(context, pictures), memory.rewind),
            "geometry": least(a.rounds, lambda: geometry(context, faces.params, faces.roi)),
            "decoding": least(a.rounds, decode),
        }
    columns = [*vars(faces).values(), *vars(meaning).values()]
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(column).tobytes() for column in columns))
    words = ", ".join(f"{name} {1e6 * spent / len(files):.0f} µs" for name, spent in seconds.items())
    print(f"{words} a picture; {len(faces)} faces, digest {digest.hexdigest()[:12]}")


if __name__ == "__main__":
    main()
