"""A thread beside the work of a process, which ends with a block."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Background(ABC):
    """A thread that begins and ends with a `with` block. A subclass says what it does until `stopped` is set.

    The thread is made when the block begins: Python 3.13 starts no thread that was made before the process was forked.
    """

    def __init__(self, name: str, stop_seconds_max: float) -> None:
        """Set the thread's name. The end of the block waits for it for at most `stop_seconds_max`."""
        self.stopped = threading.Event()
        self._name, self._stop_seconds_max = name, stop_seconds_max
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.stopped.clear()
        self._thread = threading.Thread(target=self.run, name=self._name, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        if self._thread is not None:
            self._thread.join(self._stop_seconds_max)

    @abstractmethod
    def run(self) -> None:
        """Work until `stopped` is set."""
