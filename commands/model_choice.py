"""Which model a command uses: the one that was named, that of a run's record, or the one that comes along."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import platformdirs

from ddfa_batch.commands.json_events import EVENTS
from ddfa_batch.schemas.config import BUILTIN, BUILTIN_MODELS
from ddfa_batch.schemas.errors import BundleError

if TYPE_CHECKING:
    from ddfa_batch.tasks.bundles.model_bundle import Bundle
    from ddfa_batch.tasks.files.run_folders import Named


def default_models_folder() -> Path:
    """Where models are imported to, unless --models-dir or DDFA_BATCH_MODELS says otherwise."""
    return Path(platformdirs.user_data_dir("ddfa-batch", appauthor=False)) / "models"


@dataclass(frozen=True)
class ModelChoice:
    """The model a command uses, and why."""

    #: The model.
    bundle: Bundle
    #: Folder of the run whose record chose it, where none was named.
    record: Named | None = None

    def announce(self, quiet: bool, *more: str) -> Bundle:
        """Say in one line, where errors go, which model it is and what `more` there is to tell; give the bundle."""
        if quiet:
            return self.bundle
        sentence = self._sentence(more)
        if not EVENTS.model(self.bundle.manifest.name, sentence):
            click.echo(sentence, err=True)
        return self.bundle

    def _sentence(self, more: tuple[str, ...]) -> str:
        from ddfa_batch.tasks.bundles.loaded_model import load_morphable

        manifest, built_in = self.bundle.manifest, self.bundle.built_in
        where = f"ddfa_batch/models/{manifest.name}" if built_in else str(self.bundle.folder)
        vertices = load_morphable(self.bundle).n_vertices
        parts = [where, f"{manifest.layout.size} parameters", f"{vertices:,} vertices", *more]
        line = f"Model: {manifest.name} ({', '.join(parts)})"
        if self.record is not None and not built_in:
            line += f"; {self.record} was made with it, though the default is {BUILTIN}"
        return line


def choose_model(models_folder: Path, name: str | None, *records: Named | None) -> ModelChoice:
    """The model that was named; else that of the first of `records` which is the folder of a run; else `BUILTIN`.

    A run's own record decides, so that what was begun with another model can be gone on with.
    """
    from ddfa_batch.tasks.bundles.model_bundle import find_bundle
    from ddfa_batch.tasks.files.run_folders import run_folder_at
    from ddfa_batch.tasks.files.run_records import has_record

    for record in records if name is None else ():
        if record is not None and has_record(run_folder_at(record)):
            return ModelChoice(_recorded_bundle(record), record)
    return ModelChoice(find_bundle(name or BUILTIN, models_folder))


def _recorded_bundle(record: Named) -> Bundle:
    from ddfa_batch.pipeline.plan import read_run
    from ddfa_batch.tasks.bundles.model_bundle import load_bundle, recorded_folder

    planned = read_run(record).model
    try:
        return load_bundle(recorded_folder(planned.folder, planned.digest))
    except BundleError as fault:
        raise BundleError(
            f"{record} was made with the model '{planned.name}', which cannot be used: {fault} If it was "
            "moved, name its folder with --model."
        ) from None


def refuse_builtin(name: str, what: str) -> None:
    """Raise where a user's model would bear a built-in one's name."""
    if name in BUILTIN_MODELS:
        raise BundleError(f"'{name}' is the name of the model that comes with the package; choose another {what}.")
