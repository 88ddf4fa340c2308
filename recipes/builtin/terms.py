"""What the built-in model is called, says of itself in its bundle, and sees."""

from __future__ import annotations

LICENCE = (
    "Code and generator: MIT. Face model: made of MakeHuman's base mesh and targets, which are CC0. Weights: trained "
    "on photographs of AFLW and YouTube Faces, which are for research use only; use them for research."
)
PROVENANCE = (
    "Made by ddfa-batch (make builtin). Regressor: MobileNet x0.5 trained with meta-joint optimisation, landmark "
    "regression and short-video-synthesis on AFLW crops, then polished for the landmarks; labels: human landmarks "
    "together with the 68 points of 3DDFA_V2's mb05. Face model: blends of MakeHuman's base mesh and targets (CC0), no "
    "vertex of another; how strong its modes are is measured on those labels. Detector: trained from scratch. "
    "See CARD.md."
)
#: Side of the regressor's crops, pixels.
SIZE = 120
