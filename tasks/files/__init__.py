"""Untrusted files in, whole files out: the only steps with effects on disk."""
