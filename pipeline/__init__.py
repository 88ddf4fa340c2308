"""Compose: which work, in what order. Nothing here touches pixels or files by itself."""
