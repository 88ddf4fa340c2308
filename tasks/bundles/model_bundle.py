"""Model bundles on disk: find, verify, write."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ddfa_batch.schemas.bundle import CARD, MANIFEST, MORPHABLE, BundleManifest, check_name, parse_manifest
from ddfa_batch.schemas.config import BUILTIN, BUILTIN_MODELS
from ddfa_batch.schemas.detectors import DetectorSpec
from ddfa_batch.schemas.errors import BundleError
from ddfa_batch.schemas.morphable import MorphableModel
from ddfa_batch.tasks.bundles.morphable_npz import write_morphable
from ddfa_batch.tasks.files import atomic
from ddfa_batch.tasks.files.checksums import sha256

#: A model.json longer than this is not one.
_MAX_MANIFEST_BYTES = 4 << 20


@dataclass(frozen=True)
class Bundle:
    """A model bundle whose files were found to be those its `model.json` names."""

    #: Where it lies.
    folder: Path
    #: What its `model.json` says.
    manifest: BundleManifest
    #: sha256 of `model.json`, which holds that of every other file: it identifies the model, wherever it lies.
    digest: str

    @property
    def built_in(self) -> bool:
        """Whether it is one of those that come with the package."""
        return self.folder in map(builtin_folder, BUILTIN_MODELS)

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


def builtin_folder(name: str = BUILTIN) -> Path:
    """Where a built-in model, of `BUILTIN_MODELS`, lies: in the package, as it was installed."""
    return Path(__file__).resolve().parents[2] / "models" / name


def find_bundle(name_or_folder: str, models: Path) -> Bundle:
    """Open a bundle by the path of its folder, or by its name: a built-in one's, or of one in the folder `models`.

    The words `builtin` and `builtin-large` always mean the built-in ones, whatever else bears the name: `./builtin` is
    a folder.
    """
    if name_or_folder in BUILTIN_MODELS:
        return _builtin(name_or_folder)
    as_path = Path(name_or_folder)
    if as_path.is_dir():
        return load_bundle(as_path.resolve())
    if (models / name_or_folder / MANIFEST).is_file():
        return load_bundle((models / name_or_folder).resolve())
    have = ", ".join([*BUILTIN_MODELS, *installed(models)])
    raise BundleError(
        f"No model called '{name_or_folder}' in {models} (there is: {have}), and no such folder; "
        "'ddfa-batch models import 3ddfa-v2 PATH' makes one from a checkout of the official release."
    )


def _builtin(name: str) -> Bundle:
    folder = builtin_folder(name)
    try:
        return load_bundle(folder)
    except BundleError as fault:
        reason = str(fault).partition("; ")[0].rstrip(".")
        raise BundleError(
            f"The built-in model '{name}' is not whole in this installation ({reason}); install ddfa-batch again, or "
            "name another model with --model."
        ) from None


def recorded_folder(folder: str, digest: str) -> Path:
    """Where the bundle of a run lies now: where it lay then, or, if it is a built-in one, where that is here.

    A run made with a built-in model can so be read, and gone on with, by another installation of the same package.
    """
    there = Path(folder) / MANIFEST
    if not there.is_file():
        for built_in in (builtin_folder(name) / MANIFEST for name in BUILTIN_MODELS):
            if built_in.is_file() and sha256(built_in) == digest:
                return built_in.parent
    return there.parent


def installed(models: Path) -> list[str]:
    """Names of the bundles in the folder `models`, sorted; the built-in ones are not among them."""
    if not models.is_dir():
        return []
    named = (entry for entry in models.iterdir() if not entry.name.startswith("."))  # half-written ones are hidden
    return sorted(entry.name for entry in named if (entry / MANIFEST).is_file())


def write_bundle(
    target: Path,
    manifest: BundleManifest,
    files: Mapping[str, bytes],
    model: MorphableModel,
    for_people: Mapping[str, bytes] | None = None,
) -> Bundle:
    """Write a bundle to the folder `target`, all of it or nothing, and open it.

    `manifest.files` is filled in here with the sha256 of `files` and of the morphable model; `for_people` (a card) goes
    beside them without one. An existing bundle of that name is replaced.
    """
    check_name(target.name)
    with atomic.whole_folder(target) as work:
        _put(work, files)
        write_morphable(work / MORPHABLE, model)
        digests = {name: sha256(work / name) for name in sorted([*files, MORPHABLE])}
        _put(work, {MANIFEST: replace(manifest, files=digests).to_json().encode(), **(for_people or {})})
        load_bundle(work)
    return load_bundle(target)


def _put(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def unhashed_files(bundle: Bundle) -> dict[str, bytes]:
    """What lies in a bundle's folder besides the files its `model.json` names: its card, and whatever was put there."""
    inside = (path for path in bundle.folder.rglob("*") if path.is_file())
    names = {path.relative_to(bundle.folder).as_posix(): path for path in inside}
    return {name: path.read_bytes() for name, path in names.items() if name not in {MANIFEST, *bundle.manifest.files}}
