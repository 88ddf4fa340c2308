"""`ddfa-batch models`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddfa_batch.commands.model_choice import refuse_builtin
from ddfa_batch.commands.options import PATH
from ddfa_batch.schemas.config import BUILTIN, BUILTIN_MODELS
from ddfa_batch.schemas.errors import BundleError

if TYPE_CHECKING:
    from ddfa_batch.schemas.detectors import DetectorSpec
    from ddfa_batch.tasks.bundles.model_bundle import Bundle


@click.group()
def models() -> None:
    """Import, list, show and verify model bundles.

    A bundle is a folder: model.json (who made it, how its numbers are meant, the sha256 of every file), the
    regressor and detectors as ONNX, and the morphable face model. One comes with the package, as 'builtin'.
    """


@models.command("import")
@click.argument("release", type=click.Choice(["3ddfa-v2"]))
@click.argument("checkout", type=PATH)
@click.option("--weights", type=click.Choice(["mb1", "mb05"]), help="Which regressor; default: all there are.")
@click.option("--name", metavar="NAME", help="The bundle's name.  [default: 3ddfa-v2-mb1, 3ddfa-v2-mb05]")
@click.pass_obj
def import_(models_folder: Path, /, release: str, checkout: Path, weights: str | None, name: str | None) -> None:
    """Make model bundles from a checkout of the official release.

    The checkpoints and pickles are read without being executed. The face model derives from BFM 2009: research
    use only, and it stays on your machine.

    \b
    Example:  git clone https://github.com/cleardusk/3DDFA_V2
              ddfa-batch models import 3ddfa-v2 ./3DDFA_V2
    """
    from ddfa_batch.tasks.bundles import official_release

    if name is not None:
        refuse_builtin(name, "--name")
    found = official_release.available_weights(checkout)
    if weights is not None and weights not in found:
        raise BundleError(f"{checkout} has no weights called {weights} (it has: {', '.join(found)}).")
    chosen = [weights] if weights else found[:1] if name else found
    for each in chosen:
        bundle = official_release.import_3ddfa_v2(checkout, each, models_folder / (name or f"{release}-{each}"))
        click.echo(f"Imported {bundle.manifest.name} to {bundle.folder}")
    click.echo(f"Licence: {bundle.manifest.licence}")
    click.echo(f"Next:    ddfa-batch process ./images out/ --model {bundle.manifest.name}")


@models.command("list")
@click.pass_obj
def list_(models_folder: Path, /) -> None:
    """List the installed models.

    \b
    Example:  ddfa-batch models list
    """
    from ddfa_batch.tasks.bundles.model_bundle import builtin_folder, installed

    own = installed(models_folder)
    known = {name: models_folder / name for name in own} | {name: builtin_folder(name) for name in BUILTIN_MODELS}
    known = {name: known[name] for name in (*BUILTIN_MODELS, *own)}
    for name, where in known.items():
        click.echo("\n".join(_listed(name, where)))
    for name in sorted(set(own) & set(BUILTIN_MODELS)):
        click.echo(f"Hidden by its name: {models_folder / name}; give it another name, or its folder to --model.")


def _listed(name: str, folder: Path) -> list[str]:
    """What the list says of one model."""
    from ddfa_batch.tasks.bundles.model_bundle import load_bundle

    try:
        manifest = load_bundle(folder).manifest
    except BundleError as fault:
        return [f"{name:24}  broken: {fault}"]
    detectors = ", ".join(manifest.detectors) or "none"
    default = "; used where no model is named" if name == BUILTIN else ""
    return [
        f"{name:24}  {manifest.topology}, {manifest.layout.size} parameters, detectors: {detectors}{default}",
        f"{'':24}  {manifest.licence}",
    ]


@models.command(short_help="Show what a model is, and under which terms.")
@click.argument("name")
@click.pass_obj
def show(models_folder: Path, /, name: str) -> None:
    """Show what a model is, where it comes from and under which terms.

    \b
    Example:  ddfa-batch models show builtin
    """
    from ddfa_batch.tasks.bundles.model_bundle import find_bundle

    for key, value in _description(find_bundle(name, models_folder)).items():
        click.echo(f"{key}: {value}")


def _description(bundle: Bundle) -> dict[str, str]:
    """What there is to know of a model, by name."""
    from ddfa_batch.tasks.bundles.loaded_model import load_morphable

    manifest, face = bundle.manifest, load_morphable(bundle)
    side = manifest.input_size
    detectors = {
        f"detector {name}{' (default)' if name == manifest.default_detector else ''}": _detector(spec)
        for name, spec in manifest.detectors.items()
    }
    return {
        "name": manifest.name,
        "folder": str(bundle.folder),
        "digest": bundle.digest,
        "licence": manifest.licence,
        "provenance": manifest.provenance,
        **({"card": str(bundle.card)} if bundle.card else {}),
        "parameters": f"{manifest.layout.size} = 12 pose + {manifest.n_shape} shape + "
        f"{manifest.n_expression} expression",
        "input": f"{side}×{side} BGR, (x − {manifest.input_mean:g}) / {manifest.input_std:g}",
        "face model": f"{manifest.topology}, {face.n_vertices:,} vertices, {len(face.triangles):,} triangles, "
        f"unit {face.unit}",
        **detectors,
    }


def _detector(spec: DetectorSpec) -> str:
    """What there is to know of a detector, in a line."""
    parts = [spec.kind, f"score above {spec.face_threshold:g}", f"pictures scaled to fit {spec.fit[1]}×{spec.fit[0]}"]
    if spec.detector_weight:
        parts.append(f"boxes above {spec.candidate_threshold:g} shown to the regressor")
    if spec.glance is not None:
        parts.append(f"a glance at {spec.glance.longest_side} pixels settles large faces")
    if len(spec.passes) > 1:
        parts.append(f"{len(spec.passes)} passes where no face scores above {spec.stop_score:g}")
    return ", ".join(parts)


@models.command(short_help="Check a model's files, and that its networks run.")
@click.argument("name")
@click.pass_obj
def verify(models_folder: Path, /, name: str) -> None:
    """Check every file of a model against its sha256, and that the networks run.

    \b
    Example:  ddfa-batch models verify 3ddfa-v2-mb05
    """
    from ddfa_batch.tasks.bundles.loaded_model import loaded_model
    from ddfa_batch.tasks.bundles.model_bundle import find_bundle

    bundle = find_bundle(name, models_folder)
    loaded = loaded_model(str(bundle.folder), bundle.digest)
    for spec in bundle.manifest.detectors.values():
        loaded.detector_session(spec)
    click.echo(f"{bundle.manifest.name}: {len(bundle.manifest.files)} files are what model.json says, and load.")


@models.command("add-detector")
@click.argument("name")
@click.argument("family", type=click.Choice(["yunet", "fcos"]))
@click.argument("onnx_file", metavar="FILE.onnx", type=PATH)
@click.option(
    "--as", "detector", metavar="NAME", default=None, help="What to call it in --detector.  [default: the family]"
)
@click.pass_obj
def add_detector(models_folder: Path, /, name: str, family: str, onnx_file: Path, detector: str | None) -> None:
    """Add an ONNX face detector to the model NAME.

    \b
    Example:  ddfa-batch models add-detector 3ddfa-v2-mb05 yunet yunet.onnx
              ddfa-batch process ./images out/ --detector yunet
    """
    from ddfa_batch.tasks.bundles import detector_families
    from ddfa_batch.tasks.bundles.model_bundle import find_bundle

    bundle = find_bundle(name, models_folder)
    if bundle.built_in:
        raise BundleError(
            f"The built-in model is part of the installation and stays as it is; copy {bundle.folder} to a folder of "
            "your own, and add the detector there."
        )
    bundle = detector_families.add_detector(bundle, detector or family, family, onnx_file)
    click.echo(f"{bundle.manifest.name} now has the detectors: {', '.join(bundle.manifest.detectors)}")
