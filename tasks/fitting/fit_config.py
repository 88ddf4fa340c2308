"""How a fit is done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FitConfig:
    """Options of a fit. Shares are of the face's size, √(w·h) of its landmarks' box."""

    #: Most Gauss–Newton steps.
    steps: int = 12
    #: Least standard deviation of the labels, which is estimated per face; a share.
    noise_floor: float = 2e-4
    #: Greatest standard deviation of the labels (the human labels of AFLW scatter by about 2 %); a share.
    noise_ceiling: float = 0.02
    #: Residual at which a point's weight is halved (Cauchy), in standard deviations.
    outlier: float = 4.0
    #: Share by which no point may still move in a fit that has converged.
    tolerance: float = 1e-3
    #: Mean residual above which a fit counts as not converged; a share.
    misfit: float = 0.1
    #: Fewer labelled points are refused; 4 determine a pose.
    min_points: int = 6
    #: Side of the crop that the parameters refer to, pixels.
    size: int = 120
    #: Whether the labels follow the 2-D markup, in which the far side of a turned head's jaw is labelled where the face
    #: ends in the picture, not where the jaw is: such points get no weight.
    outline: bool = False
