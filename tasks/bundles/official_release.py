"""A checkout of the official 3DDFA_V2 release to a model bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ddfa_batch.schemas.arrays import F32
from ddfa_batch.schemas.bundle import REGRESSOR, BundleManifest
from ddfa_batch.schemas.detectors import DetectorSpec
from ddfa_batch.schemas.errors import BundleError, InputError
from ddfa_batch.schemas.extras import from_extra
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.bundles.checkpoints import read_arrays
from ddfa_batch.tasks.bundles.model_bundle import Bundle, write_bundle
from ddfa_batch.tasks.files.checksums import sha256
from ddfa_batch.tasks.files.mat_files import read_variables

Array = npt.NDArray[Any]

#: Weights of the release by the short name a bundle gets, best first.
_WEIGHTS = {"mb1": "weights/mb1_120x120.pth", "mb05": "weights/mb05_120x120.pth"}
_DETECTOR = "FaceBoxes/weights/FaceBoxesProd.pth"
_BFM = "configs/bfm_noneck_v3.pkl"
_MEAN_STD = "configs/param_mean_std_62d_120x120.pkl"
_UV, _INDICES, _NCC = "configs/BFM_UV.mat", "configs/indices.npy", "configs/ncc_code.npy"

_SIZE = 120
_N_SHAPE, _N_EXPRESSION = 40, 10
#: Upstream's `vis_thres` and the picture size it scales down to (FaceBoxes.py).
_MIN_SCORE, _FIT = 0.5, (720, 1080)
_LICENCE = (
    "Code and weights: MIT (Jianzhu Guo). Face model: derived from the Basel Face Model 2009, research use "
    "only, no redistribution."
)


def available_weights(checkout: Path) -> list[str]:
    """Short names of the regressors a checkout holds; raises `BundleError` if it is no checkout."""
    if not checkout.is_dir():
        raise BundleError(f"{checkout} is not a folder; give the path of a checkout of 3DDFA_V2.")
    found = [name for name, file in _WEIGHTS.items() if (checkout / file).is_file()]
    if not found:
        raise BundleError(f"{checkout} holds neither {' nor '.join(_WEIGHTS.values())}; is it a checkout of 3DDFA_V2?")
    return found


def import_3ddfa_v2(checkout: Path, weights: str, target: Path) -> Bundle:
    """Make the bundle `target` from a checkout, with the regressor called `weights` (mb05 or mb1).

    Raises `BundleError` naming any file that is missing, damaged, or not what the release has; `MissingPackageError`
    without onnx.
    """
    from_extra("onnx")
    from ddfa_batch.tasks.bundles import onnx_graphs

    regressor = _network(checkout / _WEIGHTS[weights], lambda w: onnx_graphs.mobilenet(w, _SIZE))
    detector = _network(checkout / _DETECTOR, onnx_graphs.faceboxes)
    mean, std = _mean_and_std(checkout / _MEAN_STD)
    morphable = _morphable(checkout)
    sources = [_WEIGHTS[weights], _DETECTOR, _BFM, _MEAN_STD]
    manifest = BundleManifest(
        name=target.name,
        version="1",
        licence=_LICENCE,
        provenance="3DDFA_V2, " + "; ".join(f"{file} sha256 {sha256(checkout / file)}" for file in sources),
        n_shape=_N_SHAPE,
        n_expression=_N_EXPRESSION,
        input_size=_SIZE,
        input_mean=127.5,
        input_std=128.0,
        param_mean=mean,
        param_std=std,
        topology="bfm_noneck_v3",
        default_detector="faceboxes",
        detectors={"faceboxes": DetectorSpec("faceboxes", "detectors/faceboxes.onnx", _MIN_SCORE, _FIT)},
    )
    files = {REGRESSOR: regressor, "detectors/faceboxes.onnx": detector}
    return write_bundle(target, manifest, files, morphable)


def _network(path: Path, build: Any) -> bytes:
    weights = {name.removeprefix("module."): array for name, array in read_arrays(path).items()}
    try:
        return bytes(build(weights))
    except KeyError as fault:
        raise BundleError(f"{path} has no weights {fault}: it is not the network of the release.") from None
    except Exception as fault:  # onnx.checker and numpy on shapes that do not fit together
        reason = str(fault).splitlines()[0][:200]
        raise BundleError(f"{path} does not hold the network of the release ({reason}).") from None


def _mean_and_std(path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    arrays = read_arrays(path)
    _need(path, arrays, "mean", "std")
    size = 12 + _N_SHAPE + _N_EXPRESSION
    for name in ("mean", "std"):
        if arrays[name].size != size:
            raise BundleError(f"{path} has {arrays[name].size} numbers as {name}, the release has {size}.")
    return tuple(map(float, arrays["mean"].ravel())), tuple(map(float, arrays["std"].ravel()))


def _need(path: Path, arrays: dict[str, Array], *names: str) -> None:
    if missing := [name for name in names if name not in arrays]:
        raise BundleError(f"{path} holds no {', '.join(missing)}; is it the file of the release?")


def _morphable(checkout: Path) -> MorphableModel:
    path = checkout / _BFM
    bfm = read_arrays(path)
    _need(path, bfm, "u", "w_shp", "w_exp", "keypoints", "tri")
    try:
        mean = bfm["u"].reshape(-1, 3).astype(np.float32)
        v = mean.shape[0]
        basis = [bfm["w_shp"][:, :_N_SHAPE], bfm["w_exp"][:, :_N_EXPRESSION]]
        rows = np.concatenate(basis, axis=1).astype(np.float32).T.reshape(-1, v, 3)
        return MorphableModel(
            mean=mean,
            basis=np.ascontiguousarray(rows),
            n_shape=_N_SHAPE,
            triangles=_outward(bfm["tri"].T.astype(np.int32), mean),
            landmarks=(bfm["keypoints"].ravel()[::3] // 3).astype(np.int32),
            topology="bfm_noneck_v3",
            unit="micrometre",
            uv=_uv(checkout, v),
            ncc=_ncc(checkout, v),
        )
    except ValueError as fault:
        raise BundleError(f"{path} is not the face model of the release ({fault}).") from None


def _outward(triangles: npt.NDArray[np.int32], mean: F32) -> npt.NDArray[np.int32]:
    """Turn all triangles round if they are clockwise seen from outside (a face looks along +z)."""
    a, b, c = (mean[triangles[:, i]] for i in range(3))
    towards_viewer = np.cross(b - a, c - a)[:, 2].sum()
    return np.ascontiguousarray(triangles if towards_viewer > 0 else triangles[:, ::-1])


def _uv(checkout: Path, n_vertices: int) -> F32 | None:
    """UV of the 53,215-vertex model at the indices of the one without neck; None where not shipped."""
    if not (checkout / _UV).is_file() or not (checkout / _INDICES).is_file():
        return None
    try:
        uv = read_variables(checkout / _UV, ["UV"])["UV"]
        indices = np.load(checkout / _INDICES, allow_pickle=False)
        chosen = np.asarray(uv, np.float32)[indices]
    except (InputError, KeyError, IndexError, ValueError, OSError, EOFError) as fault:
        raise BundleError(f"{checkout / _UV} cannot be read ({fault}); remove it or fetch it again.") from None
    if chosen.shape != (n_vertices, 2):
        raise BundleError(f"{checkout / _UV} has UV of shape {chosen.shape}, not ({n_vertices}, 2).")
    return chosen


def _ncc(checkout: Path, n_vertices: int) -> F32 | None:
    path = checkout / _NCC
    if not path.is_file():
        return None
    try:
        code = np.load(path, allow_pickle=False).astype(np.float32).T
    except (ValueError, OSError, EOFError) as fault:
        raise BundleError(f"{path} cannot be read ({fault}); remove it or fetch it again.") from None
    if code.shape != (n_vertices, 3):
        raise BundleError(f"{path} has a code of shape {code.shape}, not ({n_vertices}, 3).")
    return np.ascontiguousarray(code)
