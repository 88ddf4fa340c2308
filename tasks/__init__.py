"""Do: one step each. Steps never import each other, except the effect modules they name."""
