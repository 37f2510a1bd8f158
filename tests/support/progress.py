"""How far long work is: a line every few seconds, on stderr, where it does not mix with the result."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

SECONDS = 10.0


def to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Progress:
    """`tell` may be called as often as wanted: a line is said when it is time for one."""

    def __init__(self, say: Callable[[str], object] = to_stderr) -> None:
        self._say = say
        self._told = time.monotonic()

    def tell(self, line: str) -> None:
        now = time.monotonic()
        if now - self._told >= SECONDS:
            self._told = now
            self._say(line)
