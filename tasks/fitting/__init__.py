"""Labelled landmarks to the parameters of the face model."""
