"""What the built-in models say of themselves in their bundles, and what they see."""

from __future__ import annotations

LICENCE = (
    "Code and generator: MIT. Face model: made of MakeHuman's base mesh and targets, which are CC0. Weights: trained "
    "on photographs of AFLW and YouTube Faces, which are for research use only; use them for research."
)
#: Of both: a set of weights.
VERSION = "4"
#: Side of the regressor's crops, pixels.
SIZE = 120


def provenance(width: float) -> str:
    """Where a model whose network has this width multiplier comes from."""
    return (
        f"Made by ddfa-batch (make builtin). Regressor: MobileNet x{width:g} trained for its mesh and its landmarks on "
        "AFLW crops and frames of YouTube Faces; labels: human landmarks together with the 68 points of 3DDFA_V2's "
        "mb05 and of an earlier net. Face model: blends of MakeHuman's base mesh and targets (CC0), no vertex of "
        "another; how strong its modes are is measured on those labels. Detector: trained from scratch. See CARD.md."
    )
