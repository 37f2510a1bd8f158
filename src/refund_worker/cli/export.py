"""Export of refunds as a CSV file or as one JSON object."""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from refund_worker.api_schema import Refund
from refund_worker.engine.views.csv_rows import HEADER, rows_of
from refund_worker.errors import UnreadableFile

TO_STDOUT = Path("-")


def write(path: Path, refunds: Iterable[Refund]) -> int:
    """Write a header and a line for each refund and currency. Return the number of refunds. `-` is stdout.

    The file replaces an older one only when it is complete. Raises `UnreadableFile` if it cannot be created.
    """
    written = 0
    with _opened(path) as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(HEADER)
        for refund in refunds:
            lines.writerows(rows_of(refund))
            written += 1
    return written


def write_json(refunds: Iterable[Refund]) -> int:
    """Print all refunds in the JSON form of `refunds list`, and return their number.

    Each refund is printed as soon as it is read, so that memory does not grow with their number.
    """
    written = 0
    sys.stdout.write('{"data": [')
    for refund in refunds:
        sys.stdout.write((",\n" if written else "\n") + json.dumps(refund, ensure_ascii=False))
        written += 1
    sys.stdout.write('\n], "has_more": false}\n')
    return written


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    if path == TO_STDOUT:
        yield sys.stdout
        return
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UnreadableFile(f"{path}: {error.strerror}: nothing was written") from None
    unfinished = Path(name)
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123 - a handle, not a path
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise UnreadableFile(f"{path}: {error.strerror}: nothing was written") from None
    finally:
        unfinished.unlink(missing_ok=True)
