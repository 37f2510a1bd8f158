"""The book's file: append-only lines of JSON, one line for everything that happens together."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: no lock, so two servers can share a book there
    fcntl = None  # type: ignore[assignment,unused-ignore]


Record = dict[str, Any]


class BookError(Exception):
    """The book's file is in use by another process, or is damaged before its last line."""


class Journal:
    """An append-only file of lines. Each line is the JSON list of records that became true together.

    A killed writer can leave a last line without its end. No client ever saw its content, so the line is cut off.
    Opening raises `BookError` if another process holds the file.
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
                raise BookError(f"another process has the book {path.name} open") from held

    def replay(self) -> Iterator[list[Record]]:
        """Yield every batch of records in the file, oldest first. Raise `BookError` for a damaged line."""
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

    def append(self, records: list[Record]) -> None:
        """Write `records` as one line. Return once the operating system has it, or with fsync the disk.

        Raises `OSError`, and then leaves nothing of the line in the file.
        """
        line = json.dumps(records, separators=(",", ":")).encode() + b"\n"
        size = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, line)
            if written != len(line):
                raise OSError("the disk stored only a part of the line")
            if self.fsync:
                os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise

    def close(self) -> None:
        """Close the file, which also releases its lock."""
        os.close(self._descriptor)
