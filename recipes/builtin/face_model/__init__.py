"""The built-in morphable model: a neutral face designed by hand, ten designed expressions, measured identities.

No vertex of another model is used. The neutral face is a thin-plate spline from a chart (`chart`, the face unrolled
from a cylinder) through the table of points in `design`, with lips, lids and wings of the nose modelled on top
(`template`). Expressions are displacements designed in the chart (`expressions`). Identities are measured:
`identities` alternates fits to labelled landmarks with a principal component analysis of what the fits leave over,
and `Template.carry` spreads the motion of the 68 landmarks over the surface by another thin-plate spline. `build` puts
them together. Everything is built for the right half and mirrored, so that mean, topology and UV are symmetric exactly.
"""
