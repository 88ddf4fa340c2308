"""The private reference files in miniature, drawn: what the recipe of the built-in model reads, laid out as there.

A face is a magenta ellipse on noise, and its labels are exact: the points of the built-in face model, posed. The
official release's net answers the mean face, upright in the middle of its crop, and its face model is the built-in one
in micrometres.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import drawn_makehuman
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import upstream_files

from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.bundles.loaded_model import load_morphable
from ddfa_batch.tasks.bundles.model_bundle import builtin_folder, load_bundle
from ddfa_batch.tasks.fitting.fit_basis import AFLW21
from ddfa_batch.tasks.geometry import pose

MAGENTA = (255, 0, 255)
#: Crops of AFLW; every third has AFLW's 21 points only. The first is a photograph of AFLW2000-3D under another name.
N_CROPS = 40
DUPLICATE = "image00000.jpg"
N_PORTRAITS, N_PHOTOGRAPHS = 24, 4


def make(folder: Path) -> Path:
    """Write all of it below `folder`."""
    model = load_morphable(load_bundle(builtin_folder()))
    data = folder / "data"
    _release(folder / "upstream/3DDFA_V2", model)
    drawn_makehuman.write(folder / "upstream/makehuman")
    _crops(data / "aflw_train", model)
    _portraits(data / "youtube_faces", model)
    _photographs(data / "aflw2000_dev", model)
    _people(data)
    return folder


def faces(model: MorphableModel, n: int, side: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (n, side, side, 3) and points (n, 68, 3) of faces that fill some half of them."""
    rng = np.random.default_rng(seed)
    alpha = rng.normal(size=(n, len(model.basis))) * 0.5
    alpha[:, model.n_shape :] = np.abs(alpha[:, model.n_shape :]) * 0.2
    shapes = model.mean[model.landmarks] + np.einsum("nk,klc->nlc", alpha, model.basis[:, model.landmarks])
    turned = shapes @ pose.rotation_matrix(*(rng.uniform(-8, 8, n) for _ in range(3))).transpose(0, 2, 1)
    points = turned * [1, -1, 1] * (0.0032 * side)
    points[..., :2] += side / 2 - points[..., :2].mean(axis=1, keepdims=True) + rng.uniform(-3, 3, (n, 1, 2))
    pictures = rng.integers(0, 120, (n, side, side, 3)).astype(np.uint8)
    for picture, face in zip(pictures, points, strict=True):
        low, high = face[:, :2].min(axis=0), face[:, :2].max(axis=0)
        centre, half = (low + high) / 2, (high - low) / 2
        cv2.ellipse(picture, tuple(map(int, centre)), tuple(map(int, half)), 0, 0, 360, MAGENTA, -1)
    return pictures, points


def jpeg(picture: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def lists(rows: np.ndarray, kind: type = np.float32) -> pa.Array:
    flat = np.ascontiguousarray(rows, kind).reshape(len(rows), -1)
    return pa.FixedSizeListArray.from_arrays(flat.ravel(), flat.shape[1])


def _release(folder: Path, model: MorphableModel) -> None:
    upstream_files.checkout(folder)
    weights = upstream_files.mobilenet_weights(np.random.default_rng(0))
    weights["fc_param.weight"] *= 0  # the mean face, whatever it sees
    (folder / "weights/mb05_120x120.pth").write_bytes(upstream_files.legacy_checkpoint(weights, "module."))
    bases = 1e3 * model.basis.reshape(len(model.basis), -1).T
    bfm = {
        "u": 1e3 * model.mean.reshape(-1, 1),
        "tri": model.triangles.T.copy(),
        "w_shp": bases[:, : model.n_shape].copy(),
        "w_exp": bases[:, model.n_shape :].copy(),
        "keypoints": (model.landmarks[:, None] * 3 + np.arange(3)).ravel().astype(np.int64),
    }
    (folder / "configs/bfm_noneck_v3.pkl").write_bytes(pickle.dumps(bfm, 4))
    scale = 5.66e-4  # pixels of the crop a micrometre
    mean = np.array([scale, 0, 0, 60, 0, scale, 0, 84, 0, 0, scale, 0, *[0] * 50], np.float32)
    std = np.array([1e-5] * 3 + [3] + [1e-5] * 3 + [3] + [1e-5] * 3 + [3] + [1] * 50, np.float32)
    statistics = {"mean": mean, "std": std}
    (folder / "configs/param_mean_std_62d_120x120.pkl").write_bytes(pickle.dumps(statistics, 3))


def _crops(folder: Path, model: MorphableModel) -> None:
    folder.mkdir(parents=True)
    pictures, points = faces(model, N_CROPS, 120, 1)
    labelled = np.arange(N_CROPS) % 3 != 2
    pts68 = np.where(labelled[:, None, None], points[..., :2], np.nan)
    pts21 = np.full((N_CROPS, 21, 2), np.nan)
    for i, members in enumerate(AFLW21):
        if members:
            pts21[:, i] = points[:, list(members), :2].mean(axis=1)
    names = [f"image{i:05d}.jpg" for i in range(N_CROPS)]
    columns = {
        "name": names,
        "jpeg": [jpeg(picture) for picture in pictures],
        "yaw_deg": pa.array(np.zeros(N_CROPS, np.float32)),
        "pts68": lists(pts68),
        "vis68": lists(np.where(labelled[:, None], 1, 0).repeat(68, axis=1), np.int8),
        "pts21": lists(pts21),
    }
    pq.write_table(pa.table(columns), folder / "part-000.parquet")
    (folder / "duplicates.txt").write_text(DUPLICATE + "\n")


def _portraits(folder: Path, model: MorphableModel) -> None:
    folder.mkdir(parents=True)
    pictures, points = faces(model, N_PORTRAITS, 160, 2)
    names = [f"person_{i}_0.jpg" for i in range(N_PORTRAITS)]
    columns = {"name": names, "jpeg": [jpeg(p) for p in pictures], "pts68": lists(points[..., :2])}
    pq.write_table(pa.table(columns), folder / "frames.parquet")


def _photographs(folder: Path, model: MorphableModel) -> None:
    folder.mkdir(parents=True)
    pictures, points = faces(model, N_PHOTOGRAPHS, 320, 3)
    names = [f"image{i:05d}.jpg" for i in range(90000, 90000 + N_PHOTOGRAPHS)]
    for name, picture in zip(names, pictures, strict=True):
        (folder / name).write_bytes(jpeg(picture))
    matlab = points + 1
    columns = {
        "name": names,
        "yaw_deg": pa.array(np.array([5, 20, 45, 75], np.float32)),
        "pts68": lists(matlab.transpose(0, 2, 1)),
        "pts68_reannotated": lists(matlab[..., :2].transpose(0, 2, 1)),
        "pose_para": lists(np.zeros((N_PHOTOGRAPHS, 7))),
        "shape_para": lists(np.zeros((N_PHOTOGRAPHS, 199))),
        "exp_para": lists(np.zeros((N_PHOTOGRAPHS, 29))),
    }
    pq.write_table(pa.table(columns), folder / "labels.parquet")


def _people(data: Path) -> None:
    rng = np.random.default_rng(4)
    for name in ("crowds/01.jpg", "crowds/10.jpg", "boxes_dlib/dogs.jpg"):
        picture = rng.integers(0, 120, (200, 260, 3)).astype(np.uint8)
        for x in (70, 180):
            cv2.ellipse(picture, (x, 100), (35, 40), 0, 0, 360, MAGENTA, -1)
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(jpeg(picture))
    box = "<box top='60' left='35' width='70' height='80'/>"
    for file in ("training.xml", "testing.xml"):
        text = f"<dataset><images><image file='dogs.jpg'>{box}</image></images></dataset>"
        (data / "boxes_dlib" / file).write_text(text)
