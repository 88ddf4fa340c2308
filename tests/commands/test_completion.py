"""Shells complete commands, options and values, as docs/running.md says."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from unittest import mock

import pytest
from click.shell_completion import get_completion_class
from command_line import COMMAND, environment

from ddfa_batch import cli

#: What each shell asks with: its protocol's name, and the variables it sets for words and the one that is begun.
ASKED = {
    "bash": lambda words: {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)},
    "zsh": lambda words: {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)},
    "fish": lambda words: {"COMP_WORDS": " ".join(words[:-1]), "COMP_CWORD": words[-1]},
}
SHELLS = list(ASKED)
#: A script in each shell's language that takes the completion up and shows what it answers to "ddfa-batch ren".
SCRIPTS = {
    "bash": 'eval "$(_DDFA_BATCH_COMPLETE=bash_source ddfa-batch)"\n'
    "COMP_WORDS=(ddfa-batch ren) COMP_CWORD=1; _ddfa_batch_completion ddfa-batch; echo ${COMPREPLY[@]}",
    "zsh": 'autoload -Uz compinit && compinit -D -u\neval "$(_DDFA_BATCH_COMPLETE=zsh_source ddfa-batch)"\n'
    "words=(ddfa-batch ren) CURRENT=2; _describe() { print -r -- ${(P)3} }; _ddfa_batch_completion",
    "fish": "_DDFA_BATCH_COMPLETE=fish_source ddfa-batch | source\ncomplete -C 'ddfa-batch ren'",
}


def answer(shell: str, *words: str) -> str:
    """What a shell is told where the last of these words is begun."""
    protocol = get_completion_class(shell)
    assert protocol is not None
    with mock.patch.dict(os.environ, ASKED[shell](["ddfa-batch", *words])):
        return protocol(cli.cli, {}, "ddfa-batch", "_DDFA_BATCH_COMPLETE").complete()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("synth",), "synth-videos"),
        (("process", "--retry"), "--retry-failed"),
        (("process", "--average", ""), "mirror"),
        (("models", "imp"), "import"),
    ],
    ids=["command", "option", "value", "command of a command"],
)
def test_what_is_begun_is_completed(shell: str, words: tuple[str, ...], expected: str) -> None:
    assert expected in answer(shell, *words)


@pytest.mark.parametrize("words", [("process", "im"), ("process", "images", "ou"), ("process", "--boxes", "b")])
def test_the_shell_is_asked_to_complete_files(words: tuple[str, ...]) -> None:
    assert answer("bash", *words).startswith("file,")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_itself_completes(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    path = f"{Path(COMMAND).parent}:{environment(None, None)['PATH']}"
    script = subprocess.run(
        [shell, "-c", SCRIPTS[shell]],
        env=environment(None, None, PATH=path, HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert script.stdout.replace(":", " ").split()[:1] == ["render"], script.stderr
