"""The command line: the group, its global options, and errors → a sentence and an exit code.

Every command is a module of `commands/`, imported when it is asked for, so that `--help` is quick.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click

from ddfa_batch.commands import exit_codes
from ddfa_batch.commands.model_choice import default_models_folder
from ddfa_batch.schemas.errors import DdfaError

#: Every command, in the order `--help` lists them; `synth-videos` is `synth_videos` of `commands/synth_videos.py`.
COMMANDS = ("process", "status", "synth-videos", "fit", "train", "evaluate", "labels", "models")


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(f"ddfa_batch.commands.{name}"), name)
        return command


def main() -> None:
    """Entry point of `ddfa-batch`: turn every fault the project knows into a sentence and an exit code."""
    try:
        cli.main(prog_name="ddfa-batch", standalone_mode=False)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except click.ClickException as misuse:
        misuse.show()
        sys.exit(misuse.exit_code)
    except DdfaError as fault:
        click.echo(f"Error: {fault}", err=True)
        sys.exit(exit_codes.FAULT)
    except (KeyboardInterrupt, click.Abort):
        click.echo("\nStopped. What is finished is kept: run the same command again to resume.", err=True)
        sys.exit(exit_codes.INTERRUPTED)
    except OSError as fault:
        named = f"{fault.filename}: " if fault.filename else ""
        click.echo(f"Error: {named}{fault.strerror or fault}.", err=True)
        sys.exit(exit_codes.FAULT)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="ddfa-batch")
@click.option(
    "--models-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="DDFA_BATCH_MODELS",
    help="Where imported models lie.  [env: DDFA_BATCH_MODELS; default: the user's data folder]",
)
@click.pass_context
def cli(context: click.Context, models_dir: Path | None) -> None:
    """Turn photographs into 3-D face parameters, landmarks and dense meshes, in bulk.

    A model comes with the package; others can be imported or trained, and named with --model.

    \b
    Try it:     ddfa-batch process ./images out/
    And look:   ddfa-batch status out/
    """
    context.obj = models_dir or default_models_folder()
