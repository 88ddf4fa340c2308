"""Model bundles on disk: find, verify, load, write; and the sessions that run them, once per process."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from ddfa_batch.schemas.bundle import (
    CARD,
    MANIFEST,
    MORPHABLE,
    REGRESSOR,
    BundleManifest,
    check_name,
    parse_manifest,
)
from ddfa_batch.schemas.config import BUILTIN
from ddfa_batch.schemas.detectors import DETECTOR_OUTPUTS, DetectorSpec
from ddfa_batch.schemas.errors import BundleError, ShapeError
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.schemas.parameters import ParameterLayout

#: A morphable.npz may unpack to at most this much; the official model has 25 MB.
_MAX_NPZ_BYTES = 4 << 30
#: A model.json longer than this is not one.
_MAX_MANIFEST_BYTES = 4 << 20


@dataclass(frozen=True)
class Family:
    """A family of detectors that can be added: the outputs of its networks, and how one is described in a bundle."""

    title: str
    outputs: tuple[str, ...]
    spec: DetectorSpec


#: Families by the name `add-detector` takes. The numbers of fcos are measured: `recipes.builtin.detector.make`.
FAMILIES = {
    "yunet": Family(
        "YuNet",
        DETECTOR_OUTPUTS["yunet"],
        DetectorSpec("yunet", "", score_threshold=0.6, fit=(640, 640)),
    ),
    "fcos": Family(
        "detector of this project",
        DETECTOR_OUTPUTS["fcos"],
        DetectorSpec("fcos", "", score_threshold=0.61, fit=(720, 1080), roi_scale=1.432, roi_shift=-0.01),
    ),
}


@dataclass(frozen=True)
class Bundle:
    """A model bundle whose files were found to be those its `model.json` names.

    `digest` is the sha256 of `model.json`, which holds the sha256 of every other file: it identifies the
    model, whatever its name and wherever it lies.
    """

    folder: Path
    manifest: BundleManifest
    digest: str

    @property
    def built_in(self) -> bool:
        """Whether it is the one that comes with the package."""
        return self.folder == builtin_folder()

    @property
    def card(self) -> Path | None:
        """The model card, where there is one."""
        path = self.folder / CARD
        return path if path.is_file() else None

    def detector(self, name: str | None) -> tuple[str, DetectorSpec]:
        """The detector called `name`, or the default one, with its name."""
        chosen = name or self.manifest.default_detector
        if chosen is None or chosen not in self.manifest.detectors:
            have = ", ".join(sorted(self.manifest.detectors)) or "none"
            raise BundleError(
                f"Model '{self.manifest.name}' has no detector '{chosen}' (it has: {have}); add one with "
                f"'ddfa-batch models add-detector', or give boxes with --boxes."
            )
        return chosen, self.manifest.detectors[chosen]


def sha256(path: Path) -> str:
    """The sha256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_bundle(folder: Path) -> Bundle:
    """Open the bundle in `folder` and check every file against `model.json`.

    Raises `BundleError` naming the file that is missing, truncated or altered.
    """
    manifest_path = folder / MANIFEST
    try:
        if manifest_path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise BundleError(f"{manifest_path} is far too large for a model.json.")
        raw = manifest_path.read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{folder} holds no {MANIFEST}: it is not a model bundle.") from None
    except OSError as fault:
        raise BundleError(f"{manifest_path} cannot be read ({fault}).") from None
    manifest = parse_manifest(raw, str(manifest_path))
    for name, digest in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path} is missing; import the model again.")
        if sha256(path) != digest:
            raise BundleError(f"{path} is truncated or was altered (its sha256 differs from {MANIFEST}'s).")
    return Bundle(folder, manifest, hashlib.sha256(raw).hexdigest())


def builtin_folder() -> Path:
    """Where the built-in model lies: in the package, as it was installed."""
    return Path(__file__).resolve().parents[2] / "models" / BUILTIN


def find_bundle(name_or_folder: str, models: Path) -> Bundle:
    """Open a bundle by the path of its folder, or by its name: the built-in one, or one in the folder `models`.

    The word `builtin` always means the built-in one, whatever else bears the name: `./builtin` is a folder.
    """
    if name_or_folder == BUILTIN:
        return _builtin()
    as_path = Path(name_or_folder)
    if as_path.is_dir():
        return load_bundle(as_path.resolve())
    if (models / name_or_folder / MANIFEST).is_file():
        return load_bundle((models / name_or_folder).resolve())
    have = ", ".join([BUILTIN, *installed(models)])
    raise BundleError(
        f"No model called '{name_or_folder}' in {models} (there is: {have}), and no such folder; "
        "'ddfa-batch models import 3ddfa-v2 PATH' makes one from a checkout of the official release."
    )


def _builtin() -> Bundle:
    folder = builtin_folder()
    try:
        return load_bundle(folder)
    except BundleError as fault:
        reason = str(fault).partition("; ")[0].rstrip(".")
        raise BundleError(
            f"The built-in model is not whole in this installation ({reason}); install ddfa-batch again, or name "
            "another model with --model."
        ) from None


def recorded_folder(folder: str, digest: str) -> Path:
    """Where the bundle of a run lies now: where it lay then, or, if it is the built-in one, where that is here.

    A run made with the built-in model can so be read, and gone on with, by another installation of the same package.
    """
    there, built_in = Path(folder) / MANIFEST, builtin_folder() / MANIFEST
    if not there.is_file() and built_in.is_file() and sha256(built_in) == digest:
        return built_in.parent
    return there.parent


def installed(models: Path) -> list[str]:
    """Names of the bundles in the folder `models`, sorted; the built-in one is not among them."""
    if not models.is_dir():
        return []
    return sorted(entry.name for entry in models.iterdir() if (entry / MANIFEST).is_file())


def write_bundle(target: Path, manifest: BundleManifest, files: Mapping[str, bytes], model: MorphableModel) -> Bundle:
    """Write a bundle to the folder `target`, all of it or nothing, and open it.

    `manifest.files` is filled in here. An existing bundle of that name is replaced.
    """
    check_name(target.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for name, content in files.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes(content)
        save_morphable(work / MORPHABLE, model)
        digests = {
            path.relative_to(work).as_posix(): sha256(path) for path in sorted(work.rglob("*")) if path.is_file()
        }
        (work / MANIFEST).write_text(replace(manifest, files=digests).to_json(), encoding="utf-8")
        load_bundle(work)
        _swap(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return load_bundle(target)


def _swap(work: Path, target: Path) -> None:
    """Rename `work` to `target`; an old bundle there is moved aside first and removed last."""
    work.chmod(0o755)
    if not target.exists():
        work.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    target.rename(old / "bundle")
    work.rename(target)
    shutil.rmtree(old)


def add_detector(bundle: Bundle, name: str, kind: str, onnx_file: Path) -> Bundle:
    """Add an ONNX detector of one of the `FAMILIES` to a bundle."""
    family = FAMILIES.get(kind)
    if family is None:
        raise BundleError(f"'{kind}' is not a family of detectors that can be added; there are: {', '.join(FAMILIES)}.")
    check_name(name)
    try:
        content = onnx_file.read_bytes()
    except OSError as fault:
        raise BundleError(f"{onnx_file} cannot be read ({fault.strerror}).") from None
    outputs = {o.name for o in _session(content, str(onnx_file)).get_outputs()}
    if missing := sorted(set(family.outputs) - outputs):
        raise BundleError(f"{onnx_file} is no {family.title}: it has no output {', '.join(missing)}.")
    file = f"detectors/{name}.onnx"
    spec = replace(family.spec, file=file)
    manifest = bundle.manifest
    manifest = replace(
        manifest,
        detectors={**manifest.detectors, name: spec},
        default_detector=manifest.default_detector or name,
    )
    files = {f: (bundle.folder / f).read_bytes() for f in manifest.files if f != MORPHABLE}
    return write_bundle(bundle.folder, manifest, {**files, file: content}, load_morphable(bundle))


def save_morphable(path: Path, model: MorphableModel) -> None:
    """Write a morphable model as an npz of plain arrays."""
    arrays: dict[str, Any] = {
        "mean": model.mean, "shape_basis": model.basis[: model.n_shape],
        "expression_basis": model.basis[model.n_shape :], "triangles": model.triangles,
        "landmarks": model.landmarks, "topology": np.array(model.topology), "unit": np.array(model.unit),
    }  # fmt: skip
    if model.uv is not None:
        arrays["uv"] = model.uv
    if model.ncc is not None:
        arrays["ncc"] = model.ncc
    np.savez(path, **arrays)


def load_morphable(bundle: Bundle) -> MorphableModel:
    """Read the morphable model of a bundle, once per process; pickled arrays and zip bombs are refused."""
    return _morphable(bundle.folder / MORPHABLE, bundle.digest, bundle.manifest.layout)


@lru_cache(maxsize=2)
def _morphable(path: Path, _: str, layout: ParameterLayout) -> MorphableModel:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > _MAX_NPZ_BYTES:
                raise BundleError(f"{path} unpacks to more than {_MAX_NPZ_BYTES >> 30} GiB.")
        with np.load(path, allow_pickle=False) as npz:
            arrays = {name: npz[name] for name in npz.files}
        model = MorphableModel(
            mean=arrays["mean"].astype(np.float32),
            basis=np.concatenate([arrays["shape_basis"], arrays["expression_basis"]]).astype(np.float32),
            n_shape=int(arrays["shape_basis"].shape[0]),
            triangles=arrays["triangles"].astype(np.int32),
            landmarks=arrays["landmarks"].astype(np.int32),
            topology=str(arrays["topology"]),
            unit=str(arrays["unit"]),
            uv=arrays["uv"].astype(np.float32) if "uv" in arrays else None,
            ncc=arrays["ncc"].astype(np.float32) if "ncc" in arrays else None,
        )
    except BundleError:
        raise
    except KeyError as fault:
        raise BundleError(f"{path} has no array {fault}; import the model again.") from None
    except (OSError, ValueError, zipfile.BadZipFile, ShapeError) as fault:
        raise BundleError(f"{path} holds no morphable model ({fault}).") from None
    if model.layout != layout:
        raise BundleError(
            f"{path} has {model.layout.n_shape} + {model.layout.n_expression} coefficients, {MANIFEST} says "
            f"{layout.n_shape} + {layout.n_expression}."
        )
    return model


def _session(content: bytes, source: str) -> ort.InferenceSession:
    """A single-threaded CPU session. The model comes as bytes, so it cannot pull in files beside it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as fault:  # onnxruntime's own exceptions share no base class
        raise BundleError(f"{source} is not a network onnxruntime can run ({_first_line(fault)}).") from None


def _first_line(fault: Exception) -> str:
    return (str(fault).splitlines() or [type(fault).__name__])[0][:200]


@dataclass(frozen=True)
class LoadedModel:
    """A bundle with its morphable model in memory and its sessions open. Lives in one process."""

    bundle: Bundle
    morphable: MorphableModel
    regressor: ort.InferenceSession

    def detector_session(self, spec: DetectorSpec) -> ort.InferenceSession:
        """Open the network of a detector."""
        path = self.bundle.folder / spec.file
        return _session(path.read_bytes(), str(path))


@lru_cache(maxsize=2)
def loaded_model(folder: str, digest: str) -> LoadedModel:
    """The model in `folder`, loaded once per process; `digest` is what the run was planned with."""
    bundle = load_bundle(recorded_folder(folder, digest))
    if bundle.digest != digest:
        raise BundleError(
            f"The model in {folder} is not the one this run was planned with (its model.json changed); "
            "put the old one back, or start again with --overwrite."
        )
    path = bundle.folder / REGRESSOR
    return LoadedModel(bundle, load_morphable(bundle), _session(path.read_bytes(), str(path)))
