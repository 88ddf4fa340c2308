"""Large JPEGs are decoded no larger than their faces need, and give what they give decoded in full."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from portraits import astronaut

import ddfa_batch
from ddfa_batch.pipeline.context import ModelContext, model_context
from ddfa_batch.pipeline.faces import found_faces
from ddfa_batch.pipeline.process_request import resolved_options
from ddfa_batch.schemas.config import BUILTIN, FaceOptions
from ddfa_batch.schemas.errors import RunFolderError
from ddfa_batch.tasks.bundles.model_bundle import find_bundle
from ddfa_batch.tasks.files import guarded_images
from ddfa_batch.tasks.geometry.picture import Picture
from ddfa_batch.tasks.geometry.reconstruct import points

LIMIT = 10**8


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ModelContext:
    bundle = find_bundle(BUILTIN, tmp_path_factory.mktemp("none"))
    return model_context(str(bundle.folder), bundle.digest, resolved_options(FaceOptions(), bundle))


def jpeg(side: int, portrait_side: int | None = None) -> bytes:
    """A square JPEG of `side` pixels: the portrait, or grey with the portrait in its middle, `portrait_side` large."""
    picture = np.full((side, side, 3), 90, np.uint8)
    inner = portrait_side or side
    begin = (side - inner) // 2
    portrait = cv2.resize(cv2.imread(str(astronaut())), (inner, inner), interpolation=cv2.INTER_CUBIC)
    picture[begin : begin + inner, begin : begin + inner] = portrait
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])[1])


def looked_at(context: ModelContext, picture: Picture) -> tuple[np.ndarray, int]:
    """Landmarks (N, 68, 3), and the reduction that they come from."""
    found = found_faces(context, picture)
    return points(context.landmarks, found.params, found.rois, context.size), picture.reduction


def test_a_large_face_is_found_in_reduced_pixels_where_it_is_in_all(context: ModelContext) -> None:
    data = jpeg(2000)
    reduced, reduction = looked_at(context, guarded_images.picture(data, LIMIT))
    full, _ = looked_at(context, Picture.of(guarded_images.decode(data, LIMIT)))
    assert reduction == 2
    assert reduced.shape == full.shape == (1, 68, 3)
    face_size = float(np.ptp(full[0, :, 0]))
    assert np.linalg.norm(reduced - full, axis=2).max() < 0.005 * face_size


def test_a_small_face_is_looked_at_in_full(context: ModelContext) -> None:
    data = jpeg(2000, 300)
    reduced, reduction = looked_at(context, guarded_images.picture(data, LIMIT))
    full, _ = looked_at(context, Picture.of(guarded_images.decode(data, LIMIT)))
    assert reduction == 1
    assert len(reduced) == len(full) == 1
    assert np.linalg.norm(reduced - full, axis=2).max() < 1


def test_a_run_tells_how_it_decoded_and_full_sizes(tmp_path: Path) -> None:
    (tmp_path / "large.jpg").write_bytes(jpeg(1600))
    for decode in ("scaled", "full"):
        out = tmp_path / decode
        run = ddfa_batch.process(tmp_path / "large.jpg", out, decode=decode, vertices="none")
        options = json.loads((out / "run.json").read_text())["identity"]["options"]
        assert options.get("decode", "full") == decode  # as of runs that were made before there was a choice
        images = run.images()
        assert (images["width"][0].as_py(), images["height"][0].as_py()) == (1600, 1600)
        assert images["n_faces"][0].as_py() == 1


def test_a_run_begun_otherwise_is_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "small.jpg").write_bytes(jpeg(128))
    ddfa_batch.process(tmp_path / "small.jpg", tmp_path / "out", vertices="none")
    with pytest.raises(RunFolderError, match=r"decode \(there full, asked for scaled\)"):
        ddfa_batch.process(tmp_path / "small.jpg", tmp_path / "out", decode="scaled", vertices="none")
