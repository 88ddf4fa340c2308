"""The exit codes of the command line; 2, for misuse, is click's own."""

from __future__ import annotations

import signal

#: Something a user can act on went wrong: a sentence on stderr says what.
FAULT = 1
#: `--strict`, and an image ended as an error row.
STRICT = 3
#: `verify`, and what is finished is as it was written, but not all is finished.
INCOMPLETE = 4
#: Ended by a signal, as shells have it: 128 and the signal's number.
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
#: Whoever read the output went away, as `head` does.
BROKEN_PIPE = 128 + signal.SIGPIPE
