"""Progress of long work: a line every few seconds, on stderr, where it does not mix with the result."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

SECONDS = 10.0


def to_stderr(text: str) -> None:
    """Print a line on stderr at once."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """Reports lines at most every `SECONDS`, so that it can be called at every step."""

    def __init__(self, say: Callable[[str], object] = to_stderr) -> None:
        self._say = say
        self._reported_at = time.monotonic()

    def report(self, line: str) -> None:
        """Report the line, unless the last report is more recent than `SECONDS`."""
        now = time.monotonic()
        if now - self._reported_at >= SECONDS:
            self._reported_at = now
            self._say(line)
