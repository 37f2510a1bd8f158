"""The book's file: append-only lines of JSON, one line for everything that happens together."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from refund_worker.processors.sandbox.answers import JsonObject

try:
    import fcntl
except ImportError:  # Windows: no lock, so nothing there stops two servers from sharing a book
    fcntl = None  # type: ignore[assignment,unused-ignore]


class BookError(Exception):
    """The book's file is in use by another process, or damaged elsewhere than in its last line."""


class Journal:
    """An append-only file of lines, each the JSON list of records that became true together.

    A last line without its end is what a killed writer leaves: nobody was told of it, so it is cut off.
    Raises BookError at opening if another process holds the file.
    """

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        self.fsync = fsync
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        if fcntl is not None:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as held:
                os.close(self._descriptor)
                raise BookError(f"another process keeps the book {path.name}") from held

    def replay(self) -> Iterator[list[JsonObject]]:
        """Every batch of records written so far, oldest first. Raises BookError for a damaged line."""
        whole = 0
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    records = json.loads(line)
                except ValueError as damaged:
                    raise BookError(f"line {number} of the book is damaged") from damaged
                whole += len(line)
                yield records
        os.ftruncate(self._descriptor, whole)

    def append(self, records: list[JsonObject]) -> None:
        """Write `records` as one line; returns when the operating system (with fsync: the disk) has it.

        Raises OSError with nothing of the line left behind.
        """
        line = json.dumps(records, separators=(",", ":")).encode() + b"\n"
        size = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, line)
            if written != len(line):
                raise OSError("the disk took only a part of the line")
            if self.fsync:
                os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise

    def close(self) -> None:
        """Close the file, which also lets go of its lock."""
        os.close(self._descriptor)
