"""Where the public-domain portraits lie that come inside PyPI packages."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

#: Of each portrait the module that holds it, the file within, and the project to install.
PORTRAITS = {
    "astronaut": ("skimage", "data/astronaut.png", "scikit-image"),
    "grace_hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", "matplotlib"),
}


def portrait_path(name: str) -> Path:
    """The file of a portrait; raises `FileNotFoundError` that says what to install."""
    module, file, project = PORTRAITS[name]
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"pip install {project} first: it holds the portrait {name}.")
    return Path(spec.origin).parent / file
