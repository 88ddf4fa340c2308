"""One file per command: words → a typed request → one call → words."""
