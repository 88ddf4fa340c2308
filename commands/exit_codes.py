"""The exit codes of the command line; 2, for misuse, is click's own."""

from __future__ import annotations

#: Something a user can act on went wrong: a sentence on stderr says what.
FAULT = 1
#: `--strict`, and an image ended as an error row.
STRICT = 3
#: Ctrl-C: 128 + SIGINT, as shells have it.
INTERRUPTED = 130
