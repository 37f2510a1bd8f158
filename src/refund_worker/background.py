"""A thread beside the work of a process, which ends with a block."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Background(ABC):
    """A thread that begins and ends with a `with` block. A subclass says what it does until `stopped` is set."""

    def __init__(self, name: str, stop_seconds_max: float) -> None:
        """Make the thread. The end of the block waits for it for at most `stop_seconds_max`."""
        self.stopped = threading.Event()
        self._stop_seconds_max = stop_seconds_max
        self._thread = threading.Thread(target=self.run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        self._thread.join(self._stop_seconds_max)

    @abstractmethod
    def run(self) -> None:
        """Work until `stopped` is set."""
