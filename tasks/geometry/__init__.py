"""Arrays to arrays: boxes, crops, poses, points, motion and visibility; no effects."""
